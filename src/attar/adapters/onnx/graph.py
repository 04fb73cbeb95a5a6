"""Who makes and who uses a tensor of an ONNX graph, in the main graph and in the bodies within it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onnx import GraphProto, NodeProto, helper

from attar.adapters.onnx.tensors import Slot, Store, bodies_of

if TYPE_CHECKING:
    from attar.adapters.onnx.chain import Chain

STANDARD = ("", "ai.onnx")


@dataclass(eq=False)
class Scope:
    """One graph: the main one, or a body of If, Loop or Scan, which sees the names of the graphs around it."""

    graph: GraphProto
    parent: Scope | None
    path: str
    given: frozenset[str]
    makers: dict[str, NodeProto] = field(default_factory=dict)
    slots: dict[str, Slot] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)
    users: dict[str, list[NodeProto]] = field(default_factory=dict)
    inside: dict[int, list[Scope]] = field(default_factory=dict)
    """Bodies by the index of the node that holds them."""
    resolved: dict[str, Chain | None] = field(default_factory=dict)
    """What `resolve` has found."""

    def home(self, name: str) -> Scope | None:
        """The graph in which this name is defined; None for a name that nothing defines."""
        if name in self.makers or name in self.slots or name in self.given:
            return self
        return self.parent.home(name) if self.parent else None

    def all(self) -> Iterator[Scope]:
        """This graph and every graph in it."""
        yield self
        for bodies in self.inside.values():
            for body in bodies:
                yield from body.all()


def scopes(store: Store) -> Scope:
    """The main graph's scope, with makers, stored tensors and uses of every name filled in."""
    root = _define(store, store.model.graph, None, "")
    for scope in root.all():
        for node in scope.graph.node:
            for name in filter(None, node.input):
                _count(scope, name, node)
        for value in scope.graph.output:
            _count(scope, value.name, None)
    return root


def _define(store: Store, graph: GraphProto, parent: Scope | None, path: str) -> Scope:
    scope = Scope(graph, parent, path, frozenset(value.name for value in graph.input))
    for tensor in graph.initializer:
        if (slot := store.slot_of(tensor)) is not None:
            scope.slots[tensor.name] = slot
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            scope.makers[name] = node
        if is_op(node, "Constant") and (slot := _constant(store, node)) is not None:
            scope.slots[node.output[0]] = slot
        bodies = [_define(store, body, scope, f"{path}{place}/") for place, body in bodies_of(node, index)]
        if bodies:
            scope.inside[index] = bodies
    return scope


def _constant(store: Store, node: NodeProto) -> Slot | None:
    for attribute in node.attribute:
        if attribute.name == "value":
            return store.slot_of(attribute.t)
    return None


def _count(scope: Scope, name: str, node: NodeProto | None) -> None:
    home = scope.home(name) or scope
    home.uses[name] += 1
    if node is not None:
        home.users.setdefault(name, []).append(node)


def is_op(node: NodeProto, *kinds: str) -> bool:
    """Whether a node is one of these standard operators."""
    return node.op_type in kinds and node.domain in STANDARD


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """An attribute's value; strings as str, lists as tuples."""
    for item in node.attribute:
        if item.name == name:
            value = helper.get_attribute_value(item)
            if isinstance(value, bytes):
                return value.decode()
            return tuple(value) if isinstance(value, list) else value
    return default
