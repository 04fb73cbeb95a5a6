"""Tables that are looked up (embeddings) as integers in blocks: GatherBlockQuantized of com.microsoft.

Codes have 4 or 8 bits and a float16 scale for each block of a row; what is looked up becomes float32 behind it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from attar.exports.codes import table
from attar.exports.products import DOMAIN, FLOAT, halves, imports
from attar.types import Array

SMALLEST = 1 << 12
"""Values of a table from which on integers are worth their nodes."""
BLOCK = 32


def table_nodes(model: onnx.ModelProto) -> dict[int, str]:
    """The index of each Gather of whole rows of a stored float32 matrix that nothing else reads, and its name."""
    stored = {
        tensor.name: list(tensor.dims) for tensor in model.graph.initializer
        if tensor.data_type == FLOAT and len(tensor.dims) == 2 and np.prod(tensor.dims) >= SMALLEST
    }  # fmt: skip
    others = {value.name for value in model.graph.output}
    found = {}
    for index, node in enumerate(model.graph.node):
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        if node.op_type == "Gather" and axis == 0 and stored.get(node.input[0], [0, 1])[1] % 2 == 0:
            found[index] = node.input[0]
            others.update(node.input[1:])
        else:
            others.update(node.input)
    return {index: name for index, name in found.items() if name in stored and name not in others}


def coded(values: Array, bits: int) -> tuple[Array, Array]:
    """(codes as the file holds them, scales float16 [n, blocks]) of a table [n, width]."""
    codes, scales = table(values, bits, BLOCK)
    unsigned = np.asarray(codes.astype(np.int16) + (1 << (bits - 1)), np.uint8)
    return np.ascontiguousarray(halves(unsigned, bits)), scales.astype(np.float16)


def with_tables(model: onnx.ModelProto, tables: Mapping[str, tuple[Array, Array]]) -> None:
    """Put integers, in place, for tables; tables: name -> what `coded` made."""
    graph, targets = model.graph, table_nodes(model)
    widths = {tensor.name: tensor.dims[1] for tensor in graph.initializer if tensor.name in tables}
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    for index, node in enumerate(graph.node):
        name = targets.get(index, "")
        if name not in tables:
            nodes.append(node)
            continue
        codes, _ = tables[name]
        bits = 8 * codes.shape[1] // widths[name]
        found = f"{node.output[0]}_half"
        nodes.append(
            helper.make_node(
                "GatherBlockQuantized", [f"{name}_codes", node.input[1], f"{name}_scales"], [found], name=node.name,
                domain=DOMAIN, gather_axis=0, quantize_axis=1, block_size=BLOCK, bits=bits,
            )
        )  # fmt: skip
        nodes.append(helper.make_node("Cast", [found], [node.output[0]], name=f"{found}_made", to=FLOAT))
        done.add(name)
    kept = [tensor for tensor in graph.initializer if tensor.name not in done]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    for name in sorted(done):
        codes, scales = tables[name]
        graph.initializer.append(numpy_helper.from_array(codes, f"{name}_codes"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scales"))
    if done:
        imports(model)
