"""Read the graph of a TorchScript module: which parameters it uses how."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from attar.adapters.torch.calls import Operand, parse
from attar.adapters.torch.forms import memory
from attar.adapters.torch.graph import Graph, permutation
from attar.adapters.torch.inputs import NUMBERS, expected
from attar.adapters.torch.layers import weights
from attar.types import TensorSpec


def script_graph(module: nn.Module) -> Graph:
    """Uses of parameters in the inlined graph of forward; batch norms are not folded in scripts."""
    graph = module.inlined_graph  # type: ignore[union-attr]
    tensors = dict(weights(module))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    firsts: dict[tuple[int, ...], str] = {}
    aliases = {name: firsts.setdefault(memory(tensor), name) for name, tensor in tensors.items()}

    def find(value: Any) -> Operand | None:
        return _operand(value, shapes, aliases)

    calls = []
    for node in _nodes(graph):
        kind = node.kind()
        if kind.startswith("aten::"):
            values = [_value(v) for v in node.inputs()]
            for call in parse(kind[6:], values, {}, find, lambda _: None):
                bias = find(call.bias)
                calls.append(replace(call, bias=None if bias is None else bias.name))
    # Values in the graph may be numbered where the schema has the plain name.
    arguments = module.forward.schema.arguments  # type: ignore[operator, union-attr]
    names = {v.debugName(): a.name for v, a in zip(graph.inputs(), arguments, strict=False)}
    handed = [
        (names[c.x.debugName()], c) for c in calls if isinstance(c.x, torch._C.Value) and c.x.debugName() in names
    ]
    inputs = {name: expected(call, name) for name, call in reversed(handed)}
    numbers = {a.name: NUMBERS[str(a.type)] for a in arguments if str(a.type) in NUMBERS}
    inputs |= {name: TensorSpec(name, dtype, (None,)) for name, dtype in numbers.items()}
    return Graph(tuple(calls), inputs=inputs)


def _nodes(block: Any) -> Any:
    """All nodes, also those inside conditions and loops."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _value(value: Any) -> Any:
    """A constant's value, a list of values, or the value itself."""
    node = value.node()
    if node.kind() == "prim::ListConstruct":
        return [_value(v) for v in node.inputs()]
    if node.kind() == "prim::Constant":
        return value.toIValue()
    return value


def _operand(value: Any, shapes: dict[str, tuple[int, ...]], aliases: dict[str, str]) -> Operand | None:
    """A parameter reached by attributes from the module itself, or a transposition of one."""
    if not isinstance(value, torch._C.Value):
        return None
    node = value.node()
    if node.kind() == "prim::GetAttr":
        name = _path(value)
        return None if name not in aliases else Operand(aliases[name], shapes[name], tuple(range(len(shapes[name]))))
    kind = node.kind().removeprefix("aten::")
    if kind not in ("t", "transpose", "permute", "numpy_T"):
        return None
    first, *rest = [_value(v) for v in node.inputs()]
    inner = _operand(first, shapes, aliases)
    axes = permutation(kind, rest, inner)
    return None if inner is None or axes is None else replace(inner, perm=tuple(inner.perm[axis] for axis in axes))


def _path(value: Any) -> str:
    """The dotted attribute path."""
    node = value.node()
    parts = []
    while node.kind() == "prim::GetAttr":
        parts.append(node.s("name"))
        node = node.input().node()
    return ".".join(reversed(parts))
