"""Varints, and the adaptive range coder of side information."""

from __future__ import annotations


class Bytes:
    """Bytes read from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        """The next ones."""
        self.at += size
        return self.data[self.at - size : self.at]

    def rest(self) -> bytes:
        """All that are left."""
        return self.take(len(self.data) - self.at)

    def varint(self) -> int:
        """Seven bits a byte, lowest first."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self) -> int:
        """Zigzag."""
        value = self.varint()
        return value >> 1 if value % 2 == 0 else -(value >> 1) - 1

    def sized(self) -> bytes:
        """A length and as many bytes."""
        return self.take(self.varint())


class Range:
    """Bits with a given share of ones, of 2**16."""

    def __init__(self, data: bytes) -> None:
        self.data = Bytes(data + bytes(64))
        self.range = (1 << 32) - 1
        self.code = int.from_bytes(self.data.take(4), "big")

    def bit(self, share: int) -> int:
        """One bit."""
        bound = (self.range >> 16) * share
        one = self.code < bound
        if one:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        while self.range < 1 << 24:
            self.code = (self.code << 8) % (1 << 32) | (self.data.take(1) or b"\0")[0]
            self.range <<= 8
        return int(one)


class Side:
    """Side information."""

    def __init__(self, data: bytes) -> None:
        self.coder = Range(data)
        self.slots: dict[int, list[int]] = {}

    def bit(self, slot: int | None) -> int:
        """One bit."""
        if slot is None:
            return self.coder.bit(1 << 15)
        ones, total = self.slots.setdefault(slot, [1, 2])
        one = self.coder.bit((ones << 16) // total)
        ones, total = ones + 2 * one, total + 2
        if total > 512:
            ones = ones >> 1 | 1
            total = max(((total >> 1) + 1) & ~1, ones + 1)
        self.slots[slot] = [ones, total]
        return one

    def bits(self, width: int) -> int:
        """The highest first."""
        value = 0
        for _ in range(width):
            value = 2 * value + self.bit(None)
        return value

    def natural(self, key: int, limit: int) -> int:
        """0 .. limit."""
        for k in range(12):
            if k == limit or not self.bit(16 * key + k):
                return k
        length = 1
        while self.bit(16 * key + 12):
            length += 1
        return 11 + (1 << (length - 1) | self.bits(length - 1))

    def integer(self, key: int, limit: int) -> int:
        """-limit .. limit."""
        if not self.bit(16 * key + 13):
            return 0
        negative = self.bit(16 * key + 14)
        size = 1 + self.natural(key, limit - 1)
        return -size if negative else size

    def run(self, model: int, count: int, limit: int) -> list[int]:
        """Small numbers with the keys 0 .. 7."""
        values = [0]
        for _ in range(count):
            before = values[-1]
            if model == 2:
                values.append(before + self.integer(0, 2 * limit))
            else:
                values.append(self.integer(4 + min(max(before, -3), 3) if model else 0, limit))
        return values[1:]
