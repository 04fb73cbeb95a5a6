"""The `dense` coder: integers a bit at a time under adaptive, mixed contexts; smaller than `rans` and far slower.

For small models and thin lines: it decodes some million values a second. A head gives what is known beforehand (the
centre, the unit, the mean magnitude, the distance at which columns resemble each other), then come the coded bits
(dense_twin.py, native/dense.hpp).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from attar.coding import kernel, values
from attar.coding.dense_twin import LARGEST, mean_of
from attar.coding.streams import Reader, signed, varint
from attar.coding.symbols import I64
from attar.errors import FormatError
from attar.types import Array

MOST = 1 << 24
"""Values of an array: beyond, decoding takes too many seconds, and a small file might ask for them."""
NEAREST, FARTHEST = 3, 1024
"""Distances between columns that are tried."""
_CENTRED, _SHIFTED, _PERIODIC = 32, 64, 128
_SAMPLE = 1 << 16
_OUTLYING = 8


class Dense:
    """See the module's docstring."""

    name: ClassVar[str] = "dense"
    slow: ClassVar[bool] = True

    @staticmethod
    def accepts(array: Array) -> bool:
        """Integers and booleans that lie within 2**30 of each other, 2**24 at most."""
        if array.dtype.kind not in "biu" or array.size > MOST:
            return False
        return not array.size or int(array.max()) - int(array.min()) < LARGEST

    @staticmethod
    def encode(array: Array) -> bytes:
        """The array's values, without its dtype and shape; an empty array is no bytes."""
        if not array.size:
            return b""
        values = np.ascontiguousarray(array.reshape(_matrix(array.shape)), np.int64)
        centre = int(np.sort(values, axis=None)[values.size // 2])
        values = values - centre
        shift, level = _size(values)
        period = _period(values)
        head = bytes([level | _CENTRED * (centre != 0) | _SHIFTED * (shift != 0) | _PERIODIC * (period != NEAREST)])
        head += signed(centre) if centre else b""
        head += varint(shift) if shift else b""
        head += varint(period) if period != NEAREST else b""
        data: bytes = kernel.kernel().dense_encode(values, shift, level, period)
        return head + data

    @staticmethod
    def decode(data: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
        """The exact array; raises FormatError where the bytes cannot be it."""
        reader = Reader(data)
        out = np.empty(shape, np.dtype(dtype))
        if out.size > MOST:
            raise FormatError(
                f"dense: an array may have {MOST} values. Received a shape of {out.size}. Fetch the file again."
            )
        if out.size:
            values.store(_values(reader, _matrix(shape)), out.reshape(-1))
        reader.finish()
        return out


def _values(reader: Reader, shape: tuple[int, int]) -> I64:
    """The values [rows * cols]; raises FormatError."""
    head = reader.take(1)[0]
    centre = reader.signed() if head & _CENTRED else 0
    shift = reader.varint() if head & _SHIFTED else 0
    period = reader.varint() if head & _PERIODIC else NEAREST
    if not (-(2**63) <= centre < 2**63 and shift <= 28 and NEAREST <= period <= 4096):
        raise FormatError(
            "dense: the centre must have 64 bits, the shift be 28 at most, the period 3 to 4096. "
            f"Received {centre}, {shift} and {period}. Fetch the file again."
        )
    coded = np.frombuffer(reader.rest(), np.uint8)
    values = np.empty(shape, np.int64)
    with kernel.refused(f"{values.size} values, densely coded", coded.size):
        kernel.kernel().dense_decode(coded, values, shift, head & 31, period)
    return (values.reshape(-1).view(np.uint64) + np.uint64(centre % 2**64)).view(np.int64)


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns; what is not a matrix is one row."""
    if len(shape) == 2 and min(shape) > 1:
        return shape[0], shape[1]
    return 1, int(np.prod(shape, dtype=object))


def _size(values: I64) -> tuple[int, int]:
    """The bits below a unit, so that the mean magnitude is three units at most, and the mean's level.

    A few large values count as if they were not much larger than most.
    """
    magnitude, count = np.abs(values).ravel(), values.size
    most = np.partition(magnitude, count - 1 - count // 10)[count - 1 - count // 10]
    total = int(np.minimum(magnitude, _OUTLYING * (most + 1)).sum())
    shift = 0
    while total > 3 * count << shift:
        shift += 1
    level = next((k for k in range(31) if total << 16 <= count * mean_of(k) * 304 << shift), 31)
    return shift, level


def _period(values: I64) -> int:
    """The distance at which signs in a row agree (or disagree) most, from a sample of rows; the nearest by default."""
    rows, cols = values.shape
    step = -(-rows * cols // _SAMPLE)
    signs = np.sign(values[::step]).astype(np.float32)
    agreed = np.array([
        np.vdot(signs[:, lag:], signs[:, :-lag]) for lag in range(NEAREST, min(FARTHEST, cols // 2) + 1)
    ])  # fmt: skip
    if not agreed.size:
        return NEAREST
    best = int(np.abs(agreed).argmax())
    # Five standard deviations of signs that are independent; sums of signs are exact in float32.
    return NEAREST + best if agreed[best] ** 2 > 25 * np.count_nonzero(signs) else NEAREST
