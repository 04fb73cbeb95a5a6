"""Batches in pieces, on TensorFlow above all, whose CPU allocator keeps for good the most that was ever taken at once.

With oneDNN, which is TensorFlow's default on x86, tensors come from an arena that grows and never shrinks
(MklCPUAllocator), so that the widest moment of a run stays resident until the process ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from operator import itemgetter
from typing import Any

import keras

from attar.adapters.parts import together

RUN, SHOWN = 64, 32
"""Examples in a piece, and where what layers get is shown, which stays until the run ends."""
SMALLER = (8, 1)
"""Examples in a piece where outputs are larger, and in what is left at the end: few sizes, as each is traced anew."""
PIECE_BYTES = 2**26
"""The most that one layer's output may take in a piece, if one example does not take more."""


def pieces(model: Any, inputs: Any, *, most: int = RUN, even: bool = False) -> Iterator[tuple[Any, int]]:
    """The examples of a batch in order, as many at once as memory and the model allow, and how many a piece has.

    most: examples in a piece, at most. even: no piece has another number of them than `most` or those of SMALLER; else
    what is left at the end is one piece.
    """
    given = keras.tree.flatten(inputs)
    for start, stop in _spans(len(given[0]), _allowed(model, given, most), even=even):
        yield keras.tree.map_structure(itemgetter(slice(start, stop)), inputs), stop - start


def _spans(count: int, most: int, *, even: bool) -> Iterator[tuple[int, int]]:
    """Where each piece of so many examples starts and stops; one for no example at all."""
    start = 0
    for size in [most, *(size for size in SMALLER if even and size < most)]:
        while size and count - start >= size:
            yield start, start + size
            start += size
    if start < count or not count:
        yield start, count


def _allowed(model: Any, given: Sequence[Any], most: int) -> int:
    """Examples in a piece: all where no other number will do; else few, where memory is kept or inputs are large."""
    count = len(given[0])
    if has_fixed_batch(model):
        return count
    if not _traced_on_cpu():
        return together(given, count, count)
    largest = _largest_output(model)
    return next((size for size in (most, *SMALLER) if size * largest <= PIECE_BYTES), 1)


def _traced_on_cpu() -> bool:
    """Whether this is TensorFlow, which keeps memory, or JAX, which compiles a program for each size, on a CPU."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return str(jax.default_backend()) == "cpu"
    if backend != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_logical_devices("GPU")


def has_fixed_batch(model: Any) -> bool:
    """Whether the model takes one number of examples only."""
    return any(tensor.shape[0] is not None for tensor in getattr(model, "inputs", None) or [])


def _largest_output(model: Any) -> int:
    """Bytes of a layer's largest output for one example, in float32; what Keras has no shape of counts as nothing."""
    nodes = [node for layer in model._flatten_layers() for node in layer._inbound_nodes]
    shapes = [tensor.shape[1:] for node in nodes for tensor in node.outputs]
    return max((4 * prod(axis or 1 for axis in shape) for shape in shapes), default=0)
