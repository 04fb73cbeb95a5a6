"""A float ONNX model in two forms that are one: a .attar file of 8-bit codes, and the artefact that a runtime executes.

Both hold the same codes: method `fixed`, the grid that int8 artefacts are made on. The float model in the file is the
artefact's twin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import attar
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.archive import to_bytes
from attar.exports.base import Run, Task
from attar.exports.int8_floats import fastest
from attar.exports.int8_ranges import Int8, judge_of, judged
from attar.exports.int8_start import WATCHED, layers_of, on_grids
from attar.exports.onnx.int8 import enter, landed
from attar.exports.onnx.runtime import Runtime
from attar.exports.qdq import prepared, weight_axes
from attar.exports.ranges import RULES, range_of
from attar.exports.timing import latencies
from attar.exports.watch import Watched, seen
from attar.methods.keep import Keep
from attar.types import Dataset, Encoded, Layer, Stats, Weight

KEPT = {"dtype": "float32"}


@dataclass
class Coded:
    """A model's codes: the file, the float model that it holds, and the work of making integers of it."""

    archive: bytes
    twin: OnnxAdapter
    work: Int8
    nodes: Mapping[str, str]
    """The node of each weight that can be in integers."""


@dataclass(frozen=True)
class Integers:
    """How the model with all its channels became integers, as `attar export` finds it.

    rules, usual: those of ranges by tensor, and the one for others. route, ops, sums: exports/onnx/int8.py. harmful:
    nodes that the drop keeps in float. bold: fewer of them that were near; None where there is no such form.
    """

    rules: Mapping[str, str]
    usual: str
    route: str
    ops: tuple[str, ...]
    sums: bool
    harmful: tuple[str, ...]
    bold: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Fast:
    """What a runtime executes: bytes, whether they are integers, nodes in float, and the choice in words."""

    data: bytes
    integers: bool
    floats: tuple[str, ...]
    how: str


def coded(
    model: OnnxAdapter, calibrate: Dataset, coder: str = "auto", known: Mapping[str, Stats] | None = None
) -> Coded:
    """The codes of a model, which is not changed; raises ModelError where onnxruntime cannot prepare it.

    known: the moments of a model that is prepared already, where somebody has them.
    """
    ready = prepared(model.model())
    twin = OnnxAdapter.open(ready)
    wanted = [layer.name for layer in layers_of(twin)]
    stats = twin.moments(calibrate.batches(256), wanted) if known is None else known
    work, codes = on_grids(ready, stats)
    work.tables = {}  # the file holds them as they came
    pairs: list[tuple[Layer, Encoded]] = []
    for layer in twin.layers():
        if layer.tied_to is None:
            own = codes.get(layer.name)
            pairs.append((layer, _as_it_is(layer, twin.read(layer.name)) if own is None else own))
    twin = OnnxAdapter.open(work.model)
    meta = {"framework": twin.framework, "attar": attar.__version__}
    rest = {name: np.array(array) for name, array in twin.remainder().items()}
    archive = to_bytes(layers=pairs, remainder=rest, skeleton=twin.skeleton(), meta=meta, coder=coder)
    few, watched = calibrate.take(range(min(len(calibrate), WATCHED))), Watched(work.model)
    work.values = watched.size(few)
    work.found = seen(watched, few, work.values) if work.grids else {}
    axes = weight_axes(ready)
    return Coded(archive, twin, work, {name: axes[name][0] for name in axes})


def first_integers(whole: Coded, original: Run, task: Task) -> Integers:
    """How the model with all its channels becomes integers, by the very search of `attar export`."""
    work = whole.work
    judge = judge_of(original, task.calibrate, classes=task.classes, most=judged(work))
    found = landed(work, judge, task)
    used = list(work.rules.values())
    usual = max(RULES, key=used.count) if used else RULES[0]
    bold = None if found.bold is None else tuple(found.bold)
    return Integers(dict(work.rules), usual, found.route, work.ops, work.sums, tuple(found.harmful), bold)


def ranged(made: Coded, how: Integers) -> None:
    """The form of a smaller model, in place: the whole one's route, and ranges by the rule that each tensor had."""
    work = made.work
    enter(work, how.route)
    work.ops, work.sums = how.ops, how.sums
    for name, one in work.found.items():
        rule = how.rules.get(name, how.usual)
        work.ranges[name], work.rules[name] = range_of(one, rule), rule


def quickest(made: Coded, task: Task, harmful: Sequence[str], islands: Sequence[str]) -> Fast:
    """The fastest form: floats, or integers with what the drop, the plan or the whole graph's time keeps in float.

    islands: the nodes that the plan has in float; whether that is faster is measured.
    """
    work, own, ops = made.work, {*made.work.nodes, *made.work.kernels}, made.work.ops
    kept = [name for name in harmful if name in own]
    planned = kept + [name for name in islands if name in own and name not in kept]
    plain = made.twin.model().SerializeToString()
    tries = {"float": Fast(plain, False, tuple(made.work.nodes), "float")}
    for floats in [kept] if len(planned) == len(kept) else [kept, planned]:
        work.ops = ops
        chosen, _ = fastest(work, floats, task)
        work.ops = chosen.ops
        how = "integers" if chosen.name == "nothing" else f"integers, in float: {chosen.name}"
        if floats is planned:
            how += f", {len(planned) - len(kept)} nodes by plan"
        tries[how] = Fast(work.build(chosen.floats), True, chosen.floats, how)
    work.ops = ops
    times = latencies({how: Runtime(fast.data, task.threads).once(task.batch) for how, fast in tries.items()})
    return tries[min(tries, key=lambda how: times[how].ratio)]


def untouched(model: OnnxAdapter, coder: str = "auto") -> bytes:
    """The .attar file of a model whose every weight is stored as it is."""
    layers = [layer for layer in model.layers() if layer.tied_to is None]
    pairs = [(layer, _as_it_is(layer, model.read(layer.name))) for layer in layers]
    rest = {name: np.array(array) for name, array in model.remainder().items()}
    meta = {"framework": model.framework, "attar": attar.__version__}
    return to_bytes(layers=pairs, remainder=rest, skeleton=model.skeleton(), meta=meta, coder=coder)


def _as_it_is(layer: Layer, weight: Weight) -> Encoded:
    """A weight in floats; it asks for no statistics."""
    return Keep.encode(layer, weight, None, KEPT)  # type: ignore[arg-type]
