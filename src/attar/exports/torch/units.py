"""Which nodes of an exported PyTorch program one integer kernel computes: a product, what is added, an activation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

ATEN = torch.ops.aten
CONVS = (ATEN.conv1d.default, ATEN.conv2d.default, ATEN.conv3d.default)
DROPS = (ATEN.dropout.default, ATEN.dropout_.default, ATEN.alias.default, ATEN.detach.default, ATEN.contiguous.default)
"""Operators that, in inference, hand on what they get."""
SHAPES = (
    ATEN.flatten.using_ints, ATEN.reshape.default, ATEN.view.default, ATEN.squeeze.dim, ATEN.squeeze.dims,
    ATEN.unsqueeze.default, ATEN.permute.default, ATEN.transpose.int,
)  # fmt: skip
POOL = ATEN.max_pool2d.default
RELUS = (ATEN.relu.default, ATEN.relu_.default)
SIXES = (ATEN.relu6.default, ATEN.relu6_.default)
CLAMPS = (ATEN.hardtanh.default, ATEN.hardtanh_.default, ATEN.clamp.default, ATEN.clamp_.default)
ADDS = (ATEN.add.Tensor, ATEN.add_.Tensor)
SAME = 1e-5
"""Most that the scale of a batch norm, which the adapter folded, may be off one."""


@dataclass(frozen=True)
class Unit:
    """A product with a stored weight and what follows it: core is its node, x its input, out the last node it covers.

    norm: the batch norm behind it, folded to a shift. added: what is added to it before the activation, or None.
    activation: "none", "relu" or "hardtanh", with its two bounds.
    """

    name: str
    core: fx.Node
    x: fx.Node
    nodes: tuple[fx.Node, ...]
    norm: fx.Node | None = None
    added: fx.Node | None = None
    activation: str = "none"
    bounds: tuple[float, float] = (0.0, 0.0)

    @property
    def out(self) -> fx.Node:
        """The last node, whose value the kernel gives."""
        return self.nodes[-1]

    @property
    def is_conv(self) -> bool:
        """Whether it is a convolution."""
        return self.core.target in CONVS

    def without_sum(self) -> Unit:
        """The same up to the sum."""
        if self.added is None:
            return self
        at = next(k for k, node in enumerate(self.nodes) if node.target in ADDS)
        return replace(self, nodes=self.nodes[:at], added=None, activation="none", bounds=(0.0, 0.0))


def stored_names(program: torch.export.ExportedProgram) -> dict[fx.Node, str]:
    """Names in the state dict of the placeholders that stand for tensors."""
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return {n: names[n.name] for n in program.graph.nodes if n.op == "placeholder" and n.name in names}


def units_of(program: torch.export.ExportedProgram, floats: Collection[str] = ()) -> list[Unit]:
    """The units of a program in order, but for those named in `floats`; their names are those of their weights.

    A weight that is used several times gives one unit for each use, numbered.
    """
    names = stored_names(program)
    found: list[Unit] = []
    taken: set[str] = set()
    for node in program.graph.nodes:
        if node.target not in (*CONVS, ATEN.linear.default) or node.args[1] not in names:
            continue
        weight = names[node.args[1]]
        name = weight if weight not in taken else f"{weight}:{node.name}"
        taken.add(name)
        if name not in floats and _fits(node, names):
            found.append(_extended(Unit(name, node, node.args[0], (node,)), program))
    return _with_sums(found, program)


def weight_name(unit: Unit, names: Mapping[fx.Node, str]) -> str:
    """The weight's name in the state dict."""
    return names[unit.core.args[1]]  # type: ignore[index]


def _fits(node: fx.Node, names: Mapping[fx.Node, str]) -> bool:
    """Float32, a stored bias or none, padding in numbers, and a batch in front."""
    x, weight, bias = (*node.args, None)[:3]
    value, kernel = _value(x), _value(weight)
    plain = not any(isinstance(a, str | fx.Node) for a in node.args[3:]) and not node.kwargs
    axes = kernel is not None and value is not None and (node.target not in CONVS or value.ndim == kernel.ndim)
    floats = axes and value is not None and value.dtype == torch.float32 and value.ndim >= 2
    return bool(plain and floats and (bias is None or bias in names))


def _value(node: Any) -> Tensor | None:
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return value if isinstance(value, Tensor) else None


def _extended(unit: Unit, program: torch.export.ExportedProgram) -> Unit:
    """With the batch norm, the sum and the activation behind it, each of which is the only reader of the one before."""
    while (following := _only_user(unit.out)) is not None:
        if following.target == ATEN.batch_norm.default and len(unit.nodes) == 1 and _is_shift(following, program):
            unit = replace(unit, norm=following)
        elif following.target in ADDS and unit.added is None and unit.is_conv and _other(following, unit.out):
            unit = replace(unit, added=_other(following, unit.out))
        elif following.target in RELUS:
            return replace(unit, nodes=(*unit.nodes, following), activation="relu")
        elif (
            unit.core.target == ATEN.conv2d.default
            and unit.added is None
            and (bounds := _bounds(following)) is not None
        ):
            return replace(unit, nodes=(*unit.nodes, following), activation="hardtanh", bounds=bounds)
        else:
            return unit
        unit = replace(unit, nodes=(*unit.nodes, following))
    return unit


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_shift(norm: fx.Node, program: torch.export.ExportedProgram) -> bool:
    """Whether a batch norm only adds: the adapter folded its scale into the weight."""
    scale, shift = scale_and_shift(norm, program)
    return scale is not None and shift is not None and bool((scale - 1).abs().max() < SAME)


def scale_and_shift(norm: fx.Node, program: torch.export.ExportedProgram) -> tuple[Tensor | None, Tensor | None]:
    """What a batch norm [rows] multiplies by and adds; None where its tensors are not stored or it is training."""
    names = stored_names(program)
    gamma, beta, mean, variance = (program.state_dict.get(names.get(a, "")) for a in norm.args[1:5])  # type: ignore[arg-type]
    if gamma is None or beta is None or mean is None or variance is None or norm.args[5]:
        return None, None
    scale = gamma.detach().double() / torch.sqrt(variance.double() + float(norm.args[7]))  # type: ignore[arg-type]
    return scale, beta.detach().double() - mean.double() * scale


def _other(add: fx.Node, one: fx.Node) -> fx.Node | None:
    """The other operand of a sum of two tensors of one shape."""
    rest = [a for a in add.args if a is not one]
    if len(rest) != 1 or not isinstance(rest[0], fx.Node) or add.kwargs:
        return None
    a, b = _value(one), _value(rest[0])
    same = a is not None and b is not None and [*a.shape] == [*b.shape]
    return rest[0] if same else None


def _bounds(node: fx.Node) -> tuple[float, float] | None:
    """Two numbers between which an operator keeps values; None for others."""
    if node.target in SIXES:
        return 0.0, 6.0
    if node.target not in CLAMPS or node.kwargs:
        return None
    usual: tuple[Any, ...] = (-1.0, 1.0) if node.target in CLAMPS[:2] else (None, None)
    low, high = node.args[1:] + usual[len(node.args) - 1 :]
    numbers = isinstance(low, int | float) and isinstance(high, int | float)
    return (float(low), float(high)) if numbers else None


def _with_sums(units: list[Unit], program: torch.export.ExportedProgram) -> list[Unit]:
    """The units, with a sum only where its other side is another convolution's value that nothing reads afterwards.

    The kernel writes over that value.
    """
    place = {node: k for k, node in enumerate(program.graph.nodes)}
    cores = {unit.core: unit for unit in units}
    kept = [unit.without_sum() for unit in units]
    makers = {unit.out: unit for unit in kept}
    summed: set[fx.Node] = set()
    for k, unit in enumerate(units):
        add = next((node for node in unit.nodes if node.target in ADDS), None)
        maker = None if unit.added is None else makers.get(unit.added)
        if add is None or maker is None or add in summed or not maker.is_conv:
            continue
        readers = [cores.get(user) for user in maker.out.users if user is not add]
        if all(one is not None and place[one.out] < place[add] for one in readers):
            kept[k] = unit
            makers[unit.out] = unit
            summed.add(add)
    return kept
