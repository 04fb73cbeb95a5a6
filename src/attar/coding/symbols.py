"""Integers as symbols of a small alphabet: a window of consecutive values, and an escape for those outside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.coding import streams
from attar.coding.streams import Coder, Reader
from attar.errors import FormatError
from attar.types import Array

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
WIDEST, NARROW = 255, 63
"""Values in a window: with the escape a symbol is one byte, or one of the 64 whose tables fit vector registers."""
NARROWING = 1.002
"""How much longer the code of a narrow window may be: it decodes about twice as fast."""
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

    def symbols(self, values: I64) -> tuple[U8, NDArray[np.uint64]]:
        """Symbols [n], and the distances of the escaped values from the window, zigzag."""
        distance = (values.view(np.uint64) - np.uint64(self.low & (2**64 - 1))).view(np.int64)
        inside = (distance >= 0) & (distance < self.width)
        symbols = np.where(inside, distance, self.width).astype(np.uint8)
        if not self.escape:
            return symbols, np.zeros(0, np.uint64)
        outside = distance[~inside]
        outside = np.where(outside > 0, outside - self.width, outside)
        return symbols, ((outside << 1) ^ (outside >> 63)).view(np.uint64)

    def window(self) -> I64:
        """The values of the symbols [width], two's complement."""
        return (np.arange(self.width, dtype=np.uint64) + np.uint64(self.low & (2**64 - 1))).view(np.int64)

    def values(self) -> I64:
        """The values of all 256 symbols; escapes count as far away."""
        values = np.full(256, 1 << 40, np.int64)
        values[: self.width] = np.clip(self.window(), -(1 << 40), 1 << 40)
        return values

    def outside(self, escaped: NDArray[np.uint64]) -> I64:
        """The values that `symbols` escaped."""
        far = (escaped >> np.uint64(1)).view(np.int64) ^ -(escaped & np.uint64(1)).astype(np.int64)
        distance = np.where(far >= 0, far + self.width, far)
        return (distance.view(np.uint64) + np.uint64(self.low & (2**64 - 1))).view(np.int64)

    def describe(self, coder: Coder) -> Alphabet:
        """Writes itself, or reads another."""
        low = coder.integer(streams.LOW, self.low, 1 << 63)
        width = 1 + coder.natural(streams.WIDTH, self.width - 1, WIDEST - 1)
        return Alphabet(low, width, bool(coder.bits(1, int(self.escape))))


def choose(values: I64) -> Alphabet:
    """The window whose code is expected to be shortest, by the entropy within and the outliers' distances without."""
    low, high = int(values.min()), int(values.max())
    span = high - low + 1
    if span <= 1 << 16:
        counts = np.bincount(values - low, minlength=span)
        distinct = np.flatnonzero(counts) + low
        counts = counts[distinct - low]
    else:
        distinct, counts = np.unique(values, return_counts=True)
    tails = [tail for tail in TAILS if tail <= values.size // 4]
    options = {_window(distinct, counts, tail, widest) for tail in tails for widest in (WIDEST, NARROW)}
    priced = sorted((_bits(distinct, counts, one), one.width, one) for one in options)
    narrow = [one for bits, width, one in priced if width <= NARROW and bits <= NARROWING * priced[0][0]]
    return narrow[0] if narrow else priced[0][2]


def _window(distinct: I64, counts: Array, tail: int, widest: int) -> Alphabet:
    """The window that leaves about `tail` outliers outside, cut to so many values where most are."""
    total = np.cumsum(counts)
    first = int(np.searchsorted(total, tail // 2, side="right"))
    last = int(np.searchsorted(total, total[-1] - (tail - tail // 2), side="left"))
    first, last = min(first, last), max(first, last)
    if int(distinct[last]) - int(distinct[first]) >= widest:
        # As distances from the first value, which do not overflow.
        distance = distinct.view(np.uint64) - distinct[:1].view(np.uint64)
        beyond = np.searchsorted(distance, distance + np.uint64(widest), side="left")
        wrapped = distance + np.uint64(widest) < distance
        beyond = np.where(wrapped, distinct.size, beyond)
        inside = total[beyond - 1] - total + counts
        first = int(inside.argmax())
        last = int(beyond[first]) - 1
    low = int(distinct[first])
    width = int(distinct[last]) - low + 1
    return Alphabet(low, width, first > 0 or last < distinct.size - 1)


def _bits(distinct: I64, counts: Array, alphabet: Alphabet) -> float:
    """Bits of code, of escapes and of one table."""
    inside = (distinct >= alphabet.low) & (distinct <= alphabet.low + alphabet.width - 1)
    within = counts[inside].astype(np.float64)
    escapes = float(counts[~inside].sum())
    total = within.sum() + escapes
    bits = float(-(within * np.log2(within / total)).sum()) + 3.0 * within.size + 0.5 * alphabet.width
    if escapes:
        distance = np.abs(distinct[~inside].astype(np.float64) - alphabet.low)
        bits += escapes * -np.log2(escapes / total) + float((counts[~inside] * (3 + np.log2(distance + 2))).sum()) + 24
    return bits


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


def read_mantissas(reader: Reader, lengths: U8) -> NDArray[np.uint64]:
    """Values of known bit lengths; raises FormatError."""
    if lengths.max(initial=0) > 64:
        raise FormatError(
            f"rans: an escaped value must have at most 64 bits. Received {lengths.max()}. Fetch the file again."
        )
    one = np.uint64(1)
    shift = np.maximum(lengths, 1).astype(np.uint64) - one
    values = np.where(lengths > 0, one << shift, np.uint64(0))
    total = int(shift.sum())
    bits = np.unpackbits(np.frombuffer(reader.take((total + 7) // 8), np.uint8), count=total)
    at = 0
    for plane in range(max(int(lengths.max(initial=0)) - 1, 0)):
        here = np.flatnonzero(lengths > plane + 1)
        values[here] |= bits[at : at + here.size].astype(np.uint64) << np.uint64(plane)
        at += here.size
    return values
