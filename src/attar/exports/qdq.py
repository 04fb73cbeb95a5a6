"""Float ONNX models as ones that runtimes execute in 8-bit integers: QuantizeLinear and DequantizeLinear around nodes.

onnxruntime's quantiser puts the nodes in; weights, scales and ranges are ours. Weights are symmetric int8 with a scale
for each output channel, activations asymmetric uint8: this pair has fast kernels on x86 and ARM. With int8 activations
the example ResNet-20 ran slower than in float.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from onnx import numpy_helper

from attar.errors import ModelError
from attar.exports.ranges import Range
from attar.exports.tidy import tidied
from attar.types import Array

CORE = ("Conv", "Gemm", "MatMul")
CARRYING = (
    "MaxPool", "Relu", "Clip", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Pad", "Slice", "Split",
    "DepthToSpace", "SpaceToDepth",
)  # fmt: skip
"""Operators that integers pass through without arithmetic."""
ALL = (
    *CORE, *CARRYING, "AveragePool", "GlobalAveragePool", "Resize", "Add", "Mul", "Concat", "LeakyRelu", "Sigmoid",
    "HardSwish", "HardSigmoid", "Softmax",
)  # fmt: skip
"""These and those with integer kernels of their own."""
FIRST = ("the first layer", "the first two layers", "the first three layers")
FLOAT = onnx.TensorProto.FLOAT
OPSET = 13
"""The first whose DequantizeLinear has an axis."""


@dataclass(frozen=True)
class Grid:
    """The int8 grid of a weight: its initializer, the axis of the output channels and a scale for each of them."""

    weight: str
    axis: int
    scales: Array

    def overrides(self) -> list[dict[str, Any]]:
        """As onnxruntime's quantiser takes them."""
        from onnxruntime.quantization import QuantType  # type: ignore[import-untyped]

        zero = np.array(0, np.int8)
        return [
            {"axis": self.axis, "quant_type": QuantType.QInt8, "scale": np.array(scale, np.float32), "zero_point": zero}
            for scale in self.scales
        ]


def lifted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, in place, with the tensors of its Constant nodes stored as initializers."""
    kept = []
    for node in model.graph.node:
        values = [a.t for a in node.attribute if a.name == "value"] if node.op_type == "Constant" else []
        if values and node.domain in ("", "ai.onnx"):
            model.graph.initializer.add().CopyFrom(values[0])
            model.graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float model with shapes, names for all nodes, and what onnxruntime and tidy.py fuse without changing values.

    Raises ModelError where onnxruntime cannot.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given, made = Path(folder, "given.onnx"), Path(folder, "made.onnx")
        try:
            onnx.save(_recent(lifted(model)), str(given))
            quant_pre_process(str(given), str(made), skip_symbolic_shape=True)
        except Exception as error:
            raise ModelError(
                f"model: onnxruntime must be able to prepare it. Received: {str(error).splitlines()[0][:300]} "
                "Check it with onnx.checker."
            ) from error
        found = onnx.load(str(made))
    stored = {tensor.name for tensor in found.graph.initializer}
    given_in = [value for value in found.graph.input if value.name not in stored]
    del found.graph.input[:]  # before version 4 of the format weights were listed there too
    found.graph.input.extend(given_in)
    found = tidied(found)
    taken = {node.name for node in found.graph.node if node.name}
    for index, node in enumerate(found.graph.node):
        if not node.name:
            name = f"{node.op_type}_{index}"
            node.name = name if name not in taken else f"{name}_attar"
            taken.add(node.name)
    return found


def _recent(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an operator set that knows scales for each channel."""
    old = next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), OPSET)
    return model if old >= OPSET else onnx.version_converter.convert_version(model, OPSET)


def weight_axes(model: onnx.ModelProto) -> dict[str, tuple[str, int]]:
    """The node and the axis of the output channels of each stored float32 weight of a Conv, Gemm or MatMul."""
    stored = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == FLOAT}
    found: dict[str, tuple[str, int]] = {}
    for node in model.graph.node:
        axes = stored.get(node.input[1], 0) if node.op_type in CORE and len(node.input) > 1 else 0
        if not axes or (node.op_type != "Conv" and axes != 2) or _scaled(node):
            continue
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        axis = 0 if node.op_type == "Conv" or turned else axes - 1
        found[node.input[1]] = (node.name, axis)
    return found


def scaled(model: onnx.ModelProto) -> list[str]:
    """Names of Gemm nodes with factors, whose bias onnxruntime's quantiser gets wrong: they stay in float."""
    return [node.name for node in model.graph.node if _scaled(node)]


def _scaled(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gemm" and any(a.name in ("alpha", "beta") and a.f != 1 for a in node.attribute)


def kinds_of(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Names of nodes with weights by what may make them slow in integers; each kind is less than all of them.

    First layers have few channels at the highest resolution: float kernels are as fast, and what they hand on is
    rounded to 8 bits, and laid out anew for integer kernels, where it is smaller.
    """
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in CORE and len(node.input) > 1]
    nodes = [node for node in nodes if node.input[1] in shapes]
    names = [node.name for node in nodes]
    found = {told: names[:count] for count, told in enumerate(FIRST, 1)}
    found["depthwise convolutions"] = [node.name for node in nodes if _depthwise(node, shapes[node.input[1]])]
    found["dense layers"] = [node.name for node in nodes if node.op_type != "Conv"]
    return {kind: some for kind, some in found.items() if 0 < len(some) < max(len(names), 2)}


def _depthwise(node: onnx.NodeProto, shape: Sequence[int]) -> bool:
    return node.op_type == "Conv" and shape[1] == 1 and shape[0] > 1 and _groups(node) > 1


def _groups(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "group"), 1)


def quantised(
    model: onnx.ModelProto, grids: Iterable[Grid], ranges: Mapping[str, Range], ops: Sequence[str],
    floats: Collection[str] = (),
) -> onnx.ModelProto:  # fmt: skip
    """The model in integers but for the nodes named in `floats`; ranges are those of its activations."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import (  # type: ignore[import-untyped]
        CalibrationMethod,
        TensorData,
        TensorsData,
    )
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer  # type: ignore[import-untyped]

    # Of what an operator of another domain makes, the type is not known, and so no range: what reads it stays in float.
    blind = [node.name for node in model.graph.node if node.op_type in CORE and node.input[0] not in ranges]
    told = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}
    options = {
        "TensorQuantOverrides": {grid.weight: grid.overrides() for grid in grids},
        # It would widen our scales for the sake of biases that are beyond 32 bits, which ours are never.
        "QDQDisableWeightAdjustForInt32Bias": True,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantiser = QDQQuantizer(
            copy.deepcopy(model), True, False, QuantType.QInt8, QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, told), [], [*floats, *scaled(model), *blind], list(ops), options,
        )  # fmt: skip
        quantiser.quantize_model()
    return slim(quantiser.model.model)


def slim(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, in place, without notes, inferred shapes, what is not used, and zero points of zero at convolutions.

    Zero points of zero are the default; onnxruntime 1.32 fuses dense layers only where they are written out.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    users = {name: node.op_type for node in graph.node for name in node.input}
    for node in graph.node:
        symmetric = node.op_type == "DequantizeLinear" and node.input[0] in stored and len(node.input) > 2
        if symmetric and users.get(node.output[0]) == "Conv" and not numpy_helper.to_array(stored[node.input[2]]).any():
            del node.input[2]
        node.doc_string = ""
        del node.metadata_props[:]
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    for field in (graph.initializer, graph.value_info, model.metadata_props, graph.metadata_props):
        del field[:]
    graph.initializer.extend(kept)
    return model
