"""Batches in pieces, on TensorFlow: its CPU allocator keeps for good the most that was ever taken at once.

With oneDNN, which is TensorFlow's default on x86, tensors come from an arena that grows and never shrinks
(MklCPUAllocator), so that the widest moment of a run stays resident until the process ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from operator import itemgetter
from typing import Any

import keras

SIZES = (64, 8, 1)
"""Examples in a piece: few sizes, since every size is traced anew."""
PIECE_BYTES = 2**26
"""The most that one layer's output may take in a piece, if one example does not take more."""


def pieces(model: Any, inputs: Any) -> Iterator[Any]:
    """The examples of a batch in order, as many at once as memory and the model allow."""
    count, start = len(keras.tree.flatten(inputs)[0]), 0
    most = _most(model)
    if most is None or not count:
        yield inputs
        return
    for size in SIZES:
        while size <= most and count - start >= size:
            yield keras.tree.map_structure(itemgetter(slice(start, start + size)), inputs)
            start += size


def _most(model: Any) -> int | None:
    """Examples in a piece; None where the model takes another number only, or memory is not TensorFlow's on a CPU."""
    if keras.backend.backend() != "tensorflow" or has_fixed_batch(model):
        return None
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        return None
    largest = _largest_output(model)
    return next((size for size in SIZES if size * largest <= PIECE_BYTES), 1)


def has_fixed_batch(model: Any) -> bool:
    """Whether the model takes one number of examples only."""
    return any(tensor.shape[0] is not None for tensor in getattr(model, "inputs", None) or [])


def _largest_output(model: Any) -> int:
    """Bytes of a layer's largest output for one example, in float32; what Keras has no shape of counts as nothing."""
    nodes = [node for layer in model._flatten_layers() for node in layer._inbound_nodes]
    shapes = [tensor.shape[1:] for node in nodes for tensor in node.outputs]
    return max((4 * prod(axis or 1 for axis in shape) for shape in shapes), default=0)
