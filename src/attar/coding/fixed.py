"""Logarithms in fixed point: native/log2.hpp in numpy, so that the choices of an encoder are those of every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
FRACTION = 16
ONE = 1 << FRACTION
_TABLE = np.zeros(4097, np.int64)
_TABLE[1:] = np.rint(np.log2(np.arange(1, 4097)) * ONE)


def log2_fixed(numbers: I64) -> I64:
    """2**16 log2 of int64 numbers >= 1, interpolated between 4096 steps to the octave."""
    shift = np.zeros(numbers.shape, np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        shift += step * (numbers >> shift >> step >= 4096)
    shift += numbers >> shift >= 4096
    top = numbers >> shift
    rest = numbers - (top << shift)
    slope = np.where(shift > 0, _TABLE[np.minimum(top + 1, 4096)] - _TABLE[top], 0)
    return np.asarray(_TABLE[top] + (slope * rest >> shift) + (shift << FRACTION), np.int64)
