"""The main graph of an ONNX model in the words of `attar.structure.graph`."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import NodeProto

from attar.adapters.onnx.chain import resolve
from attar.adapters.onnx.graph import STANDARD, Scope, is_op, scopes
from attar.adapters.onnx.handlers import HANDLERS
from attar.adapters.onnx.reader import Reader
from attar.adapters.onnx.sizes import value_sizes
from attar.adapters.onnx.tensors import Store
from attar.structure.graph import Graph, Node, Opaque


def neutral(store: Store) -> Graph:
    """The main graph; operators that no handler takes are opaque, and so is what bodies of If and Loop read."""
    root = scopes(store)
    values, examples = value_sizes(store)
    tensors = {slot.name: slot.shape for slot in store.slots.values()}
    reader = Reader(root, values, tensors)
    nodes: list[Node] = []
    for index, node in enumerate(root.graph.node):
        bodies = root.inside.get(index, [])
        if bodies:
            nodes.append(_bodies(reader, node, bodies))
        elif not is_op(node, "Constant", "Shape") and any(reader.computed(name) for name in node.input):
            nodes.append(_read(reader, node))
        else:
            _constants_stay(reader, node)
    outputs = [value.name for value in root.graph.output]
    return Graph(nodes, values, tensors, outputs, examples, reader.unknown)


def _constants_stay(reader: Reader, node: NodeProto) -> None:
    """Stored tensors that an operator reads which is not part of a chain: they must keep their shape."""
    if node.output and resolve(reader.scope, node.output[0]) is None:
        for place in range(len(node.input)):
            if (chain := reader.chain(node, place)) is not None:
                reader.unknown.setdefault(chain.slot.name, f"read by {node.op_type}")


def _read(reader: Reader, node: NodeProto) -> Node:
    domain = "" if node.domain in STANDARD else node.domain
    handler = HANDLERS.get((domain, node.op_type))
    try:
        found = handler(reader, node) if handler else None
    except KeyError:  # a size that inference does not know
        found = None
    if found is not None:
        return found
    _constants_stay(reader, node)
    return opaque(reader, node)


def opaque(reader: Reader, node: NodeProto, more: Sequence[str] = ()) -> Opaque:
    """A node that keeps all its channels."""
    names = tuple(name for name in (*node.input, *more) if reader.computed(name))
    return Opaque(node.name, names, tuple(filter(None, node.output)), f"read by {node.op_type}")


def _bodies(reader: Reader, node: NodeProto, bodies: Sequence[Scope]) -> Opaque:
    """An If, Loop or Scan: all that its bodies read stays."""
    inside = [name for body in bodies for scope in body.all() for inner in scope.graph.node for name in inner.input]
    known = [name for name in dict.fromkeys(inside) if name and reader.scope.home(name) is reader.scope]
    for name in known:
        chain = resolve(reader.scope, name)
        if chain is not None:
            reader.unknown.setdefault(chain.slot.name, f"read inside {node.op_type}")
    return opaque(reader, node, [name for name in known if reader.computed(name)])
