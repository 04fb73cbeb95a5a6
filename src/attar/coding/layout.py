"""How the 4096 slots of a probability table are shared out: native/tables.hpp in numpy.

Up to 64 symbols by Walker's alias method (Walker 1977, Vose 1991) in 64 buckets of 64 slots, so that a table fits a few
vector registers; wide tables, of 65 to 128 symbols, in 128 buckets of 32; others are cumulative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOTAL = 4096
BUCKETS, MOST_BUCKETS = 64, 128
MAX_TABLES = 64
WORTH_WIDE = 1 << 13
"""Symbols of an array from which wide tables are worth it."""
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


def may_be_wide(alphabet: int) -> bool:
    """Whether an alphabet has more symbols than BUCKETS, and no more than MOST_BUCKETS."""
    return BUCKETS < alphabet <= MOST_BUCKETS


def worth_wide(alphabet: int, symbols: int) -> bool:
    """Whether the tables of so many symbols are made wide, which takes longer than cumulative ones."""
    return may_be_wide(alphabet) and symbols >= WORTH_WIDE


def entries_of(frequencies: NDArray[np.uint16], wide: bool = False) -> Entries:
    """What each slot of each table stands for; raises Malformed where tables of such an alphabet cannot be wide."""
    alphabet = frequencies.shape[1]
    if wide and not may_be_wide(alphabet):
        raise Malformed("wide tables must have 65 to 128 symbols")
    buckets = MOST_BUCKETS if wide else BUCKETS
    rows = [_alias(row, buckets) if alphabet <= buckets else _cumulative(row) for row in frequencies]
    symbol, frequency, position = (np.stack(part) for part in zip(*rows, strict=True))
    return symbol.astype(np.uint8), frequency.astype(np.uint16), position.astype(np.uint16)


def _cumulative(frequency: NDArray[np.uint16]) -> tuple[NDArray[np.int64], ...]:
    symbol = np.repeat(np.arange(frequency.size), frequency)
    start = np.cumsum(frequency, dtype=np.int64) - frequency
    return symbol, frequency[symbol].astype(np.int64), np.arange(TOTAL) - start[symbol]


def _alias(frequency: NDArray[np.uint16], buckets: int) -> tuple[NDArray[np.int64], ...]:
    slots = TOTAL // buckets
    left = [*frequency.tolist(), *[0] * (buckets - frequency.size)]
    own = np.array(left)
    divider, other = _shared(left, slots)
    used = np.where(other == np.arange(buckets), slots, divider)
    shift = np.zeros(buckets, np.int64)
    for b in range(buckets):
        if other[b] != b:
            shift[b] = used[other[b]] - divider[b]
            used[other[b]] += slots - divider[b]
    bucket, within = np.divmod(np.arange(TOTAL), slots)
    aliased = within >= divider[bucket]
    symbol = np.where(aliased, other[bucket], bucket)
    return symbol, own[symbol], within + np.where(aliased, shift[bucket], 0)


def _shared(left: list[int], slots: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many slots of each bucket are its own symbol's, and whose the others are; the lowest symbol is on top."""
    buckets = len(left)
    divider, other = np.zeros(buckets, np.int64), np.arange(buckets)
    small = [s for s in range(buckets - 1, -1, -1) if left[s] < slots]
    large = [s for s in range(buckets - 1, -1, -1) if left[s] >= slots]
    while small:
        s, g = small.pop(), large[-1]
        divider[s], other[s] = left[s], g
        left[g] -= slots - left[s]
        if left[g] < slots:
            small.append(large.pop())
    return divider, other
