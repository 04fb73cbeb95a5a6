"""The choice of an alphabet by how often each value occurs: native/choose_window.hpp in numpy.

Bits are whole numbers, in 2**-16, so that neither the order of sums nor the machine decides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attar.coding.fixed import FRACTION, ONE, log2_fixed

I64 = NDArray[np.int64]
WIDEST, NARROW = 255, 63
"""Values in a window: with the escape a symbol is one byte, or one of the 64 whose tables fit vector registers."""
NARROWING = 500
"""The code of a narrow window may be longer by 1 in so many bits: it decodes about twice as fast."""
TAILS = (0, 1, 2, 4, 8, 16, 32)
"""Outliers that are tried as escapes, on both sides together."""
ESCAPE_NS = 40
"""Nanoseconds that an escaped value takes, to be found, read and put in its place."""


def symbol_ns(size: int) -> float:
    """Nanoseconds that a symbol of an alphabet takes with lanes: tables of up to 64 fit registers."""
    return 0.15 if size <= NARROW + 1 else 0.3


def choose_window(values: I64, counts: I64, price: int) -> tuple[int, int, bool]:
    """The lowest value of an alphabet, its width and whether it has an escape.

    values [n], ascending, occur as often as counts [n] says. The window whose code is expected to be shortest, by the
    entropy within and the outliers' distances without. A narrow one may take some bits more; with a price, any, where a
    byte less would cost more nanoseconds of decoding.
    """
    ranges = _ranges(values, counts)
    bits = [_bits(values, counts, one) for one in ranges]
    if price:
        bits = [own * price + _worth(values, counts, one) for own, one in zip(bits, ranges, strict=True)]
        return _alphabet(values, min(zip(bits, ranges, strict=True))[1])
    priced = sorted(zip(bits, ranges, strict=True))
    most = priced[0][0] + priced[0][0] // NARROWING
    narrow = [one for own, one in priced if _alphabet(values, one)[1] <= NARROW and own <= most]
    return _alphabet(values, narrow[0] if narrow else priced[0][1])


def _alphabet(values: I64, one: tuple[int, int]) -> tuple[int, int, bool]:
    i, j = one
    return int(values[i]), int(values[j]) - int(values[i]) + 1, i > 0 or j < values.size - 1


def _ranges(values: I64, counts: I64) -> list[tuple[int, int]]:
    """The first and the last value of windows: those that leave about so many outliers outside, and those cut to the
    widest where most values are.
    """
    total = np.cumsum(counts)
    tails = np.array([tail for tail in TAILS if tail <= total[-1] // 4])
    first = np.searchsorted(total, tails // 2, side="right")
    last = np.searchsorted(total, total[-1] - (tails - tails // 2), side="left")
    pairs = set(zip(np.minimum(first, last).tolist(), np.maximum(first, last).tolist(), strict=True))
    found = set()
    for widest in (WIDEST, NARROW):
        fitting = {pair for pair in pairs if int(values[pair[1]]) - int(values[pair[0]]) < widest}
        found |= fitting
        if len(fitting) < len(pairs):
            found.add(_densest(values, counts, total, widest))
    return sorted(found)


def _densest(values: I64, counts: I64, total: I64, widest: int) -> tuple[int, int]:
    """The first and the last value of the first of the windows of so many values that hold the most."""
    # As distances from the first value, which do not overflow.
    distance = values.view(np.uint64) - values[:1].view(np.uint64)
    beyond = np.searchsorted(distance, distance + np.uint64(widest), side="left")
    beyond = np.where(distance + np.uint64(widest) < distance, values.size, beyond)
    first = int((total[beyond - 1] - total + counts).argmax())
    return first, int(beyond[first]) - 1


def _log2(number: int) -> int:
    return int(log2_fixed(np.array([number]))[0])


def _bits(values: I64, counts: I64, one: tuple[int, int]) -> int:
    """Bits of code, of escapes and of one table, for a window."""
    low, width, _ = _alphabet(values, one)
    inside = slice(one[0], one[1] + 1)
    within, total = int(counts[inside].sum()), int(counts.sum())
    bits = within * _log2(total) - int((counts[inside] * log2_fixed(counts[inside])).sum())
    bits += 6 * (one[1] - one[0] + 1) + width << FRACTION - 1
    if total == within:
        return bits
    outside, value = np.delete(counts, inside), np.delete(values, inside).view(np.uint64)
    start = np.uint64(low % 2**64)
    far = np.where(value.view(np.int64) > low, value - start, start - value)
    bits += int((outside * (3 * ONE + _log2_wide(np.minimum(far, np.uint64(2**63)) + np.uint64(2)))).sum())
    return bits + (total - within) * (_log2(total) - _log2(total - within)) + (24 << FRACTION)


def _log2_wide(numbers: NDArray[np.uint64]) -> I64:
    near = log2_fixed(np.minimum(numbers, np.uint64(2**52)).astype(np.int64))
    return np.where(numbers < 2**52, near, log2_fixed((numbers >> np.uint64(12)).astype(np.int64) | 1) + 12 * ONE)


def _worth(values: I64, counts: I64, one: tuple[int, int]) -> int:
    """What decoding is worth in these bits, times the price."""
    _, width, escape = _alphabet(values, one)
    total, within = int(counts.sum()), int(counts[one[0] : one[1] + 1].sum())
    hundredths = round(100 * symbol_ns(width + escape)) * total + 100 * ESCAPE_NS * (total - within)
    return (2 * hundredths << FRACTION) // 25
