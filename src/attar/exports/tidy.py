"""Float ONNX graphs with fewer operators and the same values: constants folded into convolutions, gates written short.

Exporters of other frameworks leave arithmetic that onnxruntime does not fuse: a factor and an offset behind a
convolution or before it, and x * clip(x + 3, 0, 6) / 6 in four operators. Around integers each of them is a pass over
floats that takes as long as the product.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

FLOAT = onnx.TensorProto.FLOAT
F64 = NDArray[np.float64]
SMALLEST = 1e-4
"""The least magnitude of a factor that an offset is divided by."""


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, in place, with the same outputs but for the rounding of floats; names of weights stay."""
    graph = _Graph(model)
    for node in list(graph.nodes):
        if node.op_type == "Mul":
            graph.gate(node)
    for node in list(graph.nodes):
        if node.op_type == "Conv" and graph.weighted(node):
            while graph.fold_after(node):
                pass
            while graph.fold_before(node):
                pass
    graph.finish()
    return model


@dataclass(frozen=True)
class _Step:
    """x * factor + offset; each is a scalar or has a value for each channel."""

    x: str
    factor: F64
    offset: F64


class _Graph:
    """A graph with who makes and who reads each tensor, kept up to date."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.stored = {t.name: t for t in self.graph.initializer if t.data_type == FLOAT}
        self.given = {value.name for value in self.graph.input}
        self.outside = {value.name for value in self.graph.output}
        for node in self.graph.node:
            self.outside |= _read_inside(node)
        self.nodes = list(self.graph.node)
        self.made: dict[str, onnx.TensorProto] = {}
        self._index()

    def _index(self) -> None:
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.readers[name].append(node)

    def values(self, name: str) -> F64 | None:
        """What is stored under a name and cannot be given from outside."""
        found = self.stored.get(name)
        if found is None or name in self.given:
            return None
        return np.asarray(numpy_helper.to_array(found), np.float64)

    def only(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads a tensor, if there is one and nobody else sees it."""
        found = self.readers[name]
        return found[0] if len(found) == 1 and name not in self.outside else None

    def weighted(self, conv: onnx.NodeProto) -> bool:
        """Whether weight and bias are stored."""
        return all(self.values(name) is not None for name in conv.input[1:] if name) and len(conv.input) > 1

    def step(self, node: onnx.NodeProto, channels: int, axes: int) -> _Step | None:
        """A node as factor and offset of one tensor with so many channels on its second axis; None where it is none."""
        if node.op_type not in ("Mul", "Add", "Sub", "Div") or len(node.input) != 2:
            return None
        sides = [self.values(name) for name in node.input]
        place = 1 if sides[1] is not None else 0
        constant = sides[place]
        if constant is None or sides[1 - place] is not None or (place == 0 and node.op_type in ("Sub", "Div")):
            return None
        each = _by_channel(constant, channels, axes)
        if each is None or (node.op_type == "Div" and not each.all()):
            return None
        one, zero = np.ones(1), np.zeros(1)
        factor = {"Mul": each, "Div": 1 / each}.get(node.op_type, one) if node.op_type in ("Mul", "Div") else one
        offset = {"Add": each, "Sub": -each}.get(node.op_type, zero)
        return _Step(node.input[1 - place], factor, offset)

    def fold_after(self, conv: onnx.NodeProto) -> bool:
        """Take the node behind a convolution into its weight and bias."""
        after = self.only(conv.output[0])
        weight = self.values(conv.input[1])
        assert weight is not None
        step = None if after is None else self.step(after, len(weight), weight.ndim)
        if after is None or step is None or step.x != conv.output[0]:
            return False
        bias = self._bias(conv, len(weight))
        self._put(conv, weight * step.factor.reshape(-1, *[1] * (weight.ndim - 1)), bias * step.factor + step.offset)
        self._drop(after)
        conv.output[0] = after.output[0]
        self.maker[after.output[0]] = conv
        return True

    def fold_before(self, conv: onnx.NodeProto) -> bool:
        """Take the node before a convolution into it; of a padded one the factor alone, past an offset."""
        name = conv.input[0]
        before, weight = self.maker.get(name), self.values(conv.input[1])
        groups = next((a.i for a in conv.attribute if a.name == "group"), 1)
        assert weight is not None
        if before is None or self.only(name) is not conv:
            return False
        channels = weight.shape[1] * groups
        step = self.step(before, channels, weight.ndim)
        if step is None:
            return False
        if step.offset.any() and _padded(conv):
            return self._past_offset(conv, before, step, channels)
        each = np.broadcast_to(step.factor, channels).reshape(groups, -1)
        shift = np.broadcast_to(step.offset, channels).reshape(groups, -1)
        parts = weight.reshape(groups, -1, *weight.shape[1:])
        lost = np.einsum("goc...,gc->go...", parts, shift).reshape(len(weight), -1).sum(1)
        scaled = parts * each.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
        self._put(conv, scaled.reshape(weight.shape), self._bias(conv, len(weight)) + lost)
        self._read(conv, before, step.x)
        return True

    def _past_offset(self, conv: onnx.NodeProto, before: onnx.NodeProto, step: _Step, channels: int) -> bool:
        """x * k + c as (x + c / k) * k, so that the factor reaches the convolution."""
        inner = self.maker.get(step.x)
        if inner is None or self.only(step.x) is not before:
            return False
        scale = self.step(inner, channels, len(self.stored[conv.input[1]].dims))
        if scale is None or scale.offset.any() or (np.abs(scale.factor) < SMALLEST).any():
            return False
        weight = self.values(conv.input[1])
        assert weight is not None
        groups = channels // weight.shape[1]
        each = np.broadcast_to(scale.factor, channels).reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
        parts = weight.reshape(groups, -1, *weight.shape[1:]) * each
        self._put(conv, parts.reshape(weight.shape), self._bias(conv, len(weight)))
        moved = (step.offset / scale.factor).astype(np.float32)
        shaped = moved if moved.size == 1 else moved.reshape(-1, *[1] * (weight.ndim - 2))
        constant = self._store(self._fresh(f"{before.output[0]}_offset"), shaped)
        before.op_type = "Add"
        del before.input[:]
        before.input.extend([step.x, constant])
        self._read(before, inner, scale.x)
        return True

    def gate(self, product: onnx.NodeProto) -> None:
        """x * clip(x + 3, 0, 6), divided by 6 before or behind the product, as x * HardSigmoid(x)."""
        for side in (0, 1):
            x, name = product.input[side], product.input[1 - side]
            inner, divided = self._divided(name)
            clip = None if inner is None else self.maker.get(inner)
            if clip is None or not self._clips(clip, x):
                continue
            after = None if divided else self.only(product.output[0])
            sixth = None if after is None else self.step(after, 1, 0)
            if not divided and (after is None or sixth is None or not _is(sixth, 1 / 6)):
                continue
            gate = self._fresh(f"{product.output[0]}_gate")
            if after is not None and not divided:
                self._drop(after)
                product.output[0] = after.output[0]
            place = next(k for k, node in enumerate(self.nodes) if node is product)
            made = helper.make_node("HardSigmoid", [x], [gate], name=f"{product.name}_gate", alpha=1 / 6, beta=0.5)
            product.input[1 - side] = gate
            self.nodes.insert(place, made)
            self._index()
            return

    def _divided(self, name: str) -> tuple[str | None, bool]:
        """What is behind a division by 6, and whether there is one."""
        node = self.maker.get(name)
        if node is None or self.only(name) is None:
            return None, False
        step = self.step(node, 1, 0)
        if step is not None and _is(step, 1 / 6) and self.only(step.x) is node:
            return step.x, True
        return name, False

    def _clips(self, clip: onnx.NodeProto, x: str) -> bool:
        """Whether a node is clip(x + 3, 0, 6)."""
        ends = [self.values(name) for name in clip.input[1:3]]
        if clip.op_type != "Clip" or len(ends) < 2 or any(end is None or end.size != 1 for end in ends):
            return False
        low, high = (float(end.ravel()[0]) for end in ends if end is not None)
        above = self.maker.get(clip.input[0])
        if (low, high) != (0, 6) or above is None or self.only(clip.input[0]) is None:
            return False
        step = self.step(above, 1, 0)
        return step is not None and step.x == x and bool((step.factor == 1).all() and (step.offset == 3).all())

    def finish(self) -> None:
        """Leave out what is not needed any more."""
        needed, alive = set(self.outside), []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                alive.append(node)
                needed |= {*node.input, *_read_inside(node)}
        del self.graph.node[:]
        self.graph.node.extend(reversed(alive))
        self.graph.initializer.extend(self.made.values())
        left = [tensor for tensor in self.graph.initializer if tensor.name in needed or tensor.name in self.outside]
        del self.graph.initializer[:]
        self.graph.initializer.extend(left)

    def _bias(self, conv: onnx.NodeProto, rows: int) -> F64:
        found = self.values(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None
        return np.zeros(rows) if found is None else found

    def _put(self, conv: onnx.NodeProto, weight: F64, bias: F64) -> None:
        """A weight and bias of this node alone."""
        name = conv.input[2] if len(conv.input) > 2 and conv.input[2] else f"{conv.input[1]}_bias"
        del conv.input[2:]
        conv.input.append(name)
        for place, values in ((1, weight), (2, bias)):
            name = conv.input[place]
            while not self._own(name, conv):
                name = f"{name}_{conv.name or 'conv'}"
            conv.input[place] = self._store(name, values.astype(np.float32))

    def _fresh(self, name: str) -> str:
        """A name that nothing has."""
        while name in self.stored or name in self.maker or name in self.given or name in self.outside:
            name += "_"
        return name

    def _own(self, name: str, conv: onnx.NodeProto) -> bool:
        """Whether a stored tensor of this name is, or would be, of no use to anybody else."""
        taken = name in self.outside or name in self.given or name in self.maker
        return not taken and all(node is conv for node in self.readers[name])

    def _store(self, name: str, values: NDArray[np.float32]) -> str:
        tensor = numpy_helper.from_array(np.ascontiguousarray(values), name)
        if name in self.stored:
            self.stored[name].CopyFrom(tensor)
        else:
            self.stored[name] = self.made[name] = tensor
        return name

    def _drop(self, gone: onnx.NodeProto) -> None:
        self.nodes = [node for node in self.nodes if node is not gone]

    def _read(self, node: onnx.NodeProto, gone: onnx.NodeProto, name: str) -> None:
        """Let a node read what a node that goes has read."""
        node.input[0] = name
        self._drop(gone)
        self.readers[name] = [node if one is gone else one for one in self.readers[name]]


def _read_inside(node: onnx.NodeProto) -> set[str]:
    """Names that the graphs of a node read."""
    found: set[str] = set()
    for attribute in node.attribute:
        for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
            for inner in graph.node:
                found |= {*inner.input, *_read_inside(inner)}
    return found


def _by_channel(constant: F64, channels: int, axes: int) -> F64 | None:
    """A constant as a scalar [1] or a value for each channel; None where it is neither, or changes the shape."""
    if constant.size == 1:
        return constant.reshape(1) if constant.ndim <= max(axes, 1) else None
    shape = (1,) * (axes - constant.ndim) + constant.shape
    if constant.ndim > axes or axes < 2 or shape != (1, channels, *[1] * (axes - 2)):
        return None
    return constant.reshape(channels)


def _padded(conv: onnx.NodeProto) -> bool:
    """Whether zeros are put around what a convolution reads."""
    pads = next((list(a.ints) for a in conv.attribute if a.name == "pads"), [])
    auto = next((a.s for a in conv.attribute if a.name == "auto_pad"), b"NOTSET")
    return any(pads) or auto not in (b"NOTSET", b"VALID")


def _is(step: _Step, factor: float) -> bool:
    """Whether a step is this factor alone."""
    return bool(not step.offset.any() and np.allclose(step.factor, factor, rtol=1e-6))
