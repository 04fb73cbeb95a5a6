"""Weights that a TFLite file stores without their zeros, made dense.

A sparse tensor is a tree: a level for each axis in the order of traversal, then one for each axis of blocks; a dense
level has every index, a compressed one (CSR) lists them (tensorflow/lite/schema/schema.fbs, SparsityParameters).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.adapters.tflite.reader import MOST_VALUES, np_dtype, type_name
from attar.errors import ModelError
from attar.types import Array

DENSE, COMPRESSED = 0, 1
WIDEST = 4096
"""Elements of a dense weight for each byte that is stored, at most: a few bytes could ask for any amount of memory."""
Places = NDArray[np.int64]


def densified(model: Any, schema: Any) -> Any:
    """The model, in place, with dense weights and without DENSIFY; raises ValueError for a damaged tree."""
    codes = [code.builtinCode for code in model.operatorCodes]
    sparse = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors if tensor.sparsity is not None}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.sparsity is not None:
                values = _dense(tensor, model.buffers[tensor.buffer])
                model.buffers.append(schema.BufferT(data=values.reshape(-1).view(np.uint8)))
                tensor.buffer, tensor.sparsity = len(model.buffers) - 1, None
        kept, instead = [], {}
        for operator in graph.operators:
            operator.inputs = [instead.get(index, index) for index in operator.inputs]
            if codes[operator.opcodeIndex] == schema.BuiltinOperator.DENSIFY:
                instead[operator.outputs[0]] = operator.inputs[0]
            else:
                kept.append(operator)
        graph.operators = kept
        graph.outputs = [instead.get(index, index) for index in graph.outputs]
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    for number in sparse - used:
        model.buffers[number].data = None
    return model


def _dense(tensor: Any, buffer: Any) -> Array:
    """A tensor's values [shape] with their zeros."""
    tree, shape = tensor.sparsity, tuple(int(size) for size in tensor.shape)
    kind = type_name(tensor)
    if kind not in ("FLOAT32", "FLOAT16", "INT8"):
        raise ModelError(
            f"tensor {tensor.name!r}: sparse weights must be float32, float16 or int8. Received {kind or 'others'}. "
            "Convert the model without sparsity."
        )
    dtype = np_dtype(kind)
    stored = np.zeros(0, dtype) if buffer.data is None else np.asarray(buffer.data).view(dtype)
    size = int(np.prod(shape, dtype=np.int64))
    if size > min(MOST_VALUES, WIDEST * (stored.nbytes + 1)):
        raise ValueError(f"tensor {tensor.name!r} with {len(stored)} values for {size} places")
    order = [int(axis) for axis in tree.traversalOrder]
    blocks = [] if tree.blockMap is None else [int(axis) for axis in tree.blockMap]
    levels = tree.dimMetadata
    if sorted(order) != list(range(len(shape) + len(blocks))) or len(levels) != len(order):
        raise ValueError(f"tensor {tensor.name!r} with {len(levels)} levels for {len(shape)} axes")
    if any(not 0 <= axis < len(shape) for axis in blocks):
        raise ValueError(f"tensor {tensor.name!r} with blocks of no axis")
    inner = [int(levels[order.index(len(shape) + k)].denseSize) for k in range(len(blocks))]
    lengths = [*shape, *inner]
    for k, axis in enumerate(blocks):
        if inner[k] < 1 or shape[axis] % inner[k]:
            raise ValueError(f"tensor {tensor.name!r} with blocks of {inner[k]} in {shape[axis]}")
        lengths[axis] = shape[axis] // inner[k]
    places = _places(levels, order, lengths, size)
    if len(places[0]) != len(stored):
        raise ValueError(f"tensor {tensor.name!r} with {len(stored)} values for {len(places[0])} places")
    index = list(places[: len(shape)])
    for k, axis in enumerate(blocks):
        index[axis] = index[axis] * inner[k] + places[len(shape) + k]
    values = np.zeros(shape, dtype)
    values[tuple(index)] = stored
    return values


def _places(levels: Any, order: list[int], lengths: list[int], most: int) -> list[Places]:
    """The index along each axis (blocks' axes behind the others) of every stored value, in their order."""
    found: dict[int, Places] = {}
    nodes = 1
    for axis, level in zip(order, levels, strict=True):
        length = lengths[axis]
        if level.format == DENSE:
            if level.denseSize != length or nodes * length > most:
                raise ValueError(f"a level of {level.denseSize} for an axis of {length}")
            parent, index = np.repeat(np.arange(nodes), length), np.tile(np.arange(length), nodes)
        else:
            ends = np.asarray(level.arraySegments.values, np.int64)
            index = np.asarray(level.arrayIndices.values, np.int64)
            counts = np.diff(ends)
            if len(ends) != nodes + 1 or ends[0] or counts.min(initial=0) < 0 or ends[-1] != len(index):
                raise ValueError("segments that do not fit")
            if len(index) > most or index.min(initial=0) < 0 or index.max(initial=0) >= length:
                raise ValueError("an index outside of its axis")
            parent = np.repeat(np.arange(nodes), counts)
        found = {one: values[parent] for one, values in found.items()}
        found[axis] = index
        nodes = len(index)
    return [found[axis] for axis in range(len(lengths))]
