"""A PyTorch module's traced graph in the words of `attar.structure.graph`; handlers are in handlers.py."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from attar.adapters.torch.calls import name_of
from attar.adapters.torch.forms import memory
from attar.adapters.torch.source import Source
from attar.errors import ModelError
from attar.structure.graph import Along, Factors, Graph, Node, Opaque, Sizes, Vector
from attar.structure.groups import Coupled, coupled
from attar.types import Array

EXAMPLES = 5
"""Examples that sizes are found with."""


@dataclass
class Reader:
    """A traced graph on its way into neutral nodes: values by their node's name, tensors by their first name."""

    modules: Mapping[str, nn.Module]
    tensors: Mapping[str, Tensor]
    names: Mapping[tuple[int, ...], str]
    values: dict[str, Sizes] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)

    def is_value(self, item: Any) -> bool:
        """Whether an argument is a tensor that the graph computes."""
        return isinstance(item, fx.Node) and item.op != "get_attr" and item.name in self.values

    def stored(self, item: Any) -> str | None:
        """The name of the parameter or buffer that an argument is."""
        if isinstance(item, fx.Node) and item.op == "get_attr":
            return self.name(self.tensors.get(str(item.target)))
        return None

    def name(self, tensor: Tensor | None) -> str | None:
        """The first name of a parameter or buffer."""
        return None if tensor is None else self.names.get(memory(tensor))

    def rank(self, item: Any) -> int:
        """A value's number of axes."""
        return len(self.values[item.name])

    def along_axis(self, tensor: Tensor | None, axis: int) -> tuple[Vector, ...]:
        """A tensor of one axis that goes along one of the output's; nothing for none."""
        name = self.name(tensor)
        return () if name is None else (Vector(name, ((0, axis),)),)

    def broadcast(self, name: str, ndim: int) -> Vector:
        """A tensor that is broadcast over `ndim` axes."""
        shape = self.tensors[name].shape
        return Vector(name, tuple((i, i - len(shape) + ndim) for i, size in enumerate(shape) if size > 1))

    def along(
        self, node: fx.Node, items: Any, mixed: Any = (), *, drop: bool = False, more: Any = (), factors: Factors = "",
        carries: bool = True,
    ) -> Along | None:  # fmt: skip
        """Position by position over values and stored tensors, which carry; other arguments are numbers."""
        values = [item for item in items if self.is_value(item)]
        if not values or node.name not in self.values:
            return None
        ndim = max(self.rank(item) for item in values)
        own = [name for item in items if (name := self.stored(item)) is not None]
        vectors = (*more, *(replace(self.broadcast(name, ndim), carries=carries) for name in own))
        axes = tuple(axis % ndim for axis in mixed)
        return Along(node.name, tuple(v.name for v in values), (node.name,), vectors, axes, drop, factors)


def all_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by every name they have."""
    found = dict(network.named_parameters(remove_duplicate=False))
    return found | dict(network.named_buffers(remove_duplicate=False))


Arguments = Callable[[Mapping[str, Array]], tuple[Any, Any]]
"""A batch -> what the network is called with, by place and by name."""


def coupled_network(
    source: Source, example: Mapping[str, Array], arguments: Arguments, zeros: Collection[str] = ()
) -> Coupled:
    """What goes together in a module; example is a batch that it has run, zeros are tensors that are constantly zero.

    Raises ModelError where it is not traced.
    """
    if source.kind != "module" or not example:
        raise ModelError(
            f"model {type(source.network).__name__}: to remove channels, it must be a module that has run a batch. "
            f"Received {'one that has not' if source.kind == 'module' else 'an exported graph'}. Run a batch before; "
            "of a program or script, pass the module it was made from, or its ONNX export."
        )
    few = {name: np.zeros((EXAMPLES, *array.shape[1:]), array.dtype) for name, array in example.items()}
    return coupled(neutral(source.network, *arguments(few), zeros))


def neutral(network: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], zeros: Collection[str] = ()) -> Graph:
    """The graph of a module for these arguments, of EXAMPLES examples; raises ModelError where it cannot be traced."""
    from attar.adapters.torch.handlers import handle

    graph = _traced(network, kwargs)
    tensors = all_tensors(network)
    names: dict[tuple[int, ...], str] = {}
    for name, tensor in tensors.items():
        names.setdefault(memory(tensor), name)
    reader = Reader(dict(network.named_modules()), tensors, names)
    reader.values.update(_sizes(network, graph, (*args, *kwargs.values())))
    nodes: list[Node] = []
    outputs: list[str] = []
    for node in graph.nodes:
        if node.op == "output":
            outputs = [item.name for item in node.all_input_nodes]
        elif node.op in ("call_module", "call_function", "call_method"):
            found = handle(reader, node)
            if found is not None:
                nodes.append(found)
            elif not _about_sizes(node):
                nodes.append(_opaque(reader, node))
    still = frozenset(names[memory(tensors[name])] for name in zeros)
    shapes = {names[memory(tensor)]: tuple(tensor.shape) for tensor in tensors.values()}
    return Graph(nodes, reader.values, shapes, outputs, EXAMPLES, reader.unknown, still)


def _traced(network: nn.Module, kwargs: Mapping[str, Any]) -> fx.Graph:
    try:
        graph = fx.Tracer().trace(network)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0][:120]
        raise ModelError(
            f"model {type(network).__name__}: its graph must be traceable by torch.fx to find its channels. Received "
            f"{type(error).__name__}: {first} Export it to ONNX and remove channels there."
        ) from error
    if kwargs:
        raise ModelError(
            f"model {type(network).__name__}: to remove channels, its inputs must be positional. Received keyword "
            f"inputs {sorted(kwargs)}. Wrap it."
        )
    return graph


def _sizes(network: nn.Module, graph: fx.Graph, args: tuple[Any, ...]) -> dict[str, Sizes]:
    """The sizes of every tensor in the graph, by running it."""
    found: dict[str, Sizes] = {}

    class Sized(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor) and n.op != "get_attr":
                found[n.name] = tuple(result.shape)
            return result

    with torch.no_grad():
        Sized(fx.GraphModule(network, graph)).run(*args)
    return found


def _about_sizes(node: fx.Node) -> bool:
    """Whether a node only asks for a tensor's sizes, or type."""
    name = name_of(node.target) if node.op != "call_module" else ""
    return name in ("size", "dim", "ndimension", "numel", "type", "get_device") or (
        node.target is getattr and node.args[1] in ("shape", "dtype", "device", "ndim", "is_cuda")
    )


def _opaque(reader: Reader, node: fx.Node) -> Opaque:
    """A node that keeps all its channels, its own module's tensors included."""
    what = type(reader.modules[str(node.target)]).__name__ if node.op == "call_module" else name_of(node.target)
    reason = f"read by {what}"
    if node.op == "call_module":
        for tensor in all_tensors(reader.modules[str(node.target)]).values():
            if (name := reader.name(tensor)) is not None:
                reader.unknown.setdefault(name, reason)
    for item in node.all_input_nodes:
        if (name := reader.stored(item)) is not None:
            reader.unknown.setdefault(name, reason)
    values = tuple(item.name for item in node.all_input_nodes if reader.is_value(item))
    return Opaque(node.name, values, (node.name,), reason)
