"""A Keras functional or sequential model in the words of `attar.structure.graph`; handlers are in handlers.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from attar.adapters.keras.walk import is_graph
from attar.errors import ModelError
from attar.structure.graph import Along, Factors, Graph, Node, Opaque, Sizes, Vector

FREE = (1000003, 1000033, 1000037, 1000039, 1000081, 1000099)
"""What stands for a free size, by its axis."""


@dataclass
class Reader:
    """A model on its way into neutral nodes: values have numbers for names, variables the adapter's names."""

    names: Mapping[int, str]
    values: dict[str, Sizes] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def value(self, shape: Sequence[int | None]) -> str:
        """A new value of these sizes."""
        name = f"value {len(self.values)}"
        self.values[name] = tuple(FREE[i % len(FREE)] if n is None else int(n) for i, n in enumerate(shape))
        return name

    def vector(self, variable: Any, axis: int) -> tuple[Vector, ...]:
        """A variable of one axis that goes along one of the output's; nothing for none."""
        return () if variable is None else (Vector(self.names[id(variable)], ((0, axis),)),)

    def broadcast(self, variable: Any, ndim: int) -> Vector:
        """A variable that is broadcast over `ndim` axes."""
        shape = tuple(variable.shape)
        pairs = tuple((i, i - len(shape) + ndim) for i, size in enumerate(shape) if size > 1)
        return Vector(self.names[id(variable)], pairs)

    def stay(self, layer: Any, reason: str) -> None:
        """All variables of a layer keep their shape."""
        for variable in getattr(layer, "variables", ()):
            if id(variable) in self.names:
                self.unknown.setdefault(self.names[id(variable)], reason)


def neutral(model: Any, names: Mapping[int, str]) -> Graph:
    """The graph of a model, nested ones included; names are those of its variables by id. Raises ModelError."""
    if not is_graph(model):
        raise ModelError(
            f"model {model.name!r}: to remove channels, it must be functional or sequential. Received a "
            f"{type(model).__name__}, whose code is its graph. Build it of layers, or use its ONNX export."
        )
    reader = Reader(names)
    own = _functional(model)
    inputs = [reader.value(tensor.shape) for tensor in keras.tree.flatten(own._inputs_struct)]
    outputs = _walk(reader, own, inputs)
    tensors = {names[id(v)]: tuple(int(n) for n in v.shape) for v in model.variables if id(v) in names}
    return Graph(reader.nodes, reader.values, tensors, outputs, FREE[0], reader.unknown)


def _functional(model: Any) -> Any:
    return model._functional if isinstance(model, keras.Sequential) else model


def _walk(reader: Reader, graph: Any, inputs: Sequence[str]) -> list[str]:
    """Read one functional model whose inputs are these values; the values that it hands out."""
    known = dict(zip((id(t) for t in keras.tree.flatten(graph._inputs_struct)), inputs, strict=True))
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if node.is_input or all(id(tensor) in known for tensor in node.outputs):
                continue
            given = [known[id(tensor)] for tensor in node.input_tensors]
            made = _read(reader, node, given)
            known.update(zip((id(tensor) for tensor in node.outputs), made, strict=True))
    return [known[id(tensor)] for tensor in keras.tree.flatten(graph._outputs_struct)]


def _read(reader: Reader, node: Any, given: list[str]) -> list[str]:
    from attar.adapters.keras.handlers import handle

    operation = node.operation
    if is_graph(operation):  # its own inputs' sizes are in its config
        reader.nodes.append(Opaque(operation.name, tuple(given), (), f"an input of the model {operation.name} inside"))
        return _walk(reader, _functional(operation), given)
    made = [reader.value(tensor.shape) for tensor in node.outputs]
    found = handle(reader, node, given, made) if len(made) == 1 else None
    if found is None:
        reason = f"read by {type(operation).__name__}"
        reader.stay(operation, reason)
        found = [Opaque(operation.name, tuple(given), tuple(made), reason)]
    reader.nodes.extend(found)
    return made


def along(
    place: str, given: Sequence[str], made: Sequence[str], vectors: Sequence[Vector] = (),
    mixed: Sequence[int] = (), *, drop: bool = False, factors: Factors = "",
) -> Along:  # fmt: skip
    """Position by position but for the axes in `mixed`."""
    return Along(place, tuple(given), tuple(made), tuple(vectors), tuple(mixed), drop, factors)
