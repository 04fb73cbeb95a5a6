"""The dense coder in Python, bit for bit that of native/dense.cpp and some hundred times slower.

Integers one by one, each as a few bits whose probabilities adapt: first whether it is zero, then how many units its
magnitude passes, then what is below a unit, then the sign. docs/format.md gives every table and every step.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from attar.coding.layout import Malformed
from attar.coding.mixing import FRESH, HARDEST, Bits, Counter, Mixer
from attar.coding.predictor import Predictor
from attar.coding.ranges import RangeDecoder, RangeEncoder

I64 = NDArray[np.int64]
LARGEST = 1 << 30
ZERO, SIGN, PASS, UNARY, LENGTH, DIGIT, LOW, NODES = 0, 1, 1, 15, 16, 17, 18, 20
UNIT = 16
FAR, TAP_MOST, COLUMNS_TOLD = 2000, 1023, 4096
_ROOTS = (
    1048576, 1095000, 1143480, 1194106, 1246974, 1302182, 1359834, 1420039,
    1482910, 1548564, 1617125, 1688721, 1763487, 1841563, 1923096, 2008239,
)  # fmt: skip
_PARTS = [max(k for k in range(16) if _ROOTS[k] <= (1 << 20) + (m << 14)) for m in range(64)]


def log16(x: int) -> int:
    """log2 in 1/16, of 1 or more; exact to 1/64 of the mantissa."""
    top = x.bit_length() - 1
    return 16 * top + _PARTS[(x >> (top - 6) if top >= 6 else x << (6 - top)) & 63]


def mean_of(level: int) -> int:
    """The mean magnitude of a level, in 1/256 of a unit: 2 ** (level / 2)."""
    return 181 << (level // 2) >> 7 if level & 1 else 1 << (level // 2)


def dense_encode(values: I64, shift: int, level: int, period: int) -> bytes:
    """The bytes of values [rows, cols]; raises Malformed where one is beyond 2**30 or the head cannot be."""
    if values.size and int(np.abs(values).max()) > LARGEST:
        raise Malformed("a value must be 2^30 at most")
    coder = RangeEncoder()
    _Dense(coder, values.shape, shift, level, period).run(values.copy())
    return coder.finish()


def dense_decode(data: NDArray[np.uint8], values: I64, shift: int, level: int, period: int) -> None:
    """Fill values [rows, cols]; raises Malformed where the bytes are not those of such a matrix."""
    coder = RangeDecoder(data.tobytes())
    values[:] = 0
    _Dense(coder, values.shape, shift, level, period).run(values)
    coder.finish()


class _Neighbours:
    """Least mean squares, normalised (Nagumo and Noda 1967), over a few neighbours and the predictor's word."""

    def __init__(self) -> None:
        self._weights = [0] * 11
        self._taps = [0] * 11
        self._power = 256
        self.guess = 0

    def look(self, seen: list[int]) -> None:
        """Guess from eleven values."""
        self._taps = [_within(x, TAP_MOST) for x in seen]
        self._power = 256 + sum(x * x for x in self._taps)
        self.guess = _within(sum(w * x for w, x in zip(self._weights, self._taps, strict=True)) >> 16, FAR)

    def learn(self, value: int) -> None:
        """What it was."""
        wrong = (_within(value, TAP_MOST) - self.guess) << 20
        gain = wrong // self._power if wrong >= 0 else -(-wrong // self._power)
        self._weights = [_within(w + (gain * x >> 10), 1 << 20) for w, x in zip(self._weights, self._taps, strict=True)]


class _Dense:
    def __init__(self, coder: Bits, shape: tuple[int, ...], shift: int, level: int, period: int) -> None:
        if not (min(shape) > 0 and 0 <= shift <= 28 and 0 <= level <= 31 and 3 <= period <= 4096):
            raise Malformed("the shift must be 0 to 28, the level 0 to 31, the period 3 to 4096")
        self._coder, self._shift, self._period = coder, shift, period
        self._mean = mean_of(level)
        self._rows, self._cols = shape
        self._predictor = Predictor(shape[0], shape[1], self._mean + (self._mean * self._mean >> 7))
        self._neighbours = _Neighbours()
        self._mixers = [Mixer() for _ in range(NODES)]
        self._error, self._count, self._overall = 0, 0, 1
        self._column_error = [0] * shape[1]
        self._counters: list[dict[int, list[Counter]]] = [defaultdict(_fresh) for _ in range(6)]
        self._contexts: list[list[Counter]] = []
        self._expected = 0

    def run(self, values: I64) -> None:
        """Code the values, or fill them in."""
        pad = 2 * self._period + 2
        now = [0] * (self._cols + pad + 2)
        for r, row in enumerate(values):
            self._predictor.begin(now[pad : pad + self._cols] if r else None)
            before, now = now, [0] * len(now)
            self._counters[1].clear()
            self._overall = max(1, 16 * (self._error + self._mean) // (self._count + 16))
            self._row_error = 0
            for c, wanted in enumerate(row.tolist()):
                row[c] = self._one((r, c), wanted, now, before, c + pad)

    def _one(self, place: tuple[int, int], wanted: int, now: list[int], before: list[int], at: int) -> int:
        period, c = self._period, place[1]
        predicted = self._predicted(c)
        self._neighbours.look([
            now[at - 1], now[at - 2], before[at], now[at - period], now[at - period - 1], now[at - period + 1],
            now[at - 2 * period], before[at - period], now[at - period + 2], now[at - period - 2], predicted,
        ])  # fmt: skip
        self._look(place, predicted, (now[at - 1], before[at], now[at - period]))
        value = self._value(wanted)
        now[at] = seen = _within(value * UNIT >> self._shift, 32767)
        self._predictor.learn(c, seen)
        self._neighbours.learn(seen)
        error = abs(seen - predicted)
        self._column_error[c] += error
        self._row_error += error
        self._error += error
        self._count += 1
        return value

    def _predicted(self, column: int) -> int:
        """The predictor's word as an integer, ties to even; what is no number is the lowest."""
        value = float(self._predictor.values[column])
        if value >= FAR:
            return FAR
        return round(value) if value > -FAR else -FAR

    def _look(self, place: tuple[int, int], predicted: int, near: tuple[int, int, int]) -> None:
        """The counters of the next value's contexts, and what its magnitude is expected to be."""
        r, c = place
        row = log16(max(1, (16 * self._row_error + 4 * self._overall) // (c + 4)))
        column = log16(max(1, (16 * self._column_error[c] + 4 * self._overall) // (r + 4)))
        self._expected = row + column - log16(self._overall)
        size = min(max(self._expected // 8, 0), 31)
        guess = _octaves(self._neighbours.guess) + 16
        first, second, third = (_within(int(x / UNIT), 2) + 2 for x in near)
        keys = (
            c % COLUMNS_TOLD * 16 + min(row // 16, 15), 0, (first * 5 + second) * 5 + third, guess * 32 + size,
            (_octaves(predicted) + 16) * 16 + guess // 2, (_fine(predicted) + 32) * 32 + size,
        )  # fmt: skip
        self._contexts = [counters[key] for counters, key in zip(self._counters, keys, strict=True)]

    def _bit(self, node: int, wanted: int) -> int:
        expected = 0
        if node != SIGN and node < LENGTH:
            # The logit of "as large or larger" under a geometric distribution.
            log = self._expected if node == ZERO else max(self._expected, 48)
            expected = _within((log - 128) * 11356 >> 10, HARDEST)
        counters = [context[node] for context in self._contexts]
        return self._mixers[node].bit(self._coder, counters, expected, int(wanted))

    def _value(self, wanted: int) -> int:
        """Magnitude, then sign."""
        size = abs(wanted)
        high = size >> self._shift
        found = self._bit(ZERO, high > 0)
        if found:
            while found < UNARY and self._bit(PASS + found, high > found):
                found += 1
            if found == UNARY:
                found += self._beyond(high - UNARY)
        for place, k in enumerate(reversed(range(self._shift))):
            wish = size >> k & 1
            found = found << 1 | (self._bit(LOW + place, wish) if place < 2 else self._coder.bit(1 << 15, wish))
        if found > LARGEST:
            raise Malformed("a value must be 2^30 at most")
        return -found if found and self._bit(SIGN, wanted < 0) else found

    def _beyond(self, wanted: int) -> int:
        """0 and more by Elias' gamma code of one more."""
        length = 0
        while self._bit(LENGTH, wanted + 1 >> length + 1 != 0):
            length += 1
            if length > 30:
                raise Malformed("a value must be 2^30 at most")
        found = 1
        for k in reversed(range(length)):
            found = found << 1 | self._bit(DIGIT, wanted + 1 >> k & 1)
        return found - 1


def _fresh() -> list[Counter]:
    return [list(FRESH) for _ in range(NODES)]


def _within(x: int, most: int) -> int:
    return min(max(x, -most), most)


def _octaves(x: int) -> int:
    """Half octaves of a magnitude with its sign, -15 .. 15."""
    size = min(log16(abs(x)) // 8 + 1, 15) if x else 0
    return -size if x < 0 else size


def _fine(x: int) -> int:
    """The same, finer: every 1/16 below one, then eight steps an octave, -31 .. 31."""
    size = abs(x) if abs(x) < UNIT else min(UNIT + (log16(abs(x)) - 64) // 2, 31)
    return -size if x < 0 else size
