"""Integers as symbols of a small alphabet: a window of consecutive values, and an escape for those outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attar.coding import kernel, streams
from attar.coding.streams import Coder
from attar.coding.windows import WIDEST
from attar.types import Array

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, order=True)
class Alphabet:
    """The values low .. low + width - 1 are the symbols 0 .. width - 1; `width` is the escape, where there is one."""

    low: int
    width: int
    escape: bool

    @property
    def size(self) -> int:
        """Symbols, the escape among them."""
        return self.width + self.escape

    def bytes(self, values: Array) -> tuple[U8, int]:
        """Integers of any dtype as bytes, and a shift: less this, modulo 256, and at most width they are symbols."""
        words = values.view(f"u{values.itemsize}")
        low = self.low % (1 << (8 * values.itemsize))
        if values.itemsize == 1:
            return words, low
        distance = words - words.dtype.type(low)
        return (np.minimum(distance, words.dtype.type(self.width)) if self.escape else distance).astype(np.uint8), 0

    def distances(self, outside: Array) -> NDArray[np.uint64]:
        """Of escaped values from the window, zigzag."""
        distance = outside.astype(np.int64).view(np.uint64) - np.uint64(self.low % (1 << 64))
        signed = distance.view(np.int64)
        signed = np.where(signed > 0, signed - self.width, signed)
        return ((signed << 1) ^ (signed >> 63)).view(np.uint64)

    def window(self) -> I64:
        """The values of the symbols [width], two's complement."""
        return (np.arange(self.width, dtype=np.uint64) + np.uint64(self.low & (2**64 - 1))).view(np.int64)

    @property
    def zero(self) -> int:
        """The symbol whose value is the nearest to zero."""
        return min(max(-self.low, 0), self.width - 1)

    def describe(self, coder: Coder) -> Alphabet:
        """Writes itself, or reads another."""
        low = coder.integer(streams.LOW, self.low, 1 << 63)
        width = 1 + coder.natural(streams.WIDTH, self.width - 1, WIDEST - 1)
        return Alphabet(low, width, bool(coder.bits(1, int(self.escape))))


class Counted(NamedTuple):
    """The distinct values, ascending, and how often each occurs."""

    distinct: I64
    counts: I64

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest value."""
        return int(self.distinct[0]), int(self.distinct[-1])


def choose(values: Counted, price: int = 0) -> Alphabet:
    """The window whose code is expected to be shortest; see windows.py."""
    return Alphabet(*kernel.kernel().choose_window(values.distinct, values.counts, price))


def counted(values: Array) -> Counted:
    """Each of the values [n], n > 0, with how often it occurs."""
    if values.itemsize == 1:
        counts = np.zeros(256, np.int64)
        kernel.kernel().histogram(values.view(np.uint8), counts)
        low = -128 if values.dtype.kind == "i" else 0
        counts = np.concatenate((counts[-low:], counts[:-low])) if low else counts
    else:
        low, high = int(values.min()), int(values.max())
        if high - low >= 1 << 16:
            distinct, counts = np.unique(values, return_counts=True)
            return Counted(distinct.astype(np.int64), counts)
        counts = np.bincount(values.astype(np.int64) - low)
    distinct = np.flatnonzero(counts)
    return Counted(distinct + low, counts[distinct])


def lengths_of(escaped: NDArray[np.uint64]) -> U8:
    """Bit lengths 0 .. 64."""
    length = np.zeros(escaped.size, np.uint8)
    rest = escaped.copy()
    for step in (32, 16, 8, 4, 2, 1):
        big = rest >= np.uint64(1) << np.uint64(step)
        length[big] += np.uint8(step)
        rest[big] >>= np.uint64(step)
    return np.asarray(length + (rest > 0), np.uint8)


def mantissas(escaped: NDArray[np.uint64], lengths: U8) -> bytes:
    """The bits below each leading one, plane by plane from the lowest."""
    planes = [
        (escaped[lengths > plane + 1] >> np.uint64(plane) & np.uint64(1)).astype(np.uint8)
        for plane in range(max(int(lengths.max(initial=0)) - 1, 0))
    ]
    return np.packbits(np.concatenate(planes)).tobytes() if planes else b""
