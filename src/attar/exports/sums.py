"""Sums of two activations in float between integers, so that rounding does not pile up along a residual stream.

A sum in 8 bits rounds both of its terms and itself, and the next sum rounds all of that again. In float, sums are
rounded only for the layers that read them. Where a term is made by a 1x1 convolution, that becomes the product of its
integers with a float result (MatMulIntegerToFloat of com.microsoft): the same kernel without the rounding at its end.
onnxruntime keeps activations with channels last between integer convolutions, so that the transpositions around the
product cancel out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from attar.exports.products import DOMAIN, imports

SUM = "Add"


def sums_of(model: onnx.ModelProto) -> list[str]:
    """Names of what the sums of two activations make, in a float model."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [
        node.output[0] for node in model.graph.node
        if node.op_type == SUM and not stored & set(node.input) and len(set(node.input)) == 2
    ]  # fmt: skip


def term_makers(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that make a term of such a sum: where a block of a residual network ends."""
    sums = set(sums_of(model))
    terms = {name for node in model.graph.node if node.output[0] in sums for name in node.input}
    return {node.name for node in model.graph.node if terms & set(node.output)}


def with_float_sums(model: onnx.ModelProto, plain: onnx.ModelProto) -> None:
    """Sums in float, in place: the model is `plain` in integers, with Add not among the operators in integers.

    Tensors that `plain` makes in another way are left alone: an activation may have gone into their rounding.
    """
    alike = {name: node.op_type for node in plain.graph.node for name in node.output}
    graph = _Graph(model)
    for total in sums_of(plain):
        for term in graph.makers[total].input if total in graph.makers else ():
            name = graph.rounded(term)
            if name is not None and alike.get(name) == graph.makers[name].op_type == "Conv":
                graph.unround(graph.makers[name])
    unrounded = {*graph.products, *(name for name in sums_of(plain) if name in graph.makers)}
    for node in model.graph.node:
        if node.op_type == SUM or (node.op_type == "Conv" and node.input[1] in graph.stored):
            for place, given in enumerate(node.input):
                name = graph.rounded(given)
                if name is not None and (name in unrounded or graph.in_float(name, alike)):
                    node.input[place] = name
    graph.put(model)


class _Graph:
    """A model with integers, by name; products: what is made by products with float results by now."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.products: dict[str, list[onnx.NodeProto]] = {}
        self.fresh: list[onnx.TensorProto] = []

    def rounded(self, name: str) -> str | None:
        """Of what is dequantised right after it was quantised: what it was before."""
        back = self.makers.get(name)
        there = self.makers.get(back.input[0]) if back is not None and back.op_type == "DequantizeLinear" else None
        if there is None or there.op_type != "QuantizeLinear" or there.input[0] not in self.makers:
            return None
        return str(there.input[0])

    def in_float(self, name: str, alike: dict[str, str]) -> bool:
        """Whether a convolution with float weights makes it, and nothing else has gone into that."""
        maker = self.makers[name]
        return maker.op_type == "Conv" == alike.get(name) and maker.input[1] in self.stored

    def unround(self, node: onnx.NodeProto) -> None:
        """Let a convolution hand on what it makes as it is, where a matrix product can do its work."""
        given, weight = self._dequantised(node.input[0]), self._dequantised(node.input[1])
        bias = self._dequantised(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if node.output[0] in self.products or given is None or weight is None or not _is_product(node):
            return
        codes, scales = self._array(weight.input[0]), self._array(weight.input[1])
        steps = [name for name in given.input[1:3] if name in self.stored]
        if codes is None or scales is None or codes.shape[2:] != (1,) * (codes.ndim - 2) or len(steps) < 2:
            return
        if bias is None and len(node.input) > 2 and node.input[2]:
            return
        name, order = node.output[0], [0, *range(2, codes.ndim), 1]
        inputs = [f"{name}_last", f"{name}_codes", given.input[1], f"{name}_units", given.input[2], ""]
        self._store(f"{name}_codes", np.ascontiguousarray(codes.reshape(len(codes), -1).T))
        self._store(f"{name}_units", np.asarray(scales.ravel(), np.float32))
        if bias is not None:
            whole, step = self._array(bias.input[0]), self._array(bias.input[1])
            self._store(f"{name}_bias", np.asarray(whole.astype(np.float64) * step, np.float32))
            inputs.append(f"{name}_bias")
        back = [0, codes.ndim - 1, *range(1, codes.ndim - 1)]
        self.products[name] = [
            helper.make_node("Transpose", [given.input[0]], [inputs[0]], name=f"{node.name}_last", perm=order),
            helper.make_node("MatMulIntegerToFloat", inputs, [f"{name}_sums"], name=node.name, domain=DOMAIN),
            helper.make_node("Transpose", [f"{name}_sums"], [name], name=f"{node.name}_back", perm=back),
        ]

    def put(self, model: onnx.ModelProto) -> None:
        """Put the products into the model, without what nothing reads any more."""
        graph = model.graph
        nodes = [one for node in graph.node for one in self.products.get(node.output[0], [node])]
        nodes = _read(nodes, [value.name for value in graph.output])
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(self.fresh)
        if self.products:
            imports(model)

    def _dequantised(self, name: str) -> onnx.NodeProto | None:
        maker = self.makers.get(name)
        return maker if maker is not None and maker.op_type == "DequantizeLinear" else None

    def _array(self, name: str) -> Any:
        return numpy_helper.to_array(self.stored[name]) if name in self.stored else None

    def _store(self, name: str, values: Any) -> None:
        self.fresh.append(numpy_helper.from_array(values, name))


def _is_product(node: onnx.NodeProto) -> bool:
    """Whether a convolution takes every position once, by itself, and all channels together."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    steps, pads = given.get("strides", [1]), given.get("pads", [0])
    return given.get("group", 1) == 1 and set(steps) == {1} and set(pads) == {0}


def _read(nodes: list[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes without those that round or unround what nothing reads any more."""
    for kind in ("DequantizeLinear", "QuantizeLinear"):
        read = {name for node in nodes for name in node.input} | set(outputs)
        nodes = [node for node in nodes if node.op_type != kind or node.output[0] in read]
    return nodes
