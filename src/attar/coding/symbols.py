"""Integers as symbols of a small alphabet: a window of consecutive values, and an escape for those outside."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import log2
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attar.coding import kernel, streams
from attar.coding.streams import Coder
from attar.types import Array

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
WIDEST, NARROW = 255, 63
"""Values in a window: with the escape a symbol is one byte, or one of the 64 whose tables fit vector registers."""
NARROWING = 1.002
"""How much longer the code of a narrow window may be: it decodes about twice as fast."""
ESCAPE_NS = 40
"""Nanoseconds that an escaped value takes, to be found, read and put in its place."""
TAILS = (0, 1, 2, 4, 8, 16, 32)
"""Outliers that are tried as escapes, on both sides together."""


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

    def counts(self, counted: Counted) -> I64:
        """How often each symbol occurs [size]."""
        i, j = bisect_left(counted.distinct, self.low), bisect_left(counted.distinct, self.low + self.width)
        found = np.zeros(self.size, np.int64)
        found[counted.distinct[i:j] - self.low] = counted.counts[i:j]
        if self.escape:
            found[self.width] = counted.counts.sum() - counted.counts[i:j].sum()
        return found

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
    """The window whose code is expected to be shortest, by the entropy within and the outliers' distances without.

    A narrow one may take some bits more; with a price, any, where a byte less would cost more nanoseconds of decoding.
    """
    distinct, counts = values
    most = int(counts.sum()) // 4
    options = _windows(distinct, counts, np.array([tail for tail in TAILS if tail <= most]))
    bits = _bits(distinct, counts, options)
    if price:
        bits = [own + 8 / price * _nanoseconds(distinct, counts, one) for own, one in zip(bits, options, strict=True)]
        return min(zip(bits, options, strict=True))[1]
    priced = sorted(zip(bits, options, strict=True))
    narrow = [one for bits, one in priced if one.width <= NARROW and bits <= NARROWING * priced[0][0]]
    return narrow[0] if narrow else priced[0][1]


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


def _windows(distinct: I64, counts: I64, tails: I64) -> list[Alphabet]:
    """The windows that leave about so many outliers outside, and those cut to the widest where most values are."""
    total = np.cumsum(counts)
    first = np.searchsorted(total, tails // 2, side="right")
    last = np.searchsorted(total, total[-1] - (tails - tails // 2), side="left")
    pairs = set(zip(np.minimum(first, last).tolist(), np.maximum(first, last).tolist(), strict=True))
    found = set()
    for widest in (WIDEST, NARROW):
        fitting = {pair for pair in pairs if int(distinct[pair[1]]) - int(distinct[pair[0]]) < widest}
        found |= fitting
        if len(fitting) < len(pairs):
            found.add(_densest(distinct, counts, total, widest))
    return [
        Alphabet(int(distinct[i]), int(distinct[j]) - int(distinct[i]) + 1, i > 0 or j < distinct.size - 1)
        for i, j in sorted(found)
    ]


def _densest(distinct: I64, counts: I64, total: I64, widest: int) -> tuple[int, int]:
    """The first and the last of the distinct values in the window where most values are."""
    # As distances from the first value, which do not overflow.
    distance = distinct.view(np.uint64) - distinct[:1].view(np.uint64)
    beyond = np.searchsorted(distance, distance + np.uint64(widest), side="left")
    beyond = np.where(distance + np.uint64(widest) < distance, distinct.size, beyond)
    first = int((total[beyond - 1] - total + counts).argmax())
    return first, int(beyond[first]) - 1


def _bits(distinct: I64, counts: I64, options: list[Alphabet]) -> list[float]:
    """Bits of code, of escapes and of one table, for each window."""
    weight = counts.astype(np.float64)
    weights = np.append(0.0, np.cumsum(weight))
    own = np.append(0.0, np.cumsum(weight * np.log2(weight)))
    total = float(weights[-1])
    found = []
    for one in options:
        # Few steps take less than a call of numpy's, and compare with whole numbers of any size.
        i, j = bisect_left(distinct, one.low), bisect_left(distinct, one.low + one.width)
        within = float(weights[j] - weights[i])
        bits = within * log2(total) - float(own[j] - own[i]) + 3.0 * (j - i) + 0.5 * one.width
        if one.escape:
            distance = np.abs(np.concatenate((distinct[:i], distinct[j:])).astype(np.float64) - one.low)
            outside = np.concatenate((weight[:i], weight[j:]))
            bits += (total - within) * log2(total / (total - within))
            bits += float((outside * (3 + np.log2(distance + 2))).sum()) + 24
        found.append(bits)
    return found


def _nanoseconds(distinct: I64, counts: I64, one: Alphabet) -> float:
    """About what the values take to decode."""
    total = int(counts.sum())
    within = int(counts[(distinct >= one.low) & (distinct < one.low + one.width)].sum())
    return symbol_ns(one.size) * total + ESCAPE_NS * (total - within)


def symbol_ns(size: int) -> float:
    """Nanoseconds that a symbol of an alphabet takes with lanes: tables of up to 64 fit registers."""
    return 0.15 if size <= NARROW + 1 else 0.3


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
