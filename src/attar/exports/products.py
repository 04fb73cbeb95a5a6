"""Dense layers with integer weights in an ONNX graph, activations made integers as they come.

Two kernels of onnxruntime. `dynamic` is DynamicQuantizeLinear and MatMulInteger, operators of ONNX itself that the
runtime fuses, with one scale for the whole activation; 4-bit codes are in the file, and the runtime makes 8-bit
integers of them when it opens it (their product with whole numbers is folded). `blocks` is MatMulNBits of
com.microsoft, with a scale for each block of a weight's row and of an activation's: more exact, and as fast where there
is one row, as when a language model writes a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.version_converter
from onnx import helper, numpy_helper

from attar.exports.codes import Packed
from attar.types import Array

DOMAIN = "com.microsoft"
DYNAMIC, BLOCKS = "dynamic", "blocks"
WIDE = 128
"""The block of MatMulNBits for weights with one scale a row, which it repeats."""
FLOAT = onnx.TensorProto.FLOAT
OPSET, FORMAT = 21, 10
"""The operator set, and the version of the format, that know 4-bit integers."""


def dense_nodes(model: onnx.ModelProto) -> dict[int, str]:
    """The index of each MatMul and plain Gemm with a stored float32 weight of two axes, and the weight's name."""
    stored = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == FLOAT}
    found = {}
    for index, node in enumerate(model.graph.node):
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA")
        if node.op_type in ("MatMul", "Gemm") and len(node.input) > 1 and stored.get(node.input[1]) == 2 and plain:
            found[index] = node.input[1]
    return found


def modern(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model, converted in its place where needed, in an operator set with 4-bit integers; None where it cannot."""
    old = next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 1)
    if old < OPSET:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except (onnx.version_converter.ConvertError, RuntimeError):  # operators that the converter does not know
            return None
    model.ir_version = max(model.ir_version, FORMAT)
    return model


def with_products(model: onnx.ModelProto, weights: Mapping[str, Packed], kernels: Mapping[str, str]) -> None:
    """Put integers, in place, for the weights of dense nodes; kernels: DYNAMIC or BLOCKS by the node's name.

    A node that is not named, or whose weight is not among `weights`, stays. 4 bits and DYNAMIC need `modern`.
    """
    graph, writer = model.graph, _Writer()
    targets = dense_nodes(model)
    for index, node in enumerate(graph.node):
        name = targets.get(index)
        kernel = kernels.get(node.name)
        if name is None or name not in weights or kernel is None:
            writer.nodes.append(node)
        else:
            writer.product(node, name, weights[name], kernel)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(writer.nodes)
    used = {name for node in writer.nodes for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *writer.stored.values()])
    if any(node.domain == DOMAIN for node in writer.nodes):
        imports(model)


def imports(model: onnx.ModelProto) -> None:
    """Say, in place, that operators of com.microsoft are used."""
    if not any(opset.domain == DOMAIN for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


class _Writer:
    """The nodes so far, the tensors that they need, and activations that are integers already."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, onnx.TensorProto] = {}
        self._integers: set[str] = set()
        self._made: set[str] = set()

    def product(self, node: onnx.NodeProto, name: str, weight: Packed, kernel: str) -> None:
        """One node's."""
        bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2] else ""
        result = f"{node.output[0]}_without_bias" if bias else node.output[0]
        if kernel == BLOCKS:
            self._blocks(node, name, weight, result)
        else:
            self._dynamic(node, name, weight, result)
        if bias:
            self._add("Add", [result, bias], result=node.output[0], name=f"{node.name}_bias")

    def _blocks(self, node: onnx.NodeProto, name: str, weight: Packed, result: str) -> None:
        block = weight.block if weight.bits == 4 else WIDE
        rows, cols = weight.codes.shape
        parts = -(-cols // block)
        if name not in self._made:
            codes = np.full((rows, parts * block), 1 << (weight.bits - 1), np.uint8)
            codes[:, :cols] = weight.codes.astype(np.int16) + (1 << (weight.bits - 1))
            scales = np.broadcast_to(weight.unit[:, None] * weight.multiples, (rows, parts)).astype(np.float32)
            self._store(f"{name}_codes", halves(codes, weight.bits).reshape(rows, parts, -1))
            self._store(f"{name}_scales", scales.ravel())
            self._made.add(name)
        self._add(
            "MatMulNBits", [node.input[0], f"{name}_codes", f"{name}_scales"], result=result, name=node.name,
            domain=DOMAIN, K=cols, N=rows, bits=weight.bits, block_size=block, accuracy_level=4,
        )  # fmt: skip

    def _dynamic(self, node: onnx.NodeProto, name: str, weight: Packed, result: str) -> None:
        given = node.input[0]
        integers = [f"{given}_integers", f"{given}_step", f"{given}_zero"]
        if given not in self._integers:
            self._integers.add(given)
            self.nodes.append(helper.make_node("DynamicQuantizeLinear", [given], integers, name=f"{given}_integers_of"))
        if f"{name}_integers" not in self._made:
            self._made.add(f"{name}_integers")
            self._store(f"{name}_units", weight.unit)
            self._weight(name, weight)
        self._add("MatMulInteger", [integers[0], f"{name}_integers", integers[2]], f"{result}_sums", name=node.name)
        self._add("Cast", [f"{result}_sums"], f"{result}_floats", to=FLOAT)
        self._add("Mul", [integers[1], f"{name}_units"], f"{result}_steps")
        self._add("Mul", [f"{result}_floats", f"{result}_steps"], result)

    def _weight(self, name: str, weight: Packed) -> None:
        """int8 [cols, rows]: stored, or what the runtime folds out of 4-bit codes and their multiples."""
        rows, cols = weight.codes.shape
        if weight.bits == 8:
            self._store(f"{name}_integers", np.ascontiguousarray(weight.codes.T))
            return
        parts = weight.multiples.shape[1]
        codes = np.zeros((rows, parts * weight.block), np.int8)
        codes[:, :cols] = weight.codes
        blocks = np.ascontiguousarray(codes.T).reshape(parts, weight.block, rows)
        self._store(f"{name}_codes4", blocks.astype(ml_dtypes.int4))
        self._store(f"{name}_multiples", np.ascontiguousarray(weight.multiples.T)[:, None])
        self._store(f"{name}_shape", np.array([parts * weight.block, rows]))
        self._add("Cast", [f"{name}_codes4"], f"{name}_codes", to=onnx.TensorProto.INT8)
        self._add("Mul", [f"{name}_codes", f"{name}_multiples"], f"{name}_scaled")
        whole = f"{name}_integers" if cols == parts * weight.block else f"{name}_filled"
        self._add("Reshape", [f"{name}_scaled", f"{name}_shape"], whole)
        if whole != f"{name}_integers":
            self._store(f"{name}_from", np.array([0]))
            self._store(f"{name}_to", np.array([cols]))
            self._add("Slice", [whole, f"{name}_from", f"{name}_to"], f"{name}_integers")

    def _add(self, op: str, inputs: list[str], result: str, name: str = "", **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [result], name=name or f"{result}_made", **attributes))

    def _store(self, name: str, values: Array) -> None:
        self.stored[name] = numpy_helper.from_array(values, name)


def halves(codes: Array, bits: int) -> Array:
    """uint8 codes [..., n] of 4 bits two to a byte, the first in the low half; of 8 bits as they are."""
    if bits == 8:
        return codes
    return np.asarray(codes[..., 0::2] | np.left_shift(codes[..., 1::2], 4), np.uint8)
