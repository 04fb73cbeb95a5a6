"""Numbers that are packed bit by bit: native/bits.hpp in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attar.coding.layout import Malformed

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]
ONE = np.uint64(1)


def unpack(data: memoryview, width: int, out: U64) -> None:
    """Fill out with packed numbers of `width` bits, the highest first; raises Malformed."""
    if not 1 <= width <= 64:
        raise Malformed("packed numbers must have 1 to 64 bits")
    bits = _bits(data, out.size * width).reshape(out.size, width)
    shifts = np.arange(width - 1, -1, -1, dtype=np.uint64)
    out[:] = (bits.astype(np.uint64) << shifts).sum(1, dtype=np.uint64)


def read_escapes(data: memoryview, lengths: U8, low: int, width: int, values: U64) -> None:
    """Fill values, two's complement, with those outside of a window, by their bit lengths; raises Malformed."""
    if lengths.max(initial=0) > 64:
        raise Malformed("an escaped value must have at most 64 bits")
    shift = np.maximum(lengths, 1).astype(np.uint64) - ONE
    bits = _bits(data, int(shift.sum()))
    far = np.where(lengths > 0, ONE << shift, np.uint64(0))
    at = 0
    for plane in range(max(int(lengths.max(initial=0)) - 1, 0)):
        here = np.flatnonzero(lengths > plane + 1)
        far[here] |= bits[at : at + here.size].astype(np.uint64) << np.uint64(plane)
        at += here.size
    negative = far & ONE
    values[:] = (far >> ONE ^ (np.uint64(0) - negative)) + (ONE - negative) * np.uint64(width) + np.uint64(low % 2**64)


def _bits(data: memoryview, count: int) -> U8:
    if len(data) != (count + 7) // 8:
        raise Malformed("the packed bits must be as many as their bytes")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count)
