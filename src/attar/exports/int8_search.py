"""What 8-bit exports decide by a model's outputs, whatever the runtime: ranges of activations, nodes in float."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from attar.exports.base import Run
from attar.exports.ranges import RULES, Range, Seen, range_of
from attar.search.divergence import Kind, divergence, kind_of
from attar.types import Dataset

JUDGED = 256
"""Examples on which ranges are compared by the outputs."""
TRIALS = 48
"""Most tensors whose rule is tried by itself."""
DIFFERENT = 0.05
"""Least difference of two ranges, relative to the wider, for one to be tried beside the other."""
EVALUATIONS = 8
"""Most full passes over the select split that are spent on giving nodes back to float."""


class Work(Protocol):
    """A model on its way into integers; `build` takes the nodes left in float, and gives what a judge looks at."""

    nodes: list[str]
    found: dict[str, Seen]
    ranges: dict[str, Range]
    rules: dict[str, str]

    def build(self, floats: Sequence[str] = ()) -> Any:
        """The model in integers but for these nodes."""
        ...


class Judge:
    """How far the outputs of what `build` gave are from the original's on a few examples, in nats.

    opened makes a function of it that gives the first output of a batch.
    """

    def __init__(
        self, original: Run, data: Dataset, *, classes: bool, opened: Callable[[Any], Run],
    ) -> None:  # fmt: skip
        self._opened = opened
        self._batches = list(data.take(range(min(len(data), JUDGED))).batches(64))
        self._wanted = np.concatenate([original(batch) for batch in self._batches])
        self._kind: Kind = kind_of(self._wanted, classes)

    def __call__(self, built: Any) -> float:
        """The mean KL; infinity where outputs are not finite."""
        run = self._opened(built)
        got = np.concatenate([run(batch) for batch in self._batches])
        if not np.isfinite(got).all():
            return float("inf")
        return float(divergence(self._wanted, got, self._kind).mean())


def with_ranges(work: Work, judge: Judge, step: Callable[[], None] = lambda: None) -> float:
    """Choose the ranges in place: one rule for all tensors, then tensors that do better by another; gives the KL."""
    choices = {rule: {name: range_of(one, rule) for name, one in work.found.items()} for rule in RULES}
    best, kl = "", float("inf")
    for rule, ranges in choices.items():
        work.ranges = dict(ranges)
        moved = judge(work.build())
        step()
        if moved < kl:
            best, kl = rule, moved
    work.ranges, work.rules = dict(choices[best]), dict.fromkeys(choices[best], best)
    for name, rule in _tries(choices, best):
        kept = work.ranges[name]
        work.ranges[name] = choices[rule][name]
        moved = judge(work.build())
        step()
        if moved < kl:
            kl, work.rules[name] = moved, rule
        else:
            work.ranges[name] = kept
    return kl


def _tries(choices: Mapping[str, Mapping[str, Range]], best: str) -> list[tuple[str, str]]:
    """(tensor, rule) worth a trial: those whose range differs most from the best rule's."""
    differing: list[tuple[float, str, str]] = []
    for name, (low, high) in choices[best].items():
        for rule, ranges in choices.items():
            other = ranges[name]
            wide = max(high, other[1]) - min(low, other[0])
            apart = (abs(low - other[0]) + abs(high - other[1])) / max(wide, 1e-30)
            if apart > DIFFERENT:
                differing.append((-apart, name, rule))
    return [(name, rule) for _, name, rule in sorted(differing)[:TRIALS]]


def worst_first(work: Work, judge: Judge, step: Callable[[], None] = lambda: None) -> list[str]:
    """Nodes with weights by how much nearer the outputs are with each of them alone in float, the most first."""
    gains: dict[str, float] = {}
    for name in work.nodes:
        gains[name] = judge(work.build([name]))
        step()
    return sorted(gains, key=gains.__getitem__)


def fewest_floats(order: Sequence[str], passes: Callable[[Sequence[str]], bool]) -> list[str] | None:
    """The shortest beginning of an order of nodes that passes when in float; None where all of them do not.

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


def within_drop(
    work: Work, judge: Judge, acceptable: Callable[[Any], bool], step: Callable[[], None] = lambda: None
) -> list[str]:
    """Nodes that have to stay in float for the drop on the select split: as few as can be, by their effect."""
    if acceptable(work.build()):
        return []
    order = worst_first(work, judge, step)
    found = fewest_floats(order, lambda some: acceptable(work.build(some)))
    return order if found is None else found
