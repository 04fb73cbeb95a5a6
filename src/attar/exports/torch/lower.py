"""An exported PyTorch program in 8-bit integers: oneDNN's operators on plain tensors, which torch itself has.

Weights are int8 buffers with a scale for each output channel, activations uint8 with a scale and a zero point. Packing
a weight for the processor is a node of the program, so that the file holds plain integers; who runs the program folds
these nodes once (runtime.py). Where an operator has no integers, values are made numbers with a point by one
addition, and integers again by three operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.export.graph_signature import InputKind, InputSpec, OutputSpec, TensorArgument

from attar.exports.ranges import LEVELS, Range
from attar.exports.torch.units import (
    ATEN,
    DROPS,
    POOL,
    SHAPES,
    Unit,
    scale_and_shift,
    stored_names,
    weight_name,
)
from attar.types import Array

ONEDNN, QUANTIZED = torch.ops.onednn, torch.ops.quantized
CODE = torch.uint8


def carried(node: fx.Node) -> bool:
    """Whether codes go through a node unchanged but for their places, or as the largest of several."""
    if node.op != "call_function" or node.target not in (*DROPS, *SHAPES, POOL):
        return False
    value = node.args[0].meta.get("val") if isinstance(node.args[0], fx.Node) else None
    return isinstance(value, Tensor) and value.dtype == torch.float32 and (node.target != POOL or value.ndim == 4)


def root(node: fx.Node) -> fx.Node:
    """The node whose range a carried value has."""
    while carried(node):
        node = node.args[0]  # type: ignore[assignment]
    return node


def step_of(ends: Range) -> tuple[float, int]:
    """The scale and the zero point of a range."""
    low, high = ends
    scale = max(high - low, 1e-30) / (LEVELS - 1)
    return scale, round(-low / scale)


class Lowering:
    """One program on its way; `program` gives the result."""

    def __init__(
        self, source: torch.export.ExportedProgram, units: Sequence[Unit], scales: Mapping[str, Array],
        ranges: Mapping[str, Range],
    ) -> None:  # fmt: skip
        self.source, self.scales, self.ranges = source, scales, ranges
        self.names = stored_names(source)
        self.units = {unit.out: unit for unit in units}
        self.inside = {node for unit in units for node in unit.nodes}
        self.graph = fx.Graph()
        self.floats: dict[fx.Node, fx.Node] = {}
        self.codes: dict[fx.Node, fx.Node] = {}
        self.state: dict[str, Tensor] = {}
        self.stored: dict[str, fx.Node] = {}
        self.specs: dict[str, InputSpec] = {}
        self._wanted = self._readers()
        values: list[Any] = [node.meta.get("val") for node in source.graph.nodes]
        self.fake = next(value.fake_mode for value in values if hasattr(value, "fake_mode"))

    def _readers(self) -> set[fx.Node]:
        """Nodes whose codes are read."""
        wanted: set[fx.Node] = set()
        for unit in self.units.values():
            wanted |= {unit.x} if unit.added is None else {unit.x, unit.added, unit.out}
        for node in reversed(self.source.graph.nodes):
            if node in wanted and carried(node):
                wanted.add(node.args[0])
        return wanted

    def program(self) -> torch.export.ExportedProgram:
        """The lowered program; the source is not changed, and float tensors are shared with it."""
        given = [node for node in self.source.graph.nodes if node.op == "placeholder" and node not in self.names]
        old_specs = {spec.arg.name: spec for spec in self.source.graph_signature.input_specs}
        for node in given:
            self.floats[node] = self._placeholder(node.name, node.meta["val"])
            self.specs[node.name] = old_specs[node.name]
        self.first = next(iter(self.floats.values()))
        outputs: list[Any] = []
        for node in self.source.graph.nodes:
            if node.op == "output":
                outputs = [self._float(value) if isinstance(value, fx.Node) else value for value in node.args[0]]
                self.graph.output(tuple(outputs))
            elif node in self.units:
                self._unit(self.units[node])
            elif node.op != "placeholder" and node not in self.inside:
                self._other(node)
        return self._finished(outputs)

    def _finished(self, outputs: Sequence[Any]) -> torch.export.ExportedProgram:
        signature = self.source.graph_signature
        inputs = [self.specs[node.name] for node in self.graph.nodes if node.op == "placeholder"]
        given = [
            OutputSpec(spec.kind, TensorArgument(node.name) if isinstance(node, fx.Node) else spec.arg, spec.target)
            for spec, node in zip(signature.output_specs, outputs, strict=True)
        ]  # fmt: skip
        made = type(signature)(inputs, given)
        module = fx.GraphModule(self.source.graph_module, self.graph)
        module.meta = {}
        return torch.export.ExportedProgram(
            module, self.graph, made, self.state, self.source.range_constraints,
            self.source.module_call_graph[:1], None, self.source.constants,
            verifiers=self.source.verifiers,
        )  # fmt: skip

    # Values

    def _emit(self, target: Any, *args: Any, value: Any = None) -> fx.Node:
        """A new node; its value is found by running it on fakes where it is not given."""
        node = self.graph.call_function(target, args)
        if value is None:
            with self.fake:
                value = target(*fx.node.map_arg(args, lambda n: n.meta["val"]))
        node.meta["val"] = value
        return node

    def _placeholder(self, name: str, value: Any) -> fx.Node:
        node = self.graph.placeholder(name)
        node.name = node.target = name  # as torch.export has it: the graph would evade names of Python's own
        node.meta["val"] = value
        return node

    def _tensor(self, name: str, value: Tensor, kind: InputKind = InputKind.BUFFER) -> fx.Node:
        """The placeholder of a stored tensor, made at its first use."""
        if name not in self.stored:
            with self.graph.inserting_before(self.first):
                node = self._placeholder(f"{kind.name[0].lower()}_{name.replace('.', '_')}", self._static(value))
            persistent = True if kind is InputKind.BUFFER else None
            self.specs[node.name] = InputSpec(kind, TensorArgument(name=node.name), name, persistent)
            self.state[name] = value
            self.stored[name] = node
        return self.stored[name]

    def _static(self, value: Tensor) -> Tensor:
        fake: Tensor = self.fake.from_tensor(value, static_shapes=True)
        return fake

    def _number(self, value: float) -> fx.Node:
        """A stored number; a sum with it takes one operator."""
        tensor = torch.tensor(value, dtype=torch.float32)
        return self._tensor(f"number_{tensor.numpy().tobytes().hex()}", tensor)

    def _kept(self, node: fx.Node) -> fx.Node:
        """A parameter or buffer of the source."""
        name = self.names[node]
        kind = (
            InputKind.PARAMETER if node.name in self.source.graph_signature.inputs_to_parameters else InputKind.BUFFER
        )
        return self._tensor(name, self.source.state_dict[name], kind)

    def _float(self, node: fx.Node) -> fx.Node:
        """A node's value with a point."""
        if node in self.names:
            return self._kept(node)
        if node not in self.floats:
            scale, zero = step_of(self.ranges[root(node).name])
            args = (self._number(-zero * scale), self.codes[node])
            made = self.graph.call_function(ATEN.add.Tensor, args, {"alpha": scale})
            made.meta["val"] = node.meta["val"]
            self.floats[node] = made
        return self.floats[node]

    def _code(self, node: fx.Node) -> tuple[fx.Node, float, int]:
        """A node's codes, their scale and zero point."""
        scale, zero = step_of(self.ranges[root(node).name])
        if node not in self.codes:
            value = node.meta["val"]
            args = (self._number(zero + 0.5), self._float(node))
            moved = self.graph.call_function(ATEN.add.Tensor, args, {"alpha": 1 / scale})
            moved.meta["val"] = value
            kept = self._emit(ATEN.clamp.default, moved, 0, LEVELS - 1, value=value)
            with self.fake:
                self.codes[node] = self._emit(ATEN.to.dtype, kept, CODE, value=value.to(CODE))
        return self.codes[node], scale, zero

    # Operators

    def _other(self, node: fx.Node) -> None:
        """A node that is no unit's: on codes where it carries them and they are read or there already."""
        if node.target in DROPS and node.op == "call_function":
            source = node.args[0]
            for held in (self.floats, self.codes):
                if source in held:
                    held[node] = held[source]  # type: ignore[index]
            if node not in self.floats and node not in self.codes:
                self.floats[node] = self._float(source)  # type: ignore[arg-type]
        elif carried(node) and (node.args[0] in self.codes or node in self._wanted):
            self.codes[node] = self._on_codes(node)
        else:
            self.floats[node] = self._copy(node)

    def _on_codes(self, node: fx.Node) -> fx.Node:
        codes, _, _ = self._code(node.args[0])  # type: ignore[arg-type]
        with self.fake:
            value = node.meta["val"].to(CODE)
        rest = fx.node.map_arg(node.args[1:], self._float)
        if node.target == POOL:
            given: tuple[Any, ...] = node.args[1:]
            kernel, stride, padding, dilation, ceil = given + ([], 0, 1, False)[len(given) - 1 :]
            pair = [_pair(one, 2) for one in (kernel, stride or kernel, padding, dilation)]
            return self._emit(QUANTIZED.max_pool2d.default, codes, *pair, bool(ceil), value=value)
        return self._emit(_reshaping(node.target), codes, *rest, value=value)

    def _copy(self, node: fx.Node) -> fx.Node:
        """The same operator on values with a point."""
        if node.op != "call_function":
            return self.graph.node_copy(node)
        args = fx.node.map_arg(node.args, self._float)
        if node.target == ATEN.sym_size.int and node.args[0] in self.codes:
            args = (self.codes[node.args[0]], *node.args[1:])  # type: ignore[index]
        made = self.graph.call_function(_reshaping(node.target), args, fx.node.map_arg(node.kwargs, self._float))
        made.meta["val"] = node.meta.get("val")
        return made

    def _unit(self, unit: Unit) -> None:
        """One integer kernel."""
        x, scale, zero = self._code(unit.x)
        wide = unit.out in self._wanted
        out = step_of(self.ranges[root(unit.out).name]) if wide else (1.0, 0)
        common = self._weight(unit, scale, zero)
        head = (x, scale, zero, *common)
        kind = CODE if wide else torch.float32
        bounds = [*unit.bounds]
        bias = self._bias(unit)
        args: tuple[Any, ...]
        if not unit.is_conv:
            args = (*head, bias, *out, kind, unit.activation, bounds, "")
            made = self._emit(ONEDNN.qlinear_pointwise.default, *args, value=self._valued(unit, kind))
        elif unit.added is None:
            args = (*head, bias, *_geometry(unit), *out, kind, unit.activation, bounds, "")
            made = self._emit(ONEDNN.qconv_pointwise.default, *args, value=self._valued(unit, kind))
        else:
            other, *added = self._code(unit.added)
            args = (*head, other, bias, *_geometry(unit), *out, kind, *added, "sum", 1.0, unit.activation, bounds, "")
            made = self._emit(ONEDNN.qconv2d_pointwise.binary, *args, value=self._valued(unit, kind))
        (self.codes if wide else self.floats)[unit.out] = made

    def _valued(self, unit: Unit, kind: torch.dtype) -> Tensor:
        with self.fake:
            value: Tensor = unit.out.meta["val"].to(kind)
        return value

    def _weight(self, unit: Unit, scale: float, zero: int) -> tuple[fx.Node, fx.Node, fx.Node]:
        """The packed weight, its scales and zero points."""
        name = weight_name(unit, self.names)
        steps = torch.tensor(self.scales[name])
        kernel = self.source.state_dict[name].detach()
        codes = torch.round(kernel / steps.reshape(-1, *[1] * (kernel.ndim - 1))).clamp(-128, 127).to(torch.int8)
        held = self._tensor(f"{name}_codes", codes)
        scales = self._tensor(f"{name}_scales", steps)
        zeros = self._tensor(f"zeros_{len(steps)}", torch.zeros(len(steps), dtype=torch.int64))
        shape = held.meta["val"]
        if not unit.is_conv:
            return self._emit(ONEDNN.qlinear_prepack.default, held, None, value=shape), scales, zeros
        geometry = _geometry(unit)
        args = (held, scales, scale, zero, *geometry, None)
        return self._emit(ONEDNN.qconv_prepack.default, *args, value=shape), scales, zeros

    def _bias(self, unit: Unit) -> fx.Node | None:
        """The layer's bias with what a folded batch norm adds."""
        own = unit.core.args[2] if len(unit.core.args) > 2 else None
        if unit.norm is None:
            return None if own is None else self._kept(own)  # type: ignore[arg-type]
        scale, shift = scale_and_shift(unit.norm, self.source)
        assert scale is not None and shift is not None
        if own is not None:
            shift = shift + self.source.state_dict[self.names[own]].detach().double() * scale  # type: ignore[index]
        return self._tensor(f"{unit.name.replace(':', '_')}_bias", shift.float())


def _reshaping(target: Any) -> Any:
    """view as reshape: what integer kernels give lies in memory in another order."""
    return ATEN.reshape.default if target == ATEN.view.default else target


def _pair(value: Any, axes: int) -> list[int]:
    return [value] * axes if isinstance(value, int) else [*value] * (axes if len(value) == 1 else 1)


def _geometry(unit: Unit) -> tuple[list[int], list[int], list[int], int]:
    """Strides, padding, dilation and groups of a convolution."""
    axes = unit.x.meta["val"].ndim - 2
    given: tuple[Any, ...] = unit.core.args[3:]
    stride, padding, dilation, groups = given + (1, 0, 1, 1)[len(given) :]
    return _pair(stride, axes), _pair(padding, axes), _pair(dilation, axes), int(groups)
