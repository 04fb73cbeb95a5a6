"""What a way of choosing examples offers; each is one file and one line of the registry.

The laws, each a test in tests/selection/test_selection_laws.py for every registered one: k distinct positions of the
set, the same for the same seed, and the pool is not modified.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from attar.types import Array

F32 = NDArray[np.float32]
Indices = NDArray[np.int64]


UNLABELLED = ("random", "k-center", "herding", "leverage", "moments", "undecided")
"""Choices that a run can make: its calibration examples carry no labels."""


@dataclass(frozen=True)
class CalibrationSettings:
    """How the calibration examples are chosen from their split, in a recipe; their number is `calibration_examples`.

    With "random" the split is drawn as large as that, with the others as large as it may be.
    """

    method: str = field(default="random", metadata={"help": "how they are chosen", "choices": UNLABELLED})


@dataclass(frozen=True, slots=True)
class Pool:
    """What is known of the n examples to choose from.

    features [n, d]: what each layer saw of an example, sketched, centred, of variance 1 in every layer together.
    moments [n, m]: an example's share of every layer's mean and second moment, sketched in coordinates in which the
    whole set's second moment is the identity; errors of their mean are relative errors.
    layers: column ranges of features that belong to one layer each. labels [n]: anything that can be sorted, or None.
    """

    size: int
    features: F32
    moments: F32
    layers: tuple[slice, ...] = ()
    labels: Array | None = None
    doubts: NDArray[np.float64] | None = None


class Choice(Protocol):
    """One way of choosing."""

    summary: ClassVar[str]
    """What it does, for a list of methods: begins with a small letter, no full stop."""
    needs: ClassVar[str]
    """What of the pool it looks at: "layers" (features and moments), "outputs" (doubts), "" (labels at most)."""

    @staticmethod
    def choose(pool: Pool, k: int, rng: np.random.Generator) -> Indices:
        """k distinct positions, 1 <= k <= n; raises UsageError where the pool lacks what it needs."""
        ...


def least_sum(values: F32, k: int, first: NDArray[np.float64], pull: float) -> Indices:
    """k rows of values [n, d] whose mean comes near the mean of all, greedily; ties go to the lower position.

    Step t takes the row that makes first_i + pull * values_i (sum taken - t mean) least: one product [n, d] a step.
    """
    mean = values.mean(0, dtype=np.float64)
    away = np.zeros(len(values))
    toward = values @ mean
    free, chosen = np.ones(len(values), bool), np.empty(k, np.int64)
    for step in range(k):
        cost = np.where(free, first + pull * (away - (step + 1) * toward), np.inf)
        chosen[step] = at = int(cost.argmin())
        free[at] = False
        away += values @ values[at]
    return chosen
