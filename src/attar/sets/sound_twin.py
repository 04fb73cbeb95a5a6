"""The twin of native/waves.cpp: samples one by one, predicted, their errors coded under mixed contexts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attar.coding.dense_twin import log16
from attar.coding.layout import Malformed
from attar.coding.mixing import HARDEST, Bits, Counter, Mixer
from attar.coding.ranges import RangeDecoder, RangeEncoder

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
F64 = NDArray[np.float64]
MOST, LOUDEST = 1 << 22, (1 << 23) + 1
STEPS, SIGN, LENGTH, DIGIT, BELOW = 24, 24, 25, 26, 27
LEVELS, TAPS, HIGHEST = 48, 32, 1 << 20


def _quotient(a: int, b: int) -> int:
    """Towards zero."""
    return a // b if a >= 0 else -(-a // b)


def _clip(value: int, most: int) -> int:
    return min(max(value, -most), most)


class _Errors:
    """Mean magnitudes of recent errors over three spans, in 1/256, and the last two."""

    def __init__(self) -> None:
        self.means = [0, 0, 0]
        self.last = self.before = 0

    def learn(self, magnitude: int) -> None:
        self.means = [
            mean + (magnitude << 8 >> span) - (mean >> span) for mean, span in zip(self.means, (3, 5, 8), strict=True)
        ]
        self.last, self.before = magnitude, self.last


class _Residues:
    def __init__(self, coder: Bits) -> None:
        self._coder = coder
        self._counters: dict[tuple[int, ...], Counter] = {}
        self._mixers = [Mixer() for _ in range(32)]
        self._context: list[tuple[int, int, int]] = []
        self._shift = self._expected = 0

    def one(self, errors: _Errors, other: int, doubt: int, wanted: int) -> int:
        """Codes an error, or reads it."""
        fast, middle, slow = errors.means
        level = _log((2 * fast + middle + slow) // 4)
        self._shift = max(0, level - 144 >> 4)
        self._expected = level - 16 * self._shift
        pairs = (
            (self._beside(_log(fast), 4), self._beside(_log(slow), 16)),
            (self._beside(_log(middle), 4), self._beside(_log(fast), 16)),
            (self._size(errors.last), self._size(errors.before)),
            (min(level // 8, LEVELS - 1), self._beside(_log(middle), 8)),
            (self._beside(_log(slow), 4), self._beside(_log(middle), 16)),
            (self._size(other), self._size(doubt)),
        )
        self._context = [(k, *pair) for k, pair in enumerate(pairs)]
        return self._code(wanted)

    def _beside(self, log: int, unit: int) -> int:
        return min(max(_quotient(log - 16 * self._shift, unit), 0), LEVELS - 1)

    def _size(self, magnitude: int) -> int:
        return self._beside(_log(magnitude * 256 + 128), 8)

    def _bit(self, node: int, wanted: int) -> int:
        counters = [self._counters.setdefault((*context, node), [1 << 21, 0]) for context in self._context]
        expected = _clip((self._expected - 128) * 11356 >> 10, HARDEST) if node < STEPS else 0
        return self._mixers[node].bit(self._coder, counters, expected, wanted)

    def _code(self, wanted: int) -> int:
        magnitude = abs(wanted)
        high, found = magnitude >> self._shift, 0
        while found < STEPS and self._bit(found, int(high > found)):
            found += 1
        if found == STEPS:
            found += self._beyond(high - STEPS)
        for k in range(self._shift - 1, -1, -1):
            wish, at = magnitude >> k & 1, self._shift - 1 - k
            found = found << 1 | (self._bit(BELOW + at, wish) if at < 2 else self._coder.bit(1 << 15, wish))
        if found > 1 << 28:
            raise Malformed("an error must be 2^28 at most")
        return -found if found and self._bit(SIGN, int(wanted < 0)) else found

    def _beyond(self, wanted: int) -> int:
        length = 0
        while self._bit(LENGTH, int((wanted + 1) >> (length + 1) != 0)):
            length += 1
            if length > 28:
                raise Malformed("an error must be 2^28 at most")
        found = 1
        for k in range(length - 1, -1, -1):
            found = found << 1 | self._bit(DIGIT, (wanted + 1) >> k & 1)
        return found - 1


def _log(value: int) -> int:
    return log16(min(max(value, 1), 0xFFFFFFFF))


class _LeastSquares:
    """Each operation is rounded by itself, in the order of native/filters.hpp."""

    def __init__(self, taps: int, fade: float, ridge: float, every: int) -> None:
        self._fade, self._ridge, self._every, self._seen = fade, ridge, every, 0
        self._moment, self._cross = np.zeros((taps, taps)), np.zeros(taps)
        self._weight, self._x = np.zeros(taps), np.zeros(taps)

    def predict(self, x: F64) -> float:
        self._x = x
        return float(np.cumsum(self._weight * x)[-1])  # one after the other, where a sum may be in pairs

    def learn(self, value: int) -> None:
        self._moment = self._fade * self._moment + self._x[:, None] * self._x
        self._cross = self._fade * self._cross + value * self._x
        self._seen += 1
        if self._seen % self._every == 0:
            self._solve()

    def _solve(self) -> None:
        a, z = self._moment.copy(), self._cross.copy()
        a[np.diag_indices(len(z))] += self._ridge
        for j in range(len(z)):
            if not a[j, j] > 0:
                return
            factor = a[j, j + 1 :] / a[j, j]
            a[j + 1 :, j + 1 :] -= factor[:, None] * a[j, j + 1 :]
            z[j + 1 :] -= factor * z[j]
        for j in range(len(z) - 1, -1, -1):
            self._weight[j] = z[j] / a[j, j]
            z[:j] -= a[:j, j] * self._weight[j]


class _Filter:
    """Normalised least mean squares in integers; weights in 2^-16."""

    def __init__(self, taps: int, rate: int) -> None:
        self._rate, self._energy = rate, 0
        self._weight, self._past = np.zeros(taps, np.int64), np.zeros(taps, np.int64)

    def predict(self) -> int:
        return _clip(int(self._weight @ self._past) >> 16, HIGHEST)

    def learn(self, value: int, predicted: int) -> None:
        x = _clip(value, HIGHEST)
        gain = _quotient((x - predicted) << 28, self._energy + self._past.size * 64 + 1)
        moved = self._weight + (_clip(gain, 1 << 30) * self._past >> self._rate)
        self._weight = np.clip(moved, -(1 << 20), 1 << 20)
        self._energy += x * x - int(self._past[-1]) ** 2
        self._past = np.concatenate([[x], self._past[:-1]])


class _Channel:
    def __init__(self) -> None:
        self.errors = _Errors()
        self._steady, self._hasty = _LeastSquares(TAPS, 0.998, 1000, 16), _LeastSquares(TAPS // 2, 0.99, 1000, 8)
        self._weighing = _LeastSquares(3, 0.995, 1, 4)
        self._long, self._short = _Filter(256, 20), _Filter(16, 17)
        self._said = (0, 0, 0, 0, 0)

    def predict(self, samples: I32, t: int, c: int) -> int:
        steady = _rounded(self._steady.predict(_gathered(samples, t, c, TAPS)))
        hasty = _rounded(self._hasty.predict(_gathered(samples, t, c, TAPS // 2)))
        long = self._long.predict()
        weighed = _rounded(self._weighing.predict(np.array([steady, hasty, long], np.float64)))
        self._said = steady, hasty, long, weighed, self._short.predict()
        return _clip(weighed + self._said[4], LOUDEST)

    @property
    def doubt(self) -> int:
        """How far the two disagree."""
        return abs(self._said[0] - self._said[1])

    def learn(self, value: int, predicted: int) -> None:
        steady, _, long, weighed, short = self._said
        for squares in (self._steady, self._hasty, self._weighing):
            squares.learn(value)
        self._long.learn(value - steady, long)
        self._short.learn(value - weighed, short)
        self.errors.learn(abs(value - predicted))


def _rounded(value: float) -> int:
    if value >= LOUDEST:
        return LOUDEST
    return round(value) if value > -LOUDEST else -LOUDEST


def _gathered(samples: I32, t: int, c: int, taps: int) -> F64:
    """The last samples of this channel, and with two channels those of the other as well, at 3 of 8 taps."""
    channels = samples.shape[1]
    own = taps if channels == 1 else taps * 5 // 8
    x = np.zeros(taps)
    near = samples[max(0, t - own) : t, c][::-1]
    x[: len(near)] = near
    if own < taps:
        end = t + (c == 1)
        near = samples[max(0, end - (taps - own)) : end, 1 - c][::-1]
        x[own : own + len(near)] = near
    return x


def _run(coder: Bits, samples: I32) -> None:
    residues = _Residues(coder)
    frames, channels = samples.shape
    every = [_Channel() for _ in range(channels)]
    for t in range(frames):
        for c, one in enumerate(every):
            predicted = one.predict(samples, t, c)
            other = every[1 - c].errors.last if channels == 2 else 0
            value = predicted + residues.one(one.errors, other, one.doubt, int(samples[t, c]) - predicted)
            if abs(value) > LOUDEST:
                raise Malformed("a sample must have 24 bits")
            samples[t, c] = value
            one.learn(value, predicted)


def _check(samples: I32) -> None:
    if samples.shape[1] not in (1, 2) or samples.size > MOST:
        raise Malformed("there must be one or two channels, not too long")


def waves_encode(samples: I32) -> bytes:
    """The bytes of int32 samples [n, 1 or 2]; raises Malformed."""
    _check(samples)
    if samples.size and max(int(samples.max()), -int(samples.min())) > LOUDEST:
        raise Malformed("a sample must have 24 bits")
    coder = RangeEncoder()
    _run(coder, samples.copy())
    return coder.finish()


def waves_decode(data: U8, samples: I32) -> None:
    """Fill int32 samples; raises Malformed."""
    _check(samples)
    samples[:] = 0
    coder = RangeDecoder(data.tobytes())
    _run(coder, samples)
    coder.finish()
