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
from attar.exports.base import Task
from attar.exports.codes import CHOICE
from attar.exports.int8_floats import fastest
from attar.exports.int8_ranges import Int8, with_ranges
from attar.exports.int8_search import within_drop
from attar.exports.int8_start import WATCHED
from attar.exports.judging import Judge
from attar.exports.onnx.runtime import Runtime
from attar.exports.qdq import CORE, Grid, prepared, weight_axes
from attar.exports.ranges import RULES, range_of
from attar.exports.timing import latencies
from attar.exports.watch import Watched, seen
from attar.methods.fixed import Fixed
from attar.methods.keep import Keep
from attar.types import Array, Dataset, Encoded, Stats

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
    """How the model with all its channels became integers: rules for ranges, nodes that the drop keeps in float."""

    rules: Mapping[str, str]
    usual: str
    harmful: tuple[str, ...]


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
    axes = weight_axes(ready)
    twin = OnnxAdapter.open(ready)
    layers = [layer for layer in twin.layers() if layer.tied_to is None]
    wanted = [layer.name for layer in layers if layer.name in axes]
    stats = twin.moments(calibrate.batches(256), wanted) if known is None else known
    pairs, grids = [], []
    for layer in layers:
        weight, own = twin.read(layer.name), stats.get(layer.name) if layer.name in axes else None
        if own is None:
            encoded: Encoded = Keep.encode(layer, weight, own, KEPT)  # type: ignore[arg-type]  # it asks for none
        else:
            encoded = Fixed.encode(layer, weight, own, CHOICE)
            units, _ = Fixed.units(encoded)
            scales: Array = np.maximum(np.asarray(units[:, 0], np.float32), np.float32(1e-30))
            grids.append(Grid(layer.name, axes[layer.name][1], scales))
            twin.write(layer.name, Fixed.decode(encoded))
        pairs.append((layer, encoded))
    meta = {"framework": twin.framework, "attar": attar.__version__}
    rest = {name: np.array(array) for name, array in twin.remainder().items()}
    archive = to_bytes(layers=pairs, remainder=rest, skeleton=twin.skeleton(), meta=meta, coder=coder)
    rounded = twin.model()
    few, watched = calibrate.take(range(min(len(calibrate), WATCHED))), Watched(rounded)
    found = seen(watched, few, watched.size(few))
    nodes = [node.name for node in rounded.graph.node if node.op_type in CORE]
    return Coded(archive, twin, Int8(rounded, grids, found, nodes), {name: node for name, (node, _) in axes.items()})


def first_integers(whole: Coded, judge: Judge, task: Task) -> Integers:
    """Ranges and harmful nodes of the model with all its channels, as `attar export` finds them."""
    with_ranges(whole.work, judge, task.step)
    harmful = within_drop(whole.work, whole.work.operators, judge, task.acceptable, task.step)
    used = list(whole.work.rules.values())
    usual = max(RULES, key=used.count) if used else RULES[0]
    return Integers(dict(whole.work.rules), usual, tuple(harmful))


def ranged(made: Coded, how: Integers) -> None:
    """The ranges of a smaller model, in place: by the rule that its tensor had in the whole one."""
    for name, one in made.work.found.items():
        rule = how.rules.get(name, how.usual)
        made.work.ranges[name], made.work.rules[name] = range_of(one, rule), rule


def quickest(made: Coded, task: Task, harmful: Sequence[str], islands: Sequence[str]) -> Fast:
    """The fastest form: floats, or integers with what the drop, the plan or the whole graph's time keeps in float.

    islands: the nodes that the plan has in float; whether that is faster is measured.
    """
    work, own = made.work, set(made.work.nodes)
    kept = [name for name in harmful if name in own]
    planned = kept + [name for name in islands if name in own and name not in kept]
    plain = made.twin.model().SerializeToString()
    tries = {"float": Fast(plain, False, tuple(made.work.nodes), "float")}
    for floats in [kept] if len(planned) == len(kept) else [kept, planned]:
        chosen, _ = fastest(work, floats, task)
        work.ops = chosen.ops
        how = "integers" if chosen.name == "nothing" else f"integers, in float: {chosen.name}"
        if floats is planned:
            how += f", {len(planned) - len(kept)} nodes by plan"
        tries[how] = Fast(work.build(chosen.floats), True, chosen.floats, how)
    times = latencies({how: Runtime(fast.data, task.threads).once(task.batch) for how, fast in tries.items()})
    return tries[min(tries, key=lambda how: times[how].ratio)]


def untouched(model: OnnxAdapter, coder: str = "auto") -> bytes:
    """The .attar file of a model whose every weight is stored as it is."""
    layers = [layer for layer in model.layers() if layer.tied_to is None]
    pairs = [(layer, Keep.encode(layer, model.read(layer.name), None, KEPT)) for layer in layers]  # type: ignore[arg-type]
    rest = {name: np.array(array) for name, array in model.remainder().items()}
    meta = {"framework": model.framework, "attar": attar.__version__}
    return to_bytes(layers=pairs, remainder=rest, skeleton=model.skeleton(), meta=meta, coder=coder)
