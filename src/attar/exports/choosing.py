"""What an int8 export decides by the outputs: ranges, and which operators stay in float, whatever the runtime."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from attar.exports.ranges import RULES, Range, Seen, range_of
from attar.search.divergence import Kind, divergence, kind_of
from attar.types import Array, Dataset

JUDGED = 256
"""Examples on which ranges are compared by the outputs."""
TRIALS = 48
"""Most tensors whose rule is tried by itself."""
DIFFERENT = 0.05
"""Least difference of two ranges, relative to the wider, for one to be tried beside the other."""
EVALUATIONS = 8
"""Most full passes over the select split that are spent on giving operators back to float."""
Run = Callable[[Mapping[str, Array]], Array]
K = TypeVar("K", bound=Hashable)


class Work(Protocol[K]):
    """A model on its way into integers."""

    @property
    def found(self) -> Mapping[K, Seen]:
        """What each activation was like."""
        ...

    @property
    def ranges(self) -> MutableMapping[K, Range]:
        """What the integers of each activation span."""
        ...

    @property
    def rules(self) -> MutableMapping[K, str]:
        """The rule that each range is by."""
        ...

    def build(self, floats: Sequence[K] = ()) -> bytes:
        """The artefact's bytes, with these operators in float."""
        ...


class Judge:
    """How far the outputs of bytes are from the original's on a few examples, in nats."""

    def __init__(self, original: Run, data: Dataset, opened: Callable[[bytes], Run], *, classes: bool) -> None:
        self._batches = list(data.take(range(min(len(data), JUDGED))).batches(64))
        self._wanted = np.concatenate([original(batch) for batch in self._batches])
        self._kind: Kind = kind_of(self._wanted, classes)
        self._opened = opened

    def __call__(self, data: bytes) -> float:
        """The mean divergence; infinity where outputs are not finite."""
        run = self._opened(data)
        got = np.concatenate([run(batch) for batch in self._batches])
        if not np.isfinite(got).all():
            return float("inf")
        return float(divergence(self._wanted, got, self._kind).mean())


def with_ranges(work: Work[K], judge: Judge, step: Callable[[], None] = lambda: None) -> float:
    """Choose the ranges in place: one rule for all tensors, then tensors that do better by another; gives the KL."""
    choices = {rule: {name: range_of(one, rule) for name, one in work.found.items()} for rule in RULES}
    best, least = "", float("inf")
    for rule, ranges in choices.items():
        work.ranges.update(ranges)
        moved = judge(work.build())
        step()
        if moved < least or not best:
            best, least = rule, moved
    work.ranges.update(choices[best])
    work.rules.update(dict.fromkeys(choices[best], best))
    for name, rule in _tries(choices, best):
        kept = work.ranges[name]
        work.ranges[name] = choices[rule][name]
        moved = judge(work.build())
        step()
        if moved < least:
            least, work.rules[name] = moved, rule
        else:
            work.ranges[name] = kept
    return least


def _tries(choices: Mapping[str, Mapping[K, Range]], best: str) -> list[tuple[K, str]]:
    """(tensor, rule) worth a trial: those whose range differs most from the best rule's."""
    differing: list[tuple[float, int, K, str]] = []
    for place, (name, (low, high)) in enumerate(choices[best].items()):
        for rule, ranges in choices.items():
            other = ranges[name]
            wide = max(high, other[1]) - min(low, other[0])
            apart = (abs(low - other[0]) + abs(high - other[1])) / max(wide, 1e-30)
            if apart > DIFFERENT:
                differing.append((-apart, place, name, rule))
    return [(name, rule) for _, _, name, rule in sorted(differing, key=lambda one: (*one[:2], one[3]))[:TRIALS]]


def worst_first(
    work: Work[K], operators: Sequence[K], judge: Judge, step: Callable[[], None] = lambda: None
) -> list[K]:
    """Operators by how much nearer the outputs are with each of them alone in float, the most first."""
    gains: dict[K, float] = {}
    for one in operators:
        gains[one] = judge(work.build([one]))
        step()
    return sorted(gains, key=gains.__getitem__)


def fewest_floats(order: Sequence[K], passes: Callable[[Sequence[K]], bool]) -> list[K] | None:
    """The shortest beginning of an order of operators that passes when in float; None where all of them do not.

    Doubled and then halved: at most EVALUATIONS tests. `passes` is for a beginning.
    """
    low, high, spent = 0, 1, 0
    while not passes(order[:high]):
        spent += 1
        if high >= len(order) or spent >= EVALUATIONS - 1:
            return None
        low, high = high, min(2 * high, len(order))
    while high - low > 1 and spent < EVALUATIONS - 1:
        middle = (low + high) // 2
        spent += 1
        low, high = (low, middle) if passes(order[:middle]) else (middle, high)
    return list(order[:high])
