"""What arrays cost in a file, by the entropy model of attar/entropy.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attar import entropy
from attar.types import Array, Encoded

HEADER_BITS = 64
"""What a coded array costs beside its values."""


def coded_bits(encoded: Encoded) -> float:
    """Bits of all arrays: matrices called codes in rank-1 classes or without, other integers by their histogram."""
    return sum(_bits(array, name.endswith("codes")) for name, array in encoded.arrays.items())


def _bits(array: Array, classed: bool) -> float:
    if array.dtype.kind == "f":
        return float(8 * array.nbytes)
    plain = HEADER_BITS + entropy.ideal_bits(array, None)
    if not classed or array.ndim != 2 or not array.size:
        return plain
    row_level, column_level = entropy.levels(array)
    bits = entropy.ideal_bits(array, entropy.classes(row_level, column_level))
    side = sum(entropy.ideal_bits(one, None) for one in (row_level, column_level))
    return min(plain, HEADER_BITS + bits + side)


def prices(codes: Array, low: int, high: int, slope: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Price [CLASSES, high - low + 1] of codes low .. high in nats, and the class of every place.

    codes [groups, cols, rows] are those of the last pass; low is 0 or less.
    """
    groups, cols, rows = codes.shape
    flat = codes.transpose(0, 2, 1).reshape(-1, cols)
    radius = max(-low, high, 1)
    class_of = entropy.classes(*entropy.levels(flat))
    table = entropy.bits_table(flat, class_of, radius)[:, radius + low : radius + high + 1]
    return np.asarray(np.float32(slope) * table), class_of.reshape(groups, rows, cols).transpose(0, 2, 1)
