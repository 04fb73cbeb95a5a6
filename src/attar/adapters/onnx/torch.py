"""ONNX graphs as PyTorch functions, so that gradients flow through them: no ONNX runtime trains any more.

A graph is read once into steps; their functions are in the tables of the modules named onnx_torch_*. 16-bit floats are
computed in float32, whose gradients do not vanish. Stored tensors are shared with the model, and read anew where they
have been replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto
from torch import Tensor

from attar.adapters.onnx.graph import STANDARD, attribute
from attar.adapters.onnx.tensors import Slot, Store, bodies_of
from attar.adapters.onnx.torch_layers import LAYERS
from attar.adapters.onnx.torch_ops import OPERATORS
from attar.adapters.onnx.torch_shapes import SHAPES
from attar.adapters.onnx.torch_spec import REMEDY, Function, Maker, Spec, no_gradient
from attar.errors import ModelError
from attar.types import Array

TABLE: Mapping[tuple[str, str], Maker] = {**OPERATORS, **SHAPES, **LAYERS}
"""(domain, operator) -> what makes its function from a node."""
WIDENED = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64, "float16": np.float32, "bfloat16": np.float32}
"""Types that are computed in another."""

Values = dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """One node: its function takes the inputs in order, None for those left out, and gives a tensor or several."""

    function: Function
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    label: str


@dataclass(frozen=True)
class Block:
    """A graph, a body of one, or a function: what it stores, its steps in order, and the names of what it gives."""

    stored: tuple[tuple[str, Slot], ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]


class Program:
    """A model's first output as a function of its inputs and stored tensors, of which the watched have gradients."""

    def __init__(self, store: Store, output: str, watched: Iterable[str]) -> None:
        """watched: names of slots. Raises ModelError for an operator that is in no table."""
        self._store = store
        self._watched = frozenset(watched)
        self._tensors: dict[str, tuple[Array, Tensor]] = {}
        self._functions = {(f.domain, f.name): f for f in store.model.functions}
        self._opset = next((o.version for o in store.model.opset_import if o.domain in STANDARD), 1)
        self._main = self._block(store.model.graph.node, store.model.graph, [output])

    def __call__(self, inputs: Mapping[str, Array | Tensor]) -> Tensor:
        """The output, with gradients of inputs that are tensors; raises ModelError where PyTorch cannot compute it."""
        given = {name: v if isinstance(v, Tensor) else torch.tensor(_plain(v)) for name, v in inputs.items()}
        return self._run(self._main, given)[0]

    def tensor(self, slot: Slot) -> Tensor:
        """A stored tensor as it is now."""
        known = self._tensors.get(slot.name)
        if known is None or known[0] is not slot.array:
            tensor = _shared(_plain(slot.array))
            if slot.name in self._watched:
                tensor.requires_grad_()
            known = self._tensors[slot.name] = slot.array, tensor
        return known[1]

    def _run(self, block: Block, values: Values) -> list[Tensor]:
        for name, slot in block.stored:
            values[name] = self.tensor(slot)
        for step in block.steps:
            try:
                made = step.function(*[values.get(name) for name in step.inputs])
            except (RuntimeError, IndexError, KeyError, TypeError, ValueError) as error:
                raise ModelError(
                    f"{step.label}: PyTorch must be able to compute it. Received {_first_line(error)} {REMEDY}"
                ) from error
            if isinstance(made, Tensor):
                values[step.outputs[0]] = made
            else:
                values.update(zip(step.outputs, made, strict=False))
        return [values[name] for name in block.outputs]

    def _block(self, nodes: Iterable[NodeProto], graph: GraphProto | None, outputs: Sequence[str]) -> Block:
        """What the outputs need."""
        needed, steps, stored = set(outputs), [], {}
        for index, node in reversed(list(enumerate(nodes))):
            if not needed.intersection(filter(None, node.output)):
                continue
            slot = self._constant(node)
            if slot is not None:
                stored[node.output[0]] = slot
                continue
            reads = _reads(node)
            needed.update(reads)
            steps.append(Step(self._function(node, index), reads, tuple(node.output), _label(node)))
        for tensor in graph.initializer if graph is not None else ():
            slot = self._store.slot_of(tensor)
            if slot is not None and tensor.name in needed:
                stored[tensor.name] = slot
        return Block(tuple(stored.items()), tuple(reversed(steps)), tuple(outputs))

    def _constant(self, node: NodeProto) -> Slot | None:
        """The stored tensor of a Constant node; None for other nodes, and for numbers in its attributes."""
        if node.op_type != "Constant" or node.domain not in STANDARD:
            return None
        return next((self._store.slot_of(a.t) for a in node.attribute if a.name == "value"), None)

    def _function(self, node: NodeProto, index: int) -> Function:
        domain = "" if node.domain in STANDARD else node.domain
        if (domain, node.op_type) == ("", "If"):
            return self._choice(node, index)
        if (function := self._functions.get((node.domain, node.op_type))) is not None:
            return self._call(function)
        maker = TABLE.get((domain, node.op_type))
        if maker is None or any(a.ref_attr_name for a in node.attribute):
            raise no_gradient(_label(node))
        given = {a.name: _value(node, a) for a in node.attribute}
        return maker(Spec(_label(node), given, self._opset, len([name for name in node.output if name])))

    def _choice(self, node: NodeProto, index: int) -> Function:
        """If: the body that the condition names, which sees the values around it."""
        bodies = {
            path.rsplit("/", 1)[-1]: self._block(body.node, body, [value.name for value in body.output])
            for path, body in bodies_of(node, index)
        }
        names = _reads(node)[1:]

        def choose(condition: Tensor, *values: Tensor | None) -> list[Tensor]:
            block = bodies["then_branch" if bool(condition) else "else_branch"]
            return self._run(block, _given(names, values))

        return choose

    def _call(self, function: FunctionProto) -> Function:
        """A function of the model, which sees its arguments only."""
        block = self._block(function.node, None, list(function.output))
        return lambda *values: self._run(block, _given(function.input, values))


def _given(names: Iterable[str], values: Iterable[Tensor | None]) -> Values:
    return {name: value for name, value in zip(names, values, strict=False) if value is not None}


def _reads(node: NodeProto) -> tuple[str, ...]:
    """The inputs of a node, and then every name that the graphs in it read, some of which are their own."""
    inside: set[str] = set()
    for _, body in bodies_of(node, 0):
        inside.update(value.name for value in body.output)
        inside.update(name for part in body.node for name in _reads(part))
    return (*node.input, *sorted(inside))


def _value(node: NodeProto, given: AttributeProto) -> Any:
    """An attribute's value; tensors as they are."""
    if given.type == AttributeProto.TENSOR:
        return given.t
    if given.type == AttributeProto.STRINGS:
        return tuple(value.decode() for value in given.strings)
    return attribute(node, given.name)


def _label(node: NodeProto) -> str:
    kind = node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
    return f"operator {kind} (node {node.name or node.output[0]!r})"


def _plain(values: Array) -> Array:
    """Values of a type that is computed with, contiguous."""
    return np.ascontiguousarray(values, WIDENED.get(values.dtype.name)).reshape(values.shape)


def _shared(values: Array) -> Tensor:
    """A tensor over the same memory, which nobody writes to: slots replace their values."""
    return torch.from_numpy(values) if values.flags.writeable else torch.tensor(values)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."
