"""Float nodes between integers that stay so: onnxruntime would round their weights itself.

From version 1.21 on it takes a Conv, ConvTranspose or Gemm with float weights between DequantizeLinear and
QuantizeLinear for a node that somebody forgot, and gives it int8 weights with one scale for the whole tensor (its
WeightBiasQuantization, github.com/microsoft/onnxruntime/pull/22969): what was kept in float for the drop is then worse
than our own rounding. It leaves alone what reads an input with a scale for each channel, and so such an input is made:
the same scale for all of them.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

ROUNDED = ("Conv", "ConvTranspose", "Gemm")
"""Operators whose float weights onnxruntime rounds."""


def unfused(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, in place, with an input that is dequantised by channel for each node with float weights.

    A node with a single input channel has but one scale, and is left as it is.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    made: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        maker = makers.get(node.input[0]) if node.op_type in ROUNDED else None
        weight = stored.get(node.input[1]) if maker is not None else None
        if maker is None or weight is None or weight.data_type != onnx.TensorProto.FLOAT:
            continue
        if maker.input[0] in stored or any(name not in stored for name in maker.input[1:]):
            continue
        count = _channels(node, weight)
        if count < 2 or numpy_helper.to_array(stored[maker.input[1]]).size != 1:
            continue
        name = f"{maker.output[0]}_by_{count}_channels"
        if name not in made:
            made[name] = _by_channel(maker, name, count, stored, graph)
        node.input[0] = name
    if made:
        _placed(model, list(made.values()))
    return model


def _channels(node: onnx.NodeProto, weight: onnx.TensorProto) -> int:
    """How many values the input's axis 1 has; 0 for an input that is turned, whose axis 1 is the batch."""
    given = {a.name: a.i for a in node.attribute if a.name in ("group", "transA", "transB")}
    if node.op_type == "Conv":
        return int(weight.dims[1]) * int(given.get("group", 1))
    if node.op_type == "ConvTranspose":
        return int(weight.dims[0])
    return 0 if given.get("transA", 0) else int(weight.dims[1 if given.get("transB", 0) else 0])


def _by_channel(
    maker: onnx.NodeProto, name: str, count: int, stored: dict[str, onnx.TensorProto], graph: onnx.GraphProto
) -> onnx.NodeProto:
    """A DequantizeLinear of the same values with `count` scales on axis 1; its constants are put into the graph."""
    inputs = [maker.input[0]]
    for what, source in zip(("scale", "zero"), maker.input[1:], strict=False):
        value = numpy_helper.to_array(stored[source]).reshape(-1)
        graph.initializer.append(numpy_helper.from_array(np.repeat(value, count), f"{name}_{what}"))
        inputs.append(f"{name}_{what}")
    return helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}_node", axis=1)


def _placed(model: onnx.ModelProto, made: list[onnx.NodeProto]) -> None:
    """Each new node in front of the first that reads it, without those that nothing reads any more."""
    graph, nodes, waiting = model.graph, [], {node.output[0]: node for node in made}
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            if name in waiting:
                nodes.append(waiting.pop(name))
        if node.op_type != "DequantizeLinear" or node.output[0] in read:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
