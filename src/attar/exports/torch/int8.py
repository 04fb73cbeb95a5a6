"""PyTorch programs in 8-bit integers (.pt2): our rounding on oneDNN's grid, ranges by output error, floats that pay.

Weights: codes on a per-channel int8 grid (int8_weights.py). Ranges: as int8_search.py chooses them. Units, which are
products with what follows them, go back to float where the drop asks for it, or where the program is faster so, as
measured on the whole of it. The float program that int8 is held against has its batch norms folded too.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, fx

from attar.adapters.base import Adapter
from attar.adapters.torch.model import TorchModel
from attar.adapters.torch.skeleton import quiet
from attar.errors import ModelError
from attar.exports.base import Artefact, Run, Task
from attar.exports.codes import on_grid
from attar.exports.int8_search import with_ranges, within_drop
from attar.exports.judging import Judge
from attar.exports.ranges import RULES, Range, Seen
from attar.exports.timing import latencies, least
from attar.exports.torch.lower import Lowering, root
from attar.exports.torch.runtime import Runtime
from attar.exports.torch.units import Unit, units_of
from attar.types import Array, Dataset, Json

WATCHED, STEP = 512, 64
"""Examples whose activations are counted, and how many at once."""
SLOWER = 0.98
"""Of the float program's time, from which on int8 is no gain."""
NOISE = 0.05
Program = torch.export.ExportedProgram


@dataclass
class Int8:
    """A program on its way into integers: in float on the int8 grid, its scales, and what activations were like."""

    program: Program
    scales: Mapping[str, Array]
    found: dict[str, Seen]
    nodes: list[str]
    ranges: dict[str, Range] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)

    def build(self, floats: Sequence[str] = ()) -> Program:
        """The lowered program, with these units in float."""
        return Lowering(
            self.program, known_units(self.program, self.scales, floats), self.scales, self.ranges
        ).program()


def known_units(program: Program, scales: Mapping[str, Array], floats: Sequence[str] = ()) -> list[Unit]:
    """The units whose weights are on the grid."""
    every = [unit.name for unit in units_of(program)]
    return units_of(program, {*floats, *(name for name in every if name.split(":")[0] not in scales)})


def measured(adapter: TorchModel, calibrate: Dataset) -> Int8:
    """Weights rounded and activations counted; the adapter is not changed. Raises ModelError."""
    inner = TorchModel.opened(adapter.model())
    few = calibrate.take(range(min(len(calibrate), WATCHED)))
    inner.run(next(few.batches(STEP)))
    program = functional(inner.program())
    wanted = {unit.name.split(":")[0] for unit in units_of(program)}
    layers = [layer for layer in inner.layers() if layer.tied_to is None and layer.name in wanted]
    stats = inner.moments(calibrate.batches(256), [layer.name for layer in layers])
    scales: dict[str, Array] = {}
    for layer in layers:
        if layer.name in stats and layer.kind in ("dense", "conv"):
            weight, scales[layer.name] = on_grid(layer, inner.read(layer.name), stats[layer.name])
            inner.write(layer.name, weight)
    units = known_units(program, scales)
    return Int8(program, scales, seen(program, units, few, inner), [unit.name for unit in units])


def functional(program: Program) -> Program:
    """The program, without operators in place on what is read elsewhere; raises ModelError where it keeps a state."""
    changing = [node for node in program.graph.nodes if node.op == "call_function" and _is_in_place(node)]
    if any(len(node.args[0].users) > 1 or node.args[0].op == "placeholder" for node in changing):
        program = program.run_decompositions({})
    odd = [spec.kind.name for spec in program.graph_signature.output_specs if spec.kind.name != "USER_OUTPUT"]
    if odd:
        raise ModelError(
            f"pt2-int8: the model must keep no state between calls. Received one that does ({odd[0]}). Export the "
            "part that does not."
        )
    return program


def _is_in_place(node: fx.Node) -> bool:
    """Whether an operator writes over its first argument."""
    schema = getattr(node.target, "_schema", None)
    return bool(schema is not None and schema.is_mutable and node.args and isinstance(node.args[0], fx.Node))


class _Watch(fx.Interpreter):
    """Runs a program and shows each value of some nodes."""

    def __init__(self, module: fx.GraphModule, wanted: set[str]) -> None:
        super().__init__(module)
        self.wanted, self.values = wanted, dict[str, Array]()

    def run_node(self, n: fx.Node) -> object:
        """One node."""
        value = super().run_node(n)
        if n.name in self.wanted and isinstance(value, Tensor):
            self.values[n.name] = value.detach().numpy().ravel().copy()
        return value


def seen(program: Program, units: Sequence[Unit], data: Dataset, adapter: TorchModel) -> dict[str, Seen]:
    """Histograms of what units read, add and give: a pass for the ends, a pass for the counts."""
    wanted = {root(node).name for unit in units for node in (unit.x, unit.out, *unit.nodes[:-1], unit.added) if node}
    watch = _Watch(program.graph_module, wanted)
    ends = dict.fromkeys(wanted, (np.inf, -np.inf))

    def values(batch: Mapping[str, Array]) -> Mapping[str, Array]:
        with torch.no_grad():
            watch.run(*lifted(program), *adapter.tensors_of(batch))
        return watch.values

    for batch in data.batches(STEP):
        for name, found in values(batch).items():
            low, high = ends[name]
            ends[name] = (min(low, float(found.min())), max(high, float(found.max())))
    counted = {name: Seen.between(*ends[name]) for name in wanted if np.isfinite(ends[name]).all()}
    for batch in data.batches(STEP):
        for name, found in values(batch).items():
            if name in counted:
                counted[name].add(found)
    return counted


def lifted(program: Program) -> list[Tensor]:
    """The stored tensors that a program's graph takes in front of the user's inputs."""
    held = {**program.constants, **program.state_dict}
    return [held[str(spec.target)] for spec in program.graph_signature.input_specs if spec.target is not None]


class TorchInt8:
    """See the module's docstring."""

    name: ClassVar[str] = "pt2-int8"
    suffix: ClassVar[str] = ".int8.pt2"
    help: ClassVar[str] = "8-bit weights and activations in an exported program, for PyTorch on the CPU"

    @staticmethod
    def check(adapter: Adapter) -> None:
        """A PyTorch model with convolutions or dense layers; raises ModelError."""
        kinds = {layer.kind for layer in torch_model(adapter).layers()}
        if not kinds & {"conv", "dense"}:
            raise ModelError(
                "pt2-int8: the model must have a convolution or a dense layer. Received one without. Keep it in float."
            )

    @staticmethod
    def make(task: Task) -> Artefact:
        """Integers wherever the drop allows it and the program is faster so."""
        adapter = on_cpu(torch_model(task.adapter), task.calibrate)
        work = measured(adapter, task.calibrate)
        if not work.nodes:
            raise ModelError(
                "pt2-int8: a layer must be one that oneDNN has in integers. Received none such. Keep it in float."
            )

        def opened(program: Program) -> Run:
            return lambda batch: _first(program, adapter.tensors_of(batch))

        judge = Judge(adapter.run, task.calibrate, opened, classes=task.classes)
        kl = with_ranges(work, judge, task.step)
        harmful = within_drop(work, work.nodes, judge, lambda program: task.acceptable(saved(program)), task.step)
        (how, floats), ratio = fastest(work, harmful, task)
        notes = []
        if harmful:
            notes.append(f"{len(harmful)} of {len(work.nodes)} layers stay in float, for the drop")
        if how != "nothing":
            notes.append(f"in float, because the whole program is faster so: {how}")
        if ratio >= SLOWER:
            notes.append(f"int8 takes {ratio:.2f} of float's time here: keep the float model")
        notes.append(
            "load it by torch.export.load(FILE).module(), and pack its weights once by "
            "torch._inductor.constant_folding.constant_fold(module)"
        )
        used = {rule: sum(one == rule for one in work.rules.values()) for rule in RULES}
        facts: dict[str, Json] = {
            "kl": kl, "ranges": {rule: count for rule, count in used.items() if count}, "float_layers": harmful,
            "in_float": how, "float_for_speed": [name for name in floats if name not in harmful],
            "latency_ratio": ratio,
        }  # fmt: skip
        return Artefact(saved(work.build(floats)), tuple(notes), facts)

    @staticmethod
    def runtime(model: bytes | Path, threads: int) -> Runtime:
        """torch on the CPU."""
        return Runtime(model, threads)


def torch_model(adapter: Adapter) -> TorchModel:
    """The adapter itself where it is of PyTorch; raises ModelError for other frameworks."""
    if isinstance(adapter, TorchModel) and adapter.framework == TorchModel.framework:
        return adapter
    raise ModelError(
        f"pt2-int8: it is made of a PyTorch module or program. Received a {adapter.framework} model. Export another "
        "format of it: `attar export --help` lists them."
    )


def on_cpu(adapter: TorchModel, data: Dataset) -> TorchModel:
    """The adapter itself where it runs on the CPU, else a copy that does; raises ModelError."""
    if adapter.device.type == "cpu":
        return adapter
    adapter.run(next(data.batches(STEP)))
    made = TorchModel.rebuilt(adapter.skeleton(), adapter.remainder())
    for layer in adapter.layers():
        if layer.tied_to is None:
            made.write(layer.name, adapter.read(layer.name))
    return made


def _first(program: Program, inputs: Sequence[Tensor]) -> Array:
    """The first output of a program that was not saved yet."""
    with torch.no_grad():
        return np.array(program.graph_module(*lifted(program), *inputs)[0].float().numpy())


def saved(program: Program) -> bytes:
    """The bytes of a .pt2 file, its graph deflated."""
    buffer, small = io.BytesIO(), io.BytesIO()
    with quiet():
        torch.export.save(program, buffer)
    with zipfile.ZipFile(buffer) as given, zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        for entry in given.infolist():
            made.writestr(zipfile.ZipInfo(entry.filename), given.read(entry), zipfile.ZIP_DEFLATED, 9)
    return small.getvalue()


def fastest(work: Int8, harmful: Sequence[str], task: Task) -> tuple[tuple[str, list[str]], float]:
    """What else is left in float, in words, and all that is, with the least latency; and its ratio to float.

    Another than the first, which is what was judged, has to be faster beyond noise.
    """
    choices = choices_of(work, harmful)
    if "float_for_speed" in task.like:
        known = set(work.nodes) - set(harmful)
        slow = [name for name in task.like["float_for_speed"] if name in known]
        choices = [(str(task.like.get("in_float", "nothing")), [*harmful, *slow])]
    calls = {how: Runtime(saved(work.build(floats)), task.threads).once(task.batch) for how, floats in choices}
    found = latencies(calls | {"float": Runtime(saved(work.build(work.nodes)), task.threads).once(task.batch)})
    task.step()
    best = choices[least(found, [how for how, _ in choices], NOISE)]
    return best, found[best[0]].ratio / found["float"].ratio


def choices_of(work: Int8, harmful: Sequence[str]) -> list[tuple[str, list[str]]]:
    """What may be faster in float: in words, and all units that are then."""
    found = [("nothing", [*harmful])]
    for kind, names in kinds_of(work).items():
        extra = [name for name in names if name not in harmful]
        if extra and len({*extra, *harmful}) < len(work.nodes):
            found.append((kind, [*harmful, *extra]))
    return found


def kinds_of(work: Int8) -> dict[str, list[str]]:
    """Names of units by what may make them slow in integers."""
    units = known_units(work.program, work.scales)
    found = {
        "the first layer": [units[0].name],
        "dense layers": [unit.name for unit in units if not unit.is_conv],
        "the last layer": [units[-1].name],
        "depthwise convolutions": [unit.name for unit in units if unit.is_conv and _depthwise(unit)],
    }
    return {kind: names for kind, names in found.items() if names}


def _depthwise(unit: Unit) -> bool:
    kernel = unit.core.args[1].meta["val"]  # type: ignore[union-attr]
    return bool(kernel.shape[1] == 1 and unit.x.meta["val"].shape[1] > 1)
