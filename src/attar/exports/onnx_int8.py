"""ONNX models in 8-bit integers (QDQ): our rounding on the runtime's grid, ranges by output error, float where it pays.

Weights: codes on a per-channel int8 grid whose reach has the least squared error, rounded with error feedback and
coordinate descent on the inputs' second moments (methods/fixed.py), with the mean error taken off the bias. Ranges: for
all activations the rule, and then for each tensor the one, that moves the model's outputs least. Nodes go back to float
where the drop asks for it, or where the runtime is faster so, as measured on the whole graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx

from attar.adapters.base import Adapter
from attar.adapters.onnx import OnnxAdapter
from attar.errors import ModelError
from attar.exports.base import Artefact, Task
from attar.exports.int8_ranges import Int8, Judge, with_ranges
from attar.exports.onnx_model import onnx_model
from attar.exports.onnx_runtime import Runtime
from attar.exports.qdq import ALL, CARRYING, CORE, Grid, kinds_of, lifted, prepared, weight_axes
from attar.exports.ranges import RULES
from attar.exports.timing import latencies
from attar.exports.watch import seen
from attar.methods.fixed import Fixed
from attar.types import Array, Dataset, Json, Layer, Stats, Weight

WATCHED = 512
"""Examples whose activations are counted."""
CHOICE = {"bits": 8, "part": 0, "rounding": "descent", "range": "mse", "alpha": 0.0}
SLOWER = 0.98
"""Of the float model's time, from which on int8 is no gain."""
NOISE = 0.05
EVALUATIONS = 8
"""Most full passes over the select split that are spent on giving nodes back to float."""


def rounded(adapter: OnnxAdapter, calibrate: Dataset) -> tuple[onnx.ModelProto, list[Grid]]:
    """The optimised float model with its weights on the int8 grid, and their grids; the adapter is not changed."""
    model = prepared(adapter.model())
    axes = weight_axes(model)
    inner = OnnxAdapter.open(model)
    layers = [layer for layer in inner.layers() if layer.tied_to is None and layer.name in axes]
    stats = inner.moments(calibrate.batches(256), [layer.name for layer in layers])
    grids = []
    for layer in layers:
        if layer.name in stats:
            weight, scales = on_grid(layer, inner.read(layer.name), stats[layer.name])
            inner.write(layer.name, weight)
            grids.append(Grid(layer.name, axes[layer.name][1], scales))
    return inner.model(), grids


def on_grid(layer: Layer, weight: Weight, stats: Stats) -> tuple[Weight, Array]:
    """The weight as codes times scales [rows], and the scales; see the module's docstring."""
    encoded = Fixed.encode(layer, weight, stats, CHOICE)
    units, _ = Fixed.units(encoded)
    return Fixed.decode(encoded), np.maximum(np.asarray(units[:, 0], np.float32), np.float32(1e-30))


def measured(adapter: OnnxAdapter, calibrate: Dataset) -> Int8:
    """Weights rounded and activations counted."""
    model, grids = rounded(adapter, calibrate)
    few = calibrate.take(range(min(len(calibrate), WATCHED)))
    found = seen(model, few)
    nodes = [node.name for node in model.graph.node if node.op_type in CORE]
    return Int8(model, grids, found, nodes)


def worst_first(work: Int8, judge: Judge, step: Callable[[], None] = lambda: None) -> list[str]:
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


class OnnxInt8:
    """See the module's docstring."""

    name: ClassVar[str] = "onnx-int8"
    suffix: ClassVar[str] = ".int8.onnx"
    help: ClassVar[str] = "8-bit weights and activations (QDQ), for onnxruntime and whatever reads QDQ models"

    @staticmethod
    def check(adapter: Adapter) -> None:
        """An ONNX model with weights that integers multiply; raises ModelError."""
        adapter = onnx_model(adapter, OnnxInt8.name)
        if not weight_axes(lifted(adapter.model())):
            raise ModelError(
                "onnx-int8: the model must have a Conv, Gemm or MatMul with stored weights. Received none. "
                "Export onnx-fp16 instead."
            )

    @staticmethod
    def make(task: Task) -> Artefact:
        """Integers wherever the drop allows it and the runtime is faster so."""
        adapter = onnx_model(task.adapter, OnnxInt8.name)
        work = measured(adapter, task.calibrate)
        judge = Judge(task.adapter.run, task.calibrate, classes=task.classes)
        kl = with_ranges(work, judge, task.step)
        harmful = within_drop(work, judge, task)
        chosen, ratio = fastest(work, harmful, task)
        work.ops = chosen.ops
        slow = [name for name in chosen.floats if name not in harmful]
        notes = []
        if harmful:
            notes.append(f"{len(harmful)} of {len(work.nodes)} nodes with weights stay in float, for the drop")
        if slow or chosen.ops != ALL:
            notes.append(f"in float, because the whole graph is faster so: {chosen.name}")
        if ratio >= SLOWER:
            notes.append(f"int8 takes {ratio:.2f} of float's time here: keep the float model")
        used = {rule: sum(one == rule for one in work.rules.values()) for rule in RULES}
        facts: dict[str, Json] = {
            "kl": kl, "ranges": {rule: count for rule, count in used.items() if count}, "float_nodes": harmful,
            "float_for_speed": slow, "integer_operators": list(chosen.ops), "latency_ratio": ratio,
        }  # fmt: skip
        return Artefact(work.build(chosen.floats), tuple(notes), facts)

    @staticmethod
    def runtime(model: bytes | Path, threads: int) -> Runtime:
        """onnxruntime on the CPU."""
        return Runtime(model, threads)


def within_drop(work: Int8, judge: Judge, task: Task) -> list[str]:
    """Nodes that have to stay in float for the drop on the select split: as few as can be, by their effect."""
    if task.acceptable(work.build()):
        return []
    order = worst_first(work, judge, task.step)
    found = fewest_floats(order, lambda some: task.acceptable(work.build(some)))
    return order if found is None else found


@dataclass(frozen=True)
class Choice:
    """What is left in float, in words; the operators in integers; the nodes in float."""

    name: str
    ops: tuple[str, ...]
    floats: tuple[str, ...]


def choices_of(work: Int8, harmful: Sequence[str]) -> list[Choice]:
    """What may be faster in float: operators with arithmetic of their own, all that is not weights, kinds of nodes."""
    kept = tuple(harmful)
    found = [
        Choice("nothing", ALL, kept),
        Choice("operators with arithmetic but without weights", CORE + CARRYING, kept),
        Choice("operators without weights", CORE, kept),
    ]
    for kind, names in kinds_of(work.model).items():
        extra = tuple(name for name in names if name not in kept)
        if extra and len(extra) < len(work.nodes):
            found.append(Choice(kind, ALL, kept + extra))
    return found


def fastest(work: Int8, harmful: Sequence[str], task: Task) -> tuple[Choice, float]:
    """The choice with the least latency of the whole graph, and its ratio to the float model's.

    Another than the first, which is what was judged, has to be faster beyond noise.
    """
    choices = choices_of(work, harmful)
    calls = {"float": Runtime(work.model.SerializeToString(), task.threads).once(task.batch)}
    for choice in choices:
        work.ops = choice.ops
        calls[choice.name] = Runtime(work.build(choice.floats), task.threads).once(task.batch)
    found = latencies(calls)
    task.step()
    ratios = [found[choice.name].ratio for choice in choices]
    best = int(np.argmin([ratios[0] * (1 - NOISE), *ratios[1:]]))
    return choices[best], ratios[best]
