"""Ranges chosen by what they do to the model's outputs: a rule for all activations, then tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from attar.exports.onnx_runtime import Runtime
from attar.exports.qdq import ALL, Grid, quantised
from attar.exports.ranges import RULES, Range, Seen, range_of
from attar.search.divergence import Kind, divergence, kind_of
from attar.types import Array, Dataset

JUDGED = 256
"""Examples on which ranges are compared by the outputs."""
TRIALS = 48
"""Most tensors whose rule is tried by itself."""
DIFFERENT = 0.05
"""Least difference of two ranges, relative to the wider, for one to be tried beside the other."""


@dataclass
class Int8:
    """A model on its way into integers: the float graph on the int8 grid, its grids, and what activations were like."""

    model: onnx.ModelProto
    grids: list[Grid]
    found: dict[str, Seen]
    nodes: list[str]
    ranges: dict[str, Range] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)
    ops: tuple[str, ...] = ALL

    def build(self, floats: Sequence[str] = ()) -> bytes:
        """The artefact's bytes, with these nodes in float."""
        made = quantised(self.model, self.grids, self.ranges, self.ops, floats)
        data: bytes = made.SerializeToString()
        return data


class Judge:
    """How far the outputs of bytes are from the original's on a few examples, in nats."""

    def __init__(self, original: Callable[[Mapping[str, Array]], Array], data: Dataset, *, classes: bool) -> None:
        self._batches = list(data.take(range(min(len(data), JUDGED))).batches(64))
        self._wanted = np.concatenate([original(batch) for batch in self._batches])
        self._kind: Kind = kind_of(self._wanted, classes)

    def __call__(self, data: bytes) -> float:
        """The mean KL; infinity where outputs are not finite."""
        runtime = Runtime(data)
        got = np.concatenate([runtime.run(batch) for batch in self._batches])
        if not np.isfinite(got).all():
            return float("inf")
        return float(divergence(self._wanted, got, self._kind).mean())


def with_ranges(work: Int8, judge: Judge, step: Callable[[], None] = lambda: None) -> float:
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
