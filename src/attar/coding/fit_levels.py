"""The choice of row and column levels for the shortest code: native/fit_levels.hpp in numpy.

Counts and bits are whole numbers, so that neither the order of sums nor the machine decides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attar.coding.counting import BUCKETS, count_lines
from attar.coding.fixed import FRACTION, log2_fixed

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
HIGHEST = 28
SAMPLE = 1 << 12
"""Symbols of a line that are counted at most."""
SETTLED = 12
"""Levels are settled where a round saves less than 2**-12 of the bits."""
_COARSE = 10
"""Bits are compared in 1/64: what is dropped of 2**-16."""
_EDGES = np.array([0, 1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 56, 80, 112, 160])
"""The smallest magnitude of each bucket."""
_CLASSES = 2 * HIGHEST + 2


def fit_levels(
    symbols: U8, zero: int, size: int, by_row: bool, by_column: bool, rounds: int, rows: U8, cols: U8
) -> tuple[int, int, int, int]:
    """Fill rows and cols with levels 0 .. HIGHEST of a non-empty matrix, or ones on a side without.

    The symbols are below size; zero is the one of the smallest magnitude. The bits of the code of the magnitudes'
    buckets, in 2**-16: without levels, with those of the rows alone, of the columns alone, with both.
    """
    del size  # which saves the native kernel some buckets
    rows[:], cols[:] = 1, 1
    bucket = (np.searchsorted(_EDGES, np.abs(np.arange(256) - zero), side="right") - 1).astype(np.uint8)
    magnitude = np.abs(symbols.astype(np.int64) - zero)
    if by_row:
        less = log2_fixed(np.maximum(magnitude.sum(keepdims=True), 1).ravel()) - log2_fixed(np.array([rows.size]))
        rows[:] = _start(magnitude.sum(1), int(less[0]))
    if by_column:
        cols[:] = _start(magnitude.sum(0), int(log2_fixed(np.array([rows.size]))[0]))
    across, down = _step(cols.size), _step(rows.size)
    last = 1 << 62
    for _ in range(rounds):
        if by_row:
            rows[:] = _moved(_counted(symbols, bucket, cols, 0), rows, across)
        if by_column:
            cols[:] = _moved(_counted(symbols, bucket, rows, 1), cols, down)
        classes = _classes(_counted(symbols, bucket, cols, 0), rows)
        bits = across * _entropy(classes) + _side_bits(rows) + _side_bits(cols)
        if last - bits < bits >> SETTLED:
            break
        last = bits
    counts = _counted(symbols, bucket, cols, 0)
    alone = _alone(counts, rows)
    column = down * _entropy(_alone(_counted(symbols, bucket, rows, 1), cols)) if by_column else 0
    none = across * _entropy(alone.sum(0, keepdims=True))
    return none, across * _entropy(alone), column, across * _entropy(_classes(counts, rows))


def _step(across: int) -> int:
    """Every so many-th symbol of a line is counted."""
    return -(-across // SAMPLE)


def _start(sums: I64, less: int) -> U8:
    """Half octaves of the lines' mean magnitude as levels from 1 up; 0 for an empty line."""
    live = sums > 0
    octaves = (2 * (log2_fixed(np.maximum(sums, 1)) - less) + (1 << (FRACTION - 1))) >> FRACTION
    if not live.any():
        return np.zeros(sums.size, np.uint8)
    least = max(int(octaves[live].min()), int(octaves[live].max()) - HIGHEST + 5)
    return np.where(live, np.maximum(octaves - least, 0) + 1, 0).astype(np.uint8)


def _counted(symbols: U8, bucket: U8, other: U8, axis: int) -> I64:
    """How often each bucket occurs in each line at each level of the other side: [lines, levels, buckets]."""
    step = _step(symbols.shape[1 - axis])
    chosen = symbols[:, ::step] if axis == 0 else symbols[::step]
    counts = np.empty((symbols.shape[axis], int(other.max()) + 1, BUCKETS), np.int64)
    count_lines(chosen, bucket, other[::step], axis, counts)
    return counts


def _classes(counts: I64, own: U8) -> I64:
    """How often each bucket occurs in each class: [classes, buckets]."""
    sums = np.zeros((_CLASSES, BUCKETS), np.int64)
    for level in np.unique(own):
        here = counts[own == level].sum(0)
        sums[0] += here[0] if level else here.sum(0)
        if level:
            sums[level + 1 : level + len(here)] += here[1:]
    return sums


def _alone(counts: I64, own: U8) -> I64:
    """The classes where the other side's levels are ignored."""
    sums = np.zeros((HIGHEST + 1, BUCKETS), np.int64)
    np.add.at(sums, own, counts.sum(1))
    return sums


def _prices(sums: I64) -> I64:
    """Code lengths [classes, buckets] in 1/64 bit, smoothed with the counts of all classes."""
    overall = (sums[1:].sum(0) << 8) + np.maximum(256 >> np.arange(BUCKETS), 1)
    smooth = (sums << 8) + 1 + 4096 * overall // overall.sum()
    return np.asarray((log2_fixed(smooth.sum(1, keepdims=True)) - log2_fixed(smooth)) >> _COARSE)


def _moved(counts: I64, own: U8, step: int) -> U8:
    """The lines' levels, each moved to where its code and the level itself take the fewest bits."""
    prices = _prices(_classes(counts, own))
    levels = counts.shape[1]
    live = own > 0
    candidates = np.arange(1, min(int(own.max()) + 1, HIGHEST) + 1)
    price = prices[candidates[:, None] + np.arange(1, levels)].reshape(candidates.size, -1).T
    used = 256 * np.bincount(own[live], minlength=candidates.size + 1)[1:] + 77
    price_own = ((log2_fixed(used.sum(keepdims=True)) - log2_fixed(used)) >> _COARSE) // step
    # Whole numbers below 2**53: exact whatever the order of BLAS.
    code = counts[:, 1:].reshape(len(counts), -1).astype(np.float64) @ price.astype(np.float64)
    best = np.argmin(code + price_own, axis=1) + 1
    best -= int(best[live].min(initial=HIGHEST)) - 1
    return np.where(live, best, 0).astype(np.uint8)


def _entropy(sums: I64) -> int:
    """The empirical entropy of buckets in classes, in 2**-16 bit."""
    total = sums.sum(1)
    within = (sums * log2_fixed(np.maximum(sums, 1))).sum()
    return int((total * log2_fixed(np.maximum(total, 1))).sum() - within)


def _side_bits(level: U8) -> int:
    """Bits of a side's levels, in 2**-16."""
    counts = np.bincount(level)
    size = np.array([level.size])
    return int((size * log2_fixed(size))[0] - (counts * log2_fixed(np.maximum(counts, 1))).sum())
