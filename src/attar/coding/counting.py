"""Histograms of a symbol matrix, for the choice of levels and tables; those of native/counts.hpp among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
BUCKETS = 16
_BLOCK = 1 << 21
"""Symbols that are counted at a time."""


def histogram(symbols: U8, counts: NDArray[np.int64]) -> None:
    """Add to counts [256] how often each byte of symbols [n] occurs."""
    counts += np.bincount(symbols, minlength=256)


def window(bytes: U8, low: int, width: int, symbols: U8) -> int:
    """Fill symbols [n] with bytes less low, modulo 256 and at most width; the number of those outside."""
    distance = bytes - np.uint8(low)
    np.minimum(distance, np.uint8(width), out=symbols)
    return int((distance >= width).sum())


def count_lines(symbols: U8, bucket: U8, other: U8, axis: int, out: NDArray[np.int64]) -> None:
    """Fill out [lines, levels, 16]: how often each bucket occurs in each line of an axis, by the other axis' level."""
    matrix = symbols if axis == 0 else symbols.T
    cell = out.shape[1] * BUCKETS
    step = max(1, _BLOCK // max(matrix.shape[1], cell))
    base = other.astype(np.int64) * BUCKETS
    for at in range(0, len(matrix), step):
        block = bucket[matrix[at : at + step]] + base + np.arange(min(step, len(matrix) - at))[:, None] * cell
        counts = np.bincount(block.ravel(), minlength=len(block) * cell)
        out[at : at + step] = counts.reshape(len(block), out.shape[1], BUCKETS)


def count_classes(symbols: U8, rows: U8, cols: U8, out: NDArray[np.int64]) -> None:
    """Add to out [classes, alphabet] how often each symbol occurs in each class: row + column level, 0 if one is 0."""
    step = max(1, _BLOCK // max(cols.size, 1))
    for at in range(0, len(symbols), step):
        block = symbols[at : at + step]
        level = rows[at : at + step, None].astype(np.int64)
        index = np.where((level > 0) & (cols > 0), level + cols, 0) * out.shape[1] + block
        out += np.bincount(index.ravel(), minlength=out.size).reshape(out.shape)
