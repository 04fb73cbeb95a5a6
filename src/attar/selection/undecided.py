"""Examples of which the model is not sure: an error in the weights moves these outputs, and hardly any others."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attar.adapters.base import Adapter
from attar.errors import UsageError
from attar.search.divergence import Kind, kind_of, probabilities
from attar.selection.base import Indices, Pool
from attar.types import Dataset

POWER = 0.5
"""Of an example's doubt: with 1 the few most doubtful would be nearly all of a small choice."""
FLOOR = 0.05
"""Doubt that every example has, of the mean."""
BATCH = 256


class Undecided:
    """Drawn in proportion to the square root of 1 - sum p^2.

    For logits z, KL = 1/2 dz^T (diag p - p p^T) dz to second order, whose trace is 1 - sum p^2: the Fisher information
    that the planner takes as the same for all examples (K-FAC's assumption: Martens and Grosse 2015, section 3.1).
    """

    summary: ClassVar[str] = "drawn the more often, the less sure the model is of them"
    needs: ClassVar[str] = "outputs"

    @staticmethod
    def choose(pool: Pool, k: int, rng: np.random.Generator) -> Indices:
        """See `attar.selection.base.Choice`: without replacement, by exponential keys (Efraimidis, Spirakis 2006)."""
        if pool.doubts is None:
            raise UsageError(
                "select: undecided examples are those of a model's class probabilities. Received none. Pass --for with "
                "a model that classifies, or another --method, e.g. k-center."
            )
        odds = np.power(pool.doubts + FLOOR * pool.doubts.mean() + 1e-9, POWER)
        keys = rng.standard_exponential(pool.size) / odds
        return np.asarray(np.argsort(keys, kind="stable")[:k], np.int64)


def doubts_of(adapter: Adapter, data: Dataset, step: Callable[[int], None]) -> NDArray[np.float64] | None:
    """1 - sum p^2 of each example's outputs [n], over positions the mean; None where outputs are plain numbers."""
    kind: Kind | None = None
    found = []
    for batch in data.batches(BATCH):
        outputs = adapter.run(batch)
        kind = kind or kind_of(outputs, True)
        if kind == "regression":
            return None
        p = probabilities(outputs, kind)
        found.append((1 - np.square(p).sum(-1)).reshape(len(outputs), -1).mean(1))
        step(len(outputs))
    # Rounded: the last digits depend on how examples were batched.
    return np.asarray(np.rint(np.concatenate(found) * 2**16) / 2**16)
