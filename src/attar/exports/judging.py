"""How far the outputs of an artefact are from the original's, and which ranges of activations are worth a look."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np

from attar.exports.base import Run
from attar.exports.ranges import RULES, Range, Seen, range_of
from attar.search.divergence import Kind, divergence, kind_of
from attar.types import Dataset

JUDGED = 256
"""Examples on which artefacts are judged by their outputs."""
TRIALS = 48
"""Most tensors whose rule is tried by itself."""
DIFFERENT = 0.05
"""Least difference of two ranges, relative to the wider, for one to be tried beside the other."""
K = TypeVar("K", bound=Hashable)


class Judge:
    """How far the outputs of what was built are from the original's on a few examples, in nats.

    opened makes a function of it that gives the first output of a batch.
    """

    def __init__(
        self, original: Run, data: Dataset, opened: Callable[[Any], Run], *, classes: bool, most: int = JUDGED
    ) -> None:
        self._opened = opened
        self._batches = list(data.take(range(min(len(data), most))).batches(64))
        self._wanted = np.concatenate([original(batch) for batch in self._batches])
        self._kind: Kind = kind_of(self._wanted, classes)

    def __call__(self, built: Any) -> float:
        """The mean divergence; infinity where outputs are not finite."""
        run = self._opened(built)
        got = np.concatenate([run(batch) for batch in self._batches])
        if not np.isfinite(got).all():
            return float("inf")
        return float(divergence(self._wanted, got, self._kind).mean())


def choices_of(found: Mapping[K, Seen]) -> dict[str, dict[K, Range]]:
    """The range of each activation by each rule."""
    return {rule: {name: range_of(one, rule) for name, one in found.items()} for rule in RULES}


def worth_trying(choices: Mapping[str, Mapping[K, Range]], best: Mapping[K, Range]) -> list[tuple[K, str]]:
    """(tensor, rule) worth a trial: those whose range differs most from the one that the tensor has."""
    differing: list[tuple[float, int, str, K]] = []
    for place, (name, (low, high)) in enumerate(best.items()):
        for rule, ranges in choices.items():
            other = ranges[name]
            wide = max(high, other[1]) - min(low, other[0])
            apart = (abs(low - other[0]) + abs(high - other[1])) / max(wide, 1e-30)
            if apart > DIFFERENT:
                differing.append((-apart, place, rule, name))
    return [(name, rule) for _, _, rule, name in sorted(differing, key=lambda one: one[:3])[:TRIALS]]
