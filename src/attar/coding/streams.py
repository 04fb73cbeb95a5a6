"""Small numbers as bytes: bounded varint reader and writer, and an adaptive binary range coder for side information.

The range coder is that of LZMA (Martin 1979) with counted probabilities (Krichevsky and Trofimov 1981): it learns from
a few hundred decisions and needs no tables, which is what scale levels and frequency tables want. One description
serves both directions: `coder.natural(key, value, limit)` returns the number, which the encoder is told and the decoder
reads. The two coders here are the twin of native/side.hpp.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attar.coding.layout import Malformed
from attar.coding.ranges import RangeDecoder, RangeEncoder
from attar.errors import FormatError

_LIMIT = 512


class Reader:
    """Reads varints and byte runs from a buffer and never past its end."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        self._at = 0

    def take(self, size: int) -> memoryview:
        """The next `size` bytes; raises FormatError where there are fewer."""
        if size > len(self._data) - self._at:
            raise FormatError(
                f"coded array: its lengths must add up to its bytes. Received a length of {size} with "
                f"{len(self._data) - self._at} bytes left. Fetch the file again."
            )
        self._at += size
        return self._data[self._at - size : self._at]

    def rest(self) -> memoryview:
        """All remaining bytes."""
        return self.take(len(self._data) - self._at)

    def varint(self) -> int:
        """An unsigned number below 2**70, least significant seven bits first."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise FormatError("coded array: a number must end. Received more than ten bytes. Fetch the file again.")

    def signed(self) -> int:
        """A zigzag varint."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def sized(self) -> memoryview:
        """A byte run with its length in front."""
        return self.take(self.varint())

    def finish(self) -> None:
        """That nothing is left; raises FormatError."""
        left = len(self._data) - self._at
        if left:
            raise FormatError(f"coded array: all bytes must be used. Received {left} too many. Fetch the file again.")


def varint(value: int) -> bytes:
    """What `Reader.varint` reads."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> bytes:
    """What `Reader.signed` reads."""
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def sized(data: bytes) -> bytes:
    """What `Reader.sized` reads."""
    return varint(len(data)) + data


VALUE, LOW, WIDTH, CENTRE, CLASSES, MODE, LEVEL, ESCAPE, REACH, RUNG, DECAY = 0, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17
FIRST, LAST, AROUND, SHARE = 18, 19, 20, 21
"""Keys: each names the adaptive probabilities of one kind of number. VALUE has seven more, for its contexts."""
SLOTS = 16
"""Probabilities of a key: 12 unary steps, the escape from them, "not zero" and "negative"."""
_UNARY, _NONZERO, _NEGATIVE = 12, 13, 14


class Coder(Protocol):
    """What the encoder and the decoder share; both raise ValueError for numbers beyond their limits."""

    def bits(self, width: int, value: int = 0) -> int:
        """A number of `width` bits, all values alike."""
        ...

    def natural(self, key: int, value: int, limit: int) -> int:
        """A number 0 .. limit, likely to be small."""
        ...

    def integer(self, key: int, value: int, limit: int) -> int:
        """A number -limit .. limit, likely to be near zero; limit is 2**63 at most."""
        ...

    def run(self, key: int, model: int, values: NDArray[np.int64], limit: int) -> None:
        """Small numbers -limit .. limit around zero, read or filled in; model 0: not predicted, 1: in the context of
        the number before, 2: from the number before.
        """
        ...


class _Numbers:
    """How numbers are made of bits."""

    def __init__(self, bits: RangeEncoder | RangeDecoder) -> None:
        self._bits = bits
        self._counts: dict[int, list[int]] = {}

    def bit(self, slot: int | None, value: int = 0) -> int:
        """One bit with a slot's probability (None: 1/2): encodes `value`, or decodes and returns it."""
        if slot is None:
            return self._bits.bit(1 << 15, value)
        counts = self._counts.setdefault(slot, [1, 2])
        bit = self._bits.bit((counts[0] << 16) // counts[1], value)
        _learn(counts, bit)
        return bit

    def bits(self, width: int, value: int = 0) -> int:
        """A number of `width` bits, all values alike."""
        result = 0
        for shift in range(width - 1, -1, -1):
            result = result << 1 | self.bit(None, value >> shift & 1)
        return result

    def natural(self, key: int, value: int, limit: int) -> int:
        """12 adaptive unary bits, then Elias gamma."""
        slot = key * SLOTS
        for k in range(_UNARY):
            if k == limit or not self.bit(slot + k, int(value > k)):
                return k
        rest = value - _UNARY + 1
        length = 1
        while length <= 64 and self.bit(slot + _UNARY, int(rest.bit_length() > length)):
            length += 1
        if length > 64:
            raise Malformed("a number must not pass its limit")
        top = 1 << (length - 1)
        result = _UNARY - 1 + (top | self.bits(length - 1, rest & (top - 1)))
        if result > limit:
            raise Malformed("a number must not pass its limit")
        return result

    def integer(self, key: int, value: int, limit: int) -> int:
        """Whether it is zero, its sign, its size."""
        slot = key * SLOTS
        if not self.bit(slot + _NONZERO, int(value != 0)):
            return 0
        negative = self.bit(slot + _NEGATIVE, int(value < 0))
        size = 1 + self.natural(key, abs(value) - 1, limit - 1)
        return -size if negative else size

    def run(self, key: int, model: int, values: NDArray[np.int64], limit: int) -> None:
        """See Coder."""
        before = 0
        for i, value in enumerate(values.tolist()):
            if model == 2:
                value = before + self.integer(key, value - before, 2 * limit)
            elif model == 1:
                value = self.integer(key + 4 + min(max(before, -3), 3), value, limit)
            else:
                value = self.integer(key, value, limit)
            # Differences may add up: what lies beyond is none of the encoder's.
            if abs(value) > limit:
                raise Malformed("a number must not pass its limit")
            values[i] = before = value


class SideEncoder(_Numbers):
    """Numbers to bytes."""

    def __init__(self) -> None:
        self._coder = RangeEncoder()
        super().__init__(self._coder)

    def finish(self) -> bytes:
        """The bytes, as few as decide everything."""
        return self._coder.finish()


class SideDecoder(_Numbers):
    """Bytes to numbers."""

    def __init__(self, data: bytes) -> None:
        self._coder = RangeDecoder(data)
        super().__init__(self._coder)

    def finish(self) -> None:
        """That the bytes are those that the encoder writes, no longer and no shorter; raises Malformed."""
        self._coder.finish()


def _learn(counts: list[int], bit: int) -> None:
    """Count a bit; old ones fade. counts: 2 ones + 1, 2 bits + 2 (Krichevsky and Trofimov's estimate of a one)."""
    counts[1] += 2
    if bit:
        counts[0] += 2
    if counts[1] > _LIMIT:
        # Both stay odd and even, and a zero as well as a one stays possible.
        counts[0] = counts[0] >> 1 | 1
        counts[1] = max((counts[1] >> 1) + 1 & ~1, counts[0] + 1)
