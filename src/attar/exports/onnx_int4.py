"""ONNX models with 4-bit weights in blocks (MatMulNBits), activations in float: small files for dense layers.

Codes are symmetric, -7 .. 7 times a scale for each block of a row, rounded with error feedback and coordinate descent
on the second moments of the layer's inputs, and the mean error is taken off the bias (methods/fixed.py). The smallest
file that stays within the drop is taken.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from attar.adapters.base import Adapter
from attar.adapters.onnx import OnnxAdapter
from attar.errors import ModelError
from attar.exports.base import Artefact, Task
from attar.exports.onnx_model import onnx_model
from attar.exports.onnx_runtime import Runtime
from attar.exports.qdq import lifted, prepared
from attar.exports.timing import latencies
from attar.methods.fixed import Fixed
from attar.types import Array, Json, Layer, Stats, Weight

BLOCKS = (128, 64, 32)
CHOICE = {"bits": 4, "rounding": "descent", "range": "mse", "alpha": 0.0}
DOMAIN = "com.microsoft"
ZERO = 8
"""The code of zero where there are no zero points."""
Packed = tuple[NDArray[np.uint8], Array]
"""Codes and scales."""


class OnnxInt4:
    """See the module's docstring."""

    name: ClassVar[str] = "onnx-int4"
    suffix: ClassVar[str] = ".int4.onnx"
    help: ClassVar[str] = "4-bit weights of dense layers in blocks, float activations, for onnxruntime"

    @staticmethod
    def check(adapter: Adapter) -> None:
        """An ONNX model with dense layers; raises ModelError."""
        if not dense_nodes(lifted(onnx_model(adapter, OnnxInt4.name).model())):
            raise ModelError(
                "onnx-int4: the model must have a MatMul or Gemm with stored weights of two axes. Received none. "
                "Export onnx-int8 instead."
            )

    @staticmethod
    def make(task: Task) -> Artefact:
        """The smallest file that is within the drop; the finest blocks where none is."""
        model = prepared(onnx_model(task.adapter, OnnxInt4.name).model())
        inner = OnnxAdapter.open(model)
        names = set(dense_nodes(model).values())
        layers = [layer for layer in inner.layers() if layer.tied_to is None and layer.name in names]
        stats = inner.moments(task.calibrate.batches(256), [layer.name for layer in layers])
        layers = [layer for layer in layers if layer.name in stats]
        weights = {layer.name: inner.read(layer.name) for layer in layers}
        files: dict[int, bytes] = {}
        for block in BLOCKS:
            made: dict[str, Packed] = {}
            for layer in layers:
                made[layer.name], rounded = packed(layer, weights[layer.name], stats[layer.name], block)
                inner.write(layer.name, rounded)
            files[block] = in_blocks(inner.model(), made, block).SerializeToString()
            task.step()
        # Rows that are no multiple of a block are filled up, so that smaller blocks may be smaller files.
        order = sorted(files, key=lambda block: len(files[block]))
        block = next((one for one in order if task.acceptable(files[one])), BLOCKS[-1])
        data = files[block]
        plain = Runtime(model.SerializeToString(), task.threads).once(task.batch)
        calls = {"float": plain, "int4": Runtime(data, task.threads).once(task.batch)}
        ratio = latencies(calls)["int4"].ratio
        facts: dict[str, Json] = {"block": block, "latency_ratio": ratio, "layers": len(layers)}
        return Artefact(data, (f"blocks of {block} weights, in {len(layers)} dense layers",), facts)

    @staticmethod
    def runtime(model: bytes | Path, threads: int) -> Runtime:
        """onnxruntime on the CPU."""
        return Runtime(model, threads)


def dense_nodes(model: onnx.ModelProto) -> dict[int, str]:
    """The index of each MatMul and plain Gemm with a stored weight of two axes, and the weight's name."""
    stored = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    found = {}
    for index, node in enumerate(model.graph.node):
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA")
        if node.op_type in ("MatMul", "Gemm") and len(node.input) > 1 and stored.get(node.input[1]) == 2 and plain:
            found[index] = node.input[1]
    return found


def packed(layer: Layer, weight: Weight, stats: Stats, block: int) -> tuple[Packed, Weight]:
    """Codes and scales of a weight, and the weight and bias that they stand for.

    Codes are two to a byte with the first in the low half, [rows, blocks, block / 2]; scales float32 [rows, blocks].
    """
    encoded = Fixed.encode(layer, weight, stats, {**CHOICE, "part": block})
    units, _ = Fixed.units(encoded)
    parts = -(-layer.cols // block)
    codes = np.full((layer.rows, parts * block), ZERO, np.uint8)
    codes[:, : layer.cols] = encoded.arrays["codes"].astype(np.int16) + ZERO
    pairs = codes.reshape(layer.rows, parts, block // 2, 2)
    halves = np.asarray(pairs[..., 0] | np.left_shift(pairs[..., 1], 4), np.uint8)
    return (halves, np.ascontiguousarray(units[:, ::block], np.float32)), Fixed.decode(encoded)


def in_blocks(model: onnx.ModelProto, made: dict[str, Packed], block: int) -> onnx.ModelProto:
    """A copy in which these weights are codes and their nodes MatMulNBits, with an Add where there is a bias."""
    out = copy.deepcopy(model)
    graph = out.graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    targets = dense_nodes(out)
    for index, node in enumerate(graph.node):
        name = targets.get(index)
        if name is None or name not in made:
            nodes.append(node)
            continue
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        rows, cols = shapes[name] if turned else reversed(shapes[name])
        bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2] else ""
        result = f"{node.output[0]}_without_bias" if bias else node.output[0]
        nodes.append(
            helper.make_node(
                "MatMulNBits", [node.input[0], f"{name}_codes", f"{name}_scales"], [result], name=node.name,
                domain=DOMAIN, K=cols, N=rows, bits=4, block_size=block, accuracy_level=4,
            )
        )  # fmt: skip
        if bias:
            nodes.append(helper.make_node("Add", [result, bias], [node.output[0]], name=f"{node.name}_bias"))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    for name, (codes, scales) in made.items():
        kept.append(numpy_helper.from_array(codes, f"{name}_codes"))
        kept.append(numpy_helper.from_array(scales.ravel(), f"{name}_scales"))
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)
    if not any(opset.domain == DOMAIN for opset in out.opset_import):
        out.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return out
