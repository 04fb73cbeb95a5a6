"""A model on its way into 8-bit integers, and activation ranges chosen by what they do to its outputs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from attar.exports.base import Run
from attar.exports.codes import Packed
from attar.exports.judging import JUDGED, Judge, choices_of, worth_trying
from attar.exports.onnx.runtime import Runtime
from attar.exports.onnx.unfused import unfused
from attar.exports.products import BLOCKS, with_products
from attar.exports.qdq import ALL, Grid, quantised, slim
from attar.exports.ranges import RULES, Range, Seen
from attar.exports.recurrent import with_lstm
from attar.exports.rescaled import Rescaled
from attar.exports.sums import SUM, with_float_sums
from attar.exports.tables import with_tables
from attar.exports.watch import share_of
from attar.types import Array, Dataset

LEAST, WORK = 16, 1 << 29
"""Examples on which ranges are compared by the outputs, at least, and values of activations in them."""


@dataclass
class Int8:
    """A model on its way into integers: the float graph on the int8 grid, its grids, and what activations were like.

    products, tables, scales: integers of dense weights, of tables, and the scales of LSTM weights. kernels: DYNAMIC by
    the names of dense and LSTM nodes whose activations become integers as they come, without ranges.
    """

    model: onnx.ModelProto
    grids: list[Grid]
    found: dict[str, Seen]
    nodes: list[str]
    ranges: dict[str, Range] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)
    ops: tuple[str, ...] = ALL
    products: dict[str, Packed] = field(default_factory=dict)
    tables: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    scales: dict[str, Array] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)
    plain: dict[str, onnx.TensorProto] = field(default_factory=dict)
    """What was stored before weights were rounded, where that is another: float nodes get it back."""
    sums: bool = False
    """Whether sums of two activations are in float (sums.py)."""
    values: int = 1
    """Values of all activations of one example: what running it costs, about."""
    _last: tuple[Any, onnx.ModelProto] | None = field(default=None, repr=False)

    @property
    def operators(self) -> list[str]:
        """Nodes that multiply by integers."""
        return list(dict.fromkeys([*self.nodes, *self.kernels] if self.ops else self.kernels))

    def build(self, floats: Sequence[str] = ()) -> bytes:
        """The artefact's bytes, with these nodes in float; of the dense ones among the kernels, with finer activations.

        Those get MatMulNBits, with the codes in the file; weights of other nodes in float are as they came.
        """
        out = copy.deepcopy(self._quantised({*floats, *self.kernels}) if self.ops else self.model)
        given_back = set(floats)
        if self.sums and SUM in self.ops:
            with_float_sums(out, self.model)
        with_products(out, self.products, {n: BLOCKS if n in given_back else k for n, k in self.kernels.items()})
        with_lstm(out, self.scales, [name for name in self.kernels if name not in given_back])
        with_tables(out, self.tables)
        self._unround(out, self._integers(given_back))
        data: bytes = slim(unfused(out)).SerializeToString()
        return data

    def _integers(self, given_back: set[str]) -> set[str]:
        """Names of nodes whose weights are integers in the file."""
        static = set(self.nodes) - given_back - set(self.kernels) if self.ops else set()
        # A dense node that is given back has its integers all the same, with finer activations; an LSTM has not.
        return static | {name for name in self.kernels if name in self.nodes or name not in given_back}

    def _unround(self, out: onnx.ModelProto, integers: set[str]) -> None:
        """Give weights back, in place, that no node in integers reads: rounding them would serve nobody."""
        if not self.plain:
            return
        readers: dict[str, set[str]] = {}
        makers = {name: node.name for node in self.model.graph.node for name in node.output}
        for node in self.model.graph.node:
            for name in node.input:
                # A bias may be added by a node of its own: it belongs to the product before it.
                before = {makers[one] for one in node.input if one in makers} if node.op_type == "Add" else set()
                readers.setdefault(name, set()).update({node.name} | before)
        for tensor in out.graph.initializer:
            if tensor.name in self.plain and not readers.get(tensor.name, set()) & integers:
                tensor.CopyFrom(self.plain[tensor.name])

    def _quantised(self, floats: set[str]) -> onnx.ModelProto:
        """The static part; the last one is kept, because the runtime's quantiser takes seconds."""
        ops = tuple(op for op in self.ops if op != SUM or not self.sums)
        key = (ops, tuple(sorted(floats)), tuple(sorted(self.ranges.items())))
        if self._last is None or self._last[0] != key:
            self._last = key, quantised(self.model, self.grids, self.ranges, ops, sorted(floats))
        return self._last[1]


def judge_of(original: Run, data: Dataset, *, classes: bool, most: int = JUDGED) -> Judge:
    """A judge of bytes, in onnxruntime."""
    return Judge(original, data, lambda made: Runtime(made).run, classes=classes, most=most)


def judged(work: Int8) -> int:
    """How many examples ranges are judged on."""
    return min(share_of(WORK, work.values, LEAST), JUDGED)


def best_rule(work: Int8, judge: Judge, step: Callable[[], None] = lambda: None) -> float:
    """Give all activations, in place, the rule that moves the outputs least; gives the KL."""
    best, kl = "", float("inf")
    choices = choices_of(work.found)
    work.ranges = dict(choices[RULES[0]])
    built = Rescaled(work.build())
    for rule, ranges in choices.items():
        for name, given in ranges.items():
            if name in built:
                built.put(name, given)
        moved = judge(built.data())
        step()
        if moved < kl or not best:
            best, kl = rule, moved
    work.ranges, work.rules = dict(choices[best]), dict.fromkeys(work.found, best)
    return kl


def refined(work: Int8, judge: Judge, kl: float, step: Callable[[], None] = lambda: None) -> float:
    """Give tensors, in place, another rule where that moves the outputs less than `kl`; gives the KL by then."""
    choices = choices_of(work.found)
    first, rules, ranges = kl, dict(work.rules), dict(work.ranges)
    built = Rescaled(work.build())
    for name, rule in worth_trying(choices, {name: work.ranges[name] for name in work.ranges if name in built}):
        built.put(name, choices[rule][name])
        moved = judge(built.data())
        step()
        if moved < kl:
            kl, work.rules[name], work.ranges[name] = moved, rule, choices[rule][name]
        else:
            built.put(name, work.ranges[name])
    # What is built anew rounds some biases to their neighbours.
    kl = judge(work.build())
    if kl > first:
        kl, work.rules, work.ranges = first, rules, ranges
    return kl


def with_ranges(work: Int8, judge: Judge, step: Callable[[], None] = lambda: None) -> float:
    """Choose the ranges in place: one rule for all tensors, then tensors that do better by another; gives the KL."""
    return refined(work, judge, best_rule(work, judge, step), step)
