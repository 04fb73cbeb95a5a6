"""A transformer's graph, noted call by call while it runs on a few tokens, in the words of `attar.structure.graph`.

Tracing by proxies fails on code that looks at values (masks, positions); a run does not. What it tells of is that run:
experts, of which another run visits others, are taken whole, as operators that are not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from attar.adapters.torch.calls import name_of
from attar.adapters.torch.forms import memory
from attar.adapters.torch.groups import Reader, all_tensors
from attar.adapters.torch.handlers import handle
from attar.adapters.transformers.load import Slices
from attar.structure.base import Structure
from attar.structure.graph import Graph, Node, Opaque, Part
from attar.structure.groups import products
from attar.structure.scalable import scalable

SIZES = (
    "size",
    "dim",
    "ndimension",
    "numel",
    "stride",
    "shape",
    "dtype",
    "device",
    "ndim",
    "is_cuda",
    "type",
    "layout",
)
"""Calls that tell of a tensor's form, and nothing of its values."""
PARTS = ("split", "chunk", "tensor_split")


def scales_of(network: nn.Module, call: Callable[[], Any], examples: int) -> Structure:
    """What can be scaled in the network; its channels stay."""
    graph = recorded(network, call, examples)
    return Structure(products=products(graph), scalable=scalable(graph))


def recorded(network: nn.Module, call: Callable[[], Any], examples: int) -> Graph:
    """The graph of what `call` does with the network for so many examples; all tensors that it gives must stay."""
    recorder = _Recorder(network)
    with torch.no_grad(), recorder.whole(network), recorder:
        made = call()
    leaves = pytree.tree_leaves(made.to_tuple() if hasattr(made, "to_tuple") else made)
    outputs = [recorder.node(value).name for value in leaves if isinstance(value, Tensor)]
    reader = recorder.reader
    shapes = {reader.names[memory(tensor)]: tuple(tensor.shape) for tensor in reader.tensors.values()}
    return Graph(recorder.nodes, reader.values, shapes, outputs, examples, reader.unknown)


class _Recorder(TorchFunctionMode):
    """Every call of torch's API as a node; tensors are told apart by what they are, and kept until the end."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        tensors = all_tensors(network)
        names: dict[tuple[int, ...], str] = {}
        for name, tensor in tensors.items():
            names.setdefault(memory(tensor), name)
        self.reader = Reader({}, tensors, names)
        self.nodes: list[Node] = []
        self._graph = fx.Graph()
        self._known: dict[int, tuple[fx.Node, Tensor]] = {}
        self._muted = 0
        for name, tensor in tensors.items():
            if id(tensor) not in self._known:
                self._known[id(tensor)] = self._graph.create_node("get_attr", name), tensor

    def node(self, tensor: Tensor) -> fx.Node:
        """The node of a tensor; what no call has made is an input."""
        if id(tensor) not in self._known:
            self._keep(tensor, self._graph.placeholder(f"given{len(self._known)}"))
        return self._known[id(tensor)][0]

    def _keep(self, tensor: Tensor, node: fx.Node) -> None:
        self._known[id(tensor)] = node, tensor
        self.reader.values[node.name] = tuple(tensor.shape)

    def whole(self, network: nn.Module) -> Any:
        """Within, modules that hold experts are one call each."""
        return _Whole(self, [module for module in network.modules() if _holds_experts(module)])

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The call, noted."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = _name(func)
        if not self._muted and name not in SIZES:
            self.note(name, args, kwargs, result)
        return result

    def note(self, name: str, args: Any, kwargs: Mapping[str, Any], result: Any) -> None:
        """A node with its place in the neutral graph."""
        given = [value for value in pytree.tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        made = [value for value in pytree.tree_leaves(result) if isinstance(value, Tensor)]
        if not given and not made:
            return
        told_args, told_kwargs = pytree.tree_map_only(Tensor, self.node, (tuple(args), dict(kwargs)))
        node = self._graph.create_node("call_method", name, *_plain(told_args, told_kwargs))
        if isinstance(result, Tensor):
            self._keep(result, node)
            self.nodes.append(handle(self.reader, node) or self._opaque(node, (node.name,)))
            return
        names = []
        for place, value in enumerate(made):
            part = self._graph.create_node("call_method", "getitem", (node, place))
            self._keep(value, part)
            names.append(part.name)
        self.nodes.append(self._part(node, tuple(names)) or self._opaque(node, tuple(names)))

    def _part(self, node: fx.Node, names: tuple[str, ...]) -> Part | None:
        """A value cut along an axis."""
        axis = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0)
        if node.target not in PARTS or not isinstance(axis, int) or not self.reader.is_value(node.args[0]):
            return None
        source: Any = node.args[0]
        return Part(node.name, (source.name,), names, axis)

    def _opaque(self, node: fx.Node, names: tuple[str, ...]) -> Opaque:
        """A call that is not described: what it reads must stay as it is."""
        reason = f"read by {node.target}"
        for item in node.all_input_nodes:
            if (stored := self.reader.stored(item)) is not None:
                self.reader.unknown.setdefault(stored, reason)
        values = tuple(item.name for item in node.all_input_nodes if self.reader.is_value(item))
        return Opaque(node.name, values, names, reason)

    def mute(self, module: nn.Module) -> None:
        """Note nothing more; the module's own tensors are used in ways that are not known."""
        self._muted += 1
        for tensor in all_tensors(module).values():
            if (name := self.reader.name(tensor)) is not None:
                self.reader.unknown.setdefault(name, f"read by {type(module).__name__}")

    def unmute(self, name: str, args: Any, kwargs: Mapping[str, Any], result: Any) -> None:
        """Go on, with one call for what was not noted."""
        self._muted -= 1
        if not self._muted:
            self.note(name, args, kwargs, result)


class _Whole:
    """Hooks on modules that are to be one call each, for as long as they are wanted."""

    def __init__(self, recorder: _Recorder, modules: list[nn.Module]) -> None:
        self._recorder, self._modules, self._handles = recorder, modules, list[Any]()

    def __enter__(self) -> None:
        for module in self._modules:
            self._handles += [
                module.register_forward_pre_hook(lambda own, *_: self._recorder.mute(own)),
                module.register_forward_hook(
                    lambda own, args, kwargs, result: self._recorder.unmute(type(own).__name__, args, kwargs, result),
                    with_kwargs=True,
                ),
            ]

    def __exit__(self, *_: object) -> None:
        for handle_ in self._handles:
            handle_.remove()


def _holds_experts(module: nn.Module) -> bool:
    return any(isinstance(child, Slices) for child in module.children())


def _name(function: Any) -> str:
    """A call's plain name: that of an operator without underscores, that of a property for its getter."""
    name = name_of(function)
    if name == "__get__":
        return str(getattr(function.__self__, "__name__", name))
    return name.removeprefix("__").removesuffix("__") if name.startswith("__") else name


def _plain(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Arguments that a node can hold: what is neither a number, a node nor a list of these is named."""

    def plain(value: Any) -> Any:
        known = isinstance(value, fx.Node | int | float | bool | str | slice | torch.dtype) or value is None
        return value if known or value is Ellipsis else str(type(value))

    return pytree.tree_map(plain, (args, kwargs))
