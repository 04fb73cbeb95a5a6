"""How the 4096 slots of a probability table are shared out: native/tables.hpp in numpy.

Up to 64 symbols by Walker's alias method (Walker 1977, Vose 1991) in 64 buckets of 64 slots, so that a table fits a few
vector registers; cumulative beyond.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOTAL = 4096
BUCKETS = 64
MAX_TABLES = 64
Entries = tuple[NDArray[np.uint8], NDArray[np.uint16], NDArray[np.uint16]]
"""Symbol, frequency and position among the symbol's slots, each [tables, 4096]."""


class Malformed(ValueError):
    """Bytes or arguments that cannot be right."""


def check_frequencies(frequencies: NDArray[np.uint16]) -> None:
    """The same rules as the native kernel's."""
    tables, alphabet = frequencies.shape
    if not 0 < tables <= MAX_TABLES:
        raise Malformed("there must be 1 to 64 tables")
    if not 0 < alphabet <= 256:
        raise Malformed("the alphabet must have 1 to 256 symbols")
    if (frequencies.sum(1, dtype=np.int64) != TOTAL).any():
        raise Malformed("every table must sum to 4096")


def entries_of(frequencies: NDArray[np.uint16]) -> Entries:
    """What each slot of each table stands for."""
    rows = [_cumulative(row) if frequencies.shape[1] > BUCKETS else _alias(row) for row in frequencies]
    symbol, frequency, position = (np.stack(part) for part in zip(*rows, strict=True))
    return symbol.astype(np.uint8), frequency.astype(np.uint16), position.astype(np.uint16)


def _cumulative(frequency: NDArray[np.uint16]) -> tuple[NDArray[np.int64], ...]:
    symbol = np.repeat(np.arange(frequency.size), frequency)
    start = np.cumsum(frequency, dtype=np.int64) - frequency
    return symbol, frequency[symbol].astype(np.int64), np.arange(TOTAL) - start[symbol]


def _alias(frequency: NDArray[np.uint16]) -> tuple[NDArray[np.int64], ...]:
    left = [*frequency.tolist(), *[0] * (BUCKETS - frequency.size)]
    own = np.array(left)
    divider, other = _buckets(left)
    used = np.where(other == np.arange(BUCKETS), BUCKETS, divider)
    shift = np.zeros(BUCKETS, np.int64)
    for b in range(BUCKETS):
        if other[b] != b:
            shift[b] = used[other[b]] - divider[b]
            used[other[b]] += BUCKETS - divider[b]
    bucket, within = np.divmod(np.arange(TOTAL), BUCKETS)
    aliased = within >= divider[bucket]
    symbol = np.where(aliased, other[bucket], bucket)
    return symbol, own[symbol], within + np.where(aliased, shift[bucket], 0)


def _buckets(left: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many slots of each bucket are its own symbol's, and whose the others are; the lowest symbol is on top."""
    divider, other = np.zeros(BUCKETS, np.int64), np.arange(BUCKETS)
    small = [s for s in range(BUCKETS - 1, -1, -1) if left[s] < BUCKETS]
    large = [s for s in range(BUCKETS - 1, -1, -1) if left[s] >= BUCKETS]
    while small:
        s, g = small.pop(), large[-1]
        divider[s], other[s] = left[s], g
        left[g] -= BUCKETS - left[s]
        if left[g] < BUCKETS:
            small.append(large.pop())
    return divider, other
