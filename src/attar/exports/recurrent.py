"""LSTM nodes with 8-bit weights: DynamicQuantizeLSTM of com.microsoft, which makes activations integers as they come.

onnxruntime has no such kernel for GRU and RNN: they stay in float.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from attar.exports.products import DOMAIN, FLOAT, imports
from attar.types import Array

PLACES = (1, 2)
"""Inputs of the node that are weights [directions, 4 * hidden, inputs]: of the inputs, and of the states."""
OPERANDS = 8
"""Inputs of an LSTM; scales and zero points come behind them."""


def lstm_nodes(model: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """Names of LSTM nodes with both weights stored as float32 and the examples on the second axis, and the weights'."""
    stored = {tensor.name for tensor in model.graph.initializer if tensor.data_type == FLOAT}
    found = {}
    for node in model.graph.node:
        inputs = [*node.input, *[""] * OPERANDS]
        turned = any(a.name == "layout" and a.i for a in node.attribute)
        # Peepholes and the other layout are rare: such nodes stay in float.
        plain = node.op_type == "LSTM" and not turned and not inputs[7]
        if plain and inputs[1] in stored and inputs[2] in stored:
            found[node.name] = inputs[1], inputs[2]
    return found


def with_lstm(model: onnx.ModelProto, scales: Mapping[str, Array], nodes: Collection[str]) -> None:
    """Put integers, in place, for these nodes; scales: weight -> [directions * 4 * hidden], its rows' steps."""
    graph, targets = model.graph, lstm_nodes(model)
    values = {tensor.name: tensor for tensor in graph.initializer}
    done: dict[str, onnx.TensorProto] = {}
    for node in graph.node:
        if node.name not in nodes or node.name not in targets:
            continue
        inputs = [*node.input, *[""] * (OPERANDS - len(node.input))]
        for place in PLACES:
            name = node.input[place]
            weight = numpy_helper.to_array(values[name])
            scale = np.asarray(scales[name], np.float32).reshape(weight.shape[:2])
            codes = np.clip(np.rint(weight / scale[..., None]), -127, 127).astype(np.int8)
            turned = np.ascontiguousarray(codes.transpose(0, 2, 1))
            zeros = np.zeros(scale.shape, np.int8)
            made: dict[str, Array] = {"codes": turned, "scales": scale, "zeros": zeros}
            done |= {f"{name}_{part}": numpy_helper.from_array(array, f"{name}_{part}") for part, array in made.items()}
            inputs[place] = f"{name}_codes"
            inputs += [f"{name}_scales", f"{name}_zeros"]
        del node.input[:]
        node.input.extend(inputs)
        node.op_type, node.domain = "DynamicQuantizeLSTM", DOMAIN
        # The layout is 0, and no attribute of the integer operator.
        kept = [attribute for attribute in node.attribute if attribute.name != "layout"]
        del node.attribute[:]
        node.attribute.extend(kept)
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    rest = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend([*rest, *done.values()])
    if done:
        imports(model)


def as_before(model: onnx.ModelProto) -> str:
    """A note on recurrent nodes that have no integer kernel; empty where there are none."""
    lstm = lstm_nodes(model)
    left = [node for node in model.graph.node if node.op_type in ("GRU", "RNN", "LSTM") and node.name not in lstm]
    kinds = ", ".join(sorted({node.op_type for node in left}))
    return f"{kinds} stays in float: onnxruntime has no integer kernel for it" if left else ""
