"""The twin of native/mixed.cpp: bytes one by one, each as a few bits whose probabilities adapt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attar.coding.layout import Malformed
from attar.coding.mixing import CONTEXTS, SEEN_MOST, Bits, Counter, Mixer, stretch
from attar.coding.ranges import RangeDecoder, RangeEncoder

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
MOST, MOST_COLUMNS, WORD, REACH = 1 << 24, 4096, -1, 6
FEWEST_LOG, MOST_LOG = 8, 19
MATCHED, LONGEST, STATES = 6, 400, 4
_MASK = (1 << 32) - 1


def _stirred(value: int, more: int) -> int:
    value = (value + more + 1) * 0x2C9277B5 & _MASK
    return value ^ value >> 15


class _Buckets:
    """The counters of contexts, by hash: each context has a bucket of its own, or takes the less used one of two."""

    def __init__(self, log: int) -> None:
        self._shift = 32 - log
        self._held: dict[int, tuple[int, list[Counter]]] = {}

    def find(self, value: int) -> list[Counter]:
        check, at = value | 1, (value * 0x9E3779B1 & _MASK) >> self._shift
        for place in (at, at ^ 1):
            if place in self._held and self._held[place][0] == check:
                return self._held[place][1]
        place = at if self._used(at) <= self._used(at ^ 1) else at ^ 1
        self._held[place] = check, [[1 << 21, 0] for _ in range(16)]
        return self._held[place][1]

    def _used(self, place: int) -> int:
        return 1 + self._held[place][1][1][1] if place in self._held else 0


class _Match:
    """The longest earlier run of bytes like the last ones, and what followed it."""

    def __init__(self, log: int) -> None:
        self._shift = 32 - log
        self._last: dict[int, int] = {}
        self._from = self._length = self._bit = 0
        self._expects = False
        self._right = [3 << 20] * 32

    def look(self, symbols: U8, i: int) -> None:
        if self._length and symbols[self._from] == symbols[i - 1]:
            self._from, self._length = self._from + 1, min(self._length + 1, LONGEST)
        else:
            self._length = 0
        if i < MATCHED:
            return
        value = 0
        for k in range(1, MATCHED + 1):
            value = _stirred(value, int(symbols[i - k]))
        place = value >> self._shift
        start = self._last.get(place, 0)
        if not self._length and start:
            self._from, length = start, 0
            most = min(LONGEST, start)
            while length < most and symbols[start - 1 - length] == symbols[i - 1 - length]:
                length += 1
            self._length = length if length >= MATCHED else 0
        self._last[place] = i

    @property
    def state(self) -> int:
        """None, short, longer or long."""
        return 0 if not self._expects else 1 if self._length < 16 else 2 if self._length < 32 else 3

    @property
    def _level(self) -> int:
        length = self._length
        if length < 32:
            return length if length < 16 else 16 + (length - 16) // 4
        return 20 + (length - 32) // 32 if length < LONGEST else 31

    def logit(self, symbols: U8, node: int, left: int, bits: int) -> int:
        found = int(symbols[self._from]) if self._length else 0
        self._expects = self._length > 0 and (found | 1 << bits) >> left == node
        if not self._expects:
            return 0
        self._bit = found >> (left - 1) & 1
        logit = stretch()[self._right[self._level] >> 10]
        return logit if self._bit else -logit

    def learn(self, bit: int) -> None:
        if self._expects:
            share = self._right[self._level]
            self._right[self._level] = share + (((1 << 22) - 1 if bit == self._bit else 0) - share >> 7)


def _is_letter(symbol: int) -> bool:
    return symbol >= 128 or 97 <= (symbol | 32) <= 122


class _Mixed:
    def __init__(self, coder: Bits, distances: I32, bits: U8, limit: int, count: int) -> None:
        log = min(max(count.bit_length() - 1, FEWEST_LOG), MOST_LOG)
        self._coder, self._limit = coder, limit
        self._distances, self._bits = distances.tolist(), bits.tolist()
        self._buckets = [_Buckets(log) for _ in range(CONTEXTS)]
        self._match = _Match(log)
        self._mixers: dict[int, Mixer] = {}
        self._word = 0

    def run(self, symbols: U8) -> None:
        """Codes the symbols, or fills them in."""
        for i in range(len(symbols)):
            column = i % len(self._bits)
            if i:
                self._match.look(symbols, i)
                last = int(symbols[i - 1])
                self._word = _stirred(self._word, last | 32) if _is_letter(last) else 0
            hashes = [self._hash(symbols, i, column, k) for k in range(CONTEXTS)]
            symbols[i] = self._one(symbols, column, hashes, int(symbols[i]))

    def _hash(self, symbols: U8, i: int, column: int, k: int) -> int:
        value = _stirred(column, k)
        for distance in self._distances[column][k]:
            if distance == 0:
                break
            if distance == WORD:
                value = _stirred(value, self._word)
            else:
                value = _stirred(value, int(symbols[i - distance]) if distance <= i else 256)
        return value

    def _one(self, symbols: U8, column: int, hashes: list[int], wanted: int) -> int:
        """A symbol's bits, the highest first, in one or two runs of up to four, each with a bucket in every context."""
        bits = left = self._bits[column]
        node = 1
        while left:
            found = [
                buckets.find(value if node == 1 else _stirred(value, node))
                for buckets, value in zip(self._buckets, hashes, strict=True)
            ]
            place = 1
            for _ in range((left - 1) % 4 + 1):
                expected = self._match.logit(symbols, node, left, bits)
                mixer = self._mixers.setdefault((column * STATES + self._match.state) * 256 + node, Mixer())
                counters = [bucket[place] for bucket in found]
                bit = mixer.bit(self._coder, counters, expected, wanted >> (left - 1) & 1, self._limit)
                self._match.learn(bit)
                place, node, left = place << 1 | bit, node << 1 | bit, left - 1
        return int(node & (1 << bits) - 1)


def _check(distances: I32, bits: U8, limit: int, count: int) -> None:
    if distances.shape != (bits.size, CONTEXTS, REACH):
        raise Malformed("each column must have six contexts of six distances")
    if count > MOST or not bits.size or count % bits.size:
        raise Malformed("there must be whole rows, not too many")
    if bits.size > MOST_COLUMNS:
        raise Malformed("there must be 4096 columns at most")
    if not 0 < limit <= SEEN_MOST:
        raise Malformed("a counter must count up to 1023 at most")
    if int(bits.min()) < 1 or int(bits.max()) > 8:
        raise Malformed("a symbol must have 1 to 8 bits")
    if int(distances.min()) < WORD:
        raise Malformed("a distance must lie behind")


def mixed_encode(distances: I32, bits: U8, limit: int, symbols: U8) -> bytes:
    """The bytes of uint8 symbols; raises Malformed."""
    _check(distances, bits, limit, symbols.size)
    if (symbols >> np.resize(bits, symbols.size)).any():
        raise Malformed("a symbol must have its column's bits")
    coder = RangeEncoder()
    _Mixed(coder, distances, bits, limit, symbols.size).run(symbols.copy())
    return coder.finish()


def mixed_decode(distances: I32, bits: U8, limit: int, data: U8, symbols: U8) -> None:
    """Fill uint8 symbols; raises Malformed."""
    _check(distances, bits, limit, symbols.size)
    symbols[:] = 0
    coder = RangeDecoder(data.tobytes())
    _Mixed(coder, distances, bits, limit, symbols.size).run(symbols)
    coder.finish()
