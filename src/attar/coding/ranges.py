"""A binary range coder, both directions: LZMA's (Martin 1979), with the probability given for each bit.

The twin of native/range.hpp.
"""

from __future__ import annotations

from attar.coding.layout import Malformed

_TOP = 1 << 24
_FULL = (1 << 32) - 1


class RangeEncoder:
    """Bits to bytes."""

    def __init__(self) -> None:
        self._low = 0
        self._range = _FULL
        self._out = bytearray()

    def bit(self, share: int, value: int = 0) -> int:
        """Encode one bit and return it; share is the probability of a one, 1 .. 65535 of 2**16."""
        bound = (self._range >> 16) * share
        if value:
            self._range = bound
        else:
            self._low += bound
            self._range -= bound
        while self._range < _TOP:
            self._carry()
            self._out.append(self._low >> 24)
            self._low = self._low << 8 & _FULL
            self._range <<= 8
        return value

    def _carry(self) -> None:
        if self._low > _FULL:
            self._low &= _FULL
            at = len(self._out) - 1
            while self._out[at] == 255:
                self._out[at] = 0
                at -= 1
            self._out[at] += 1

    def finish(self) -> bytes:
        """The bytes, as few as decide everything: the decoder reads zeros behind them."""
        for size in range(5):
            mask = _FULL >> (8 * size)
            value = (self._low + mask) & ~mask
            if value < self._low + self._range:
                break
        self._low = value
        self._carry()
        self._out += self._low.to_bytes(4, "big")
        return bytes(self._out).rstrip(b"\0")


class RangeDecoder:
    """Bytes to bits."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 4
        self._range = _FULL
        self._code = int.from_bytes(self._data[:4].ljust(4, b"\0"), "big")
        self._outside = self._code >= self._range  # of the first interval, in which no code ever is

    def bit(self, share: int, value: int = 0) -> int:
        """Decode one bit; `value` is the encoder's and is not looked at."""
        del value
        bound = (self._range >> 16) * share
        # The lower part of the interval is a one.
        one = int(self._code < bound)
        if one:
            self._range = bound
        else:
            self._code -= bound
            self._range -= bound
        while self._range < _TOP:
            self._code = self._code << 8 & _FULL | (self._data[self._at] if self._at < len(self._data) else 0)
            self._range <<= 8
            self._at += 1
        return one

    def finish(self) -> None:
        """That the bytes are those that the encoder writes, no longer and no shorter; raises Malformed.

        The encoder writes the shortest number in the last interval, and of these the smallest.
        """
        size = len(self._data)
        unit = 256 ** max(self._at - size, 0)
        last = self._data[-1] if size else 1
        shorter = self._code - last * unit + 256 * unit < self._range if size else False
        if self._outside or size > self._at or last == 0 or self._code >= unit or shorter:
            raise Malformed("the coded bits must end with their bytes")
