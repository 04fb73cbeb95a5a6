"""Row and column levels of a code matrix, chosen for the shortest file, and the few tables that their sums select.

The model is that of attar/entropy.py: the magnitude expected at [r, c] is a row scale times a column scale, so that
the sum of two small levels picks the table. Levels start there and are then moved, rows and columns in turn, to where
code and levels together take the fewest bits (k-means with code lengths for distances; Chou, Lookabaugh and Gray 1989).
Level 0 is an empty row or column; the sum's class is row + column, and 0 wherever one of them is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar import entropy
from attar.coding import kernel, streams
from attar.coding.counting import BUCKETS
from attar.coding.streams import Coder
from attar.errors import FormatError
from attar.types import Array

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
Blocks = Iterable[tuple[slice, F64]]
HIGHEST = 28
"""Largest level; 56 classes at most."""
ROUNDS = ((1 << 16, 12), (1 << 20, 4))
"""Moves of rows and columns at most, by the number of codes; two for larger matrices."""
UNIT = 64
"""Fractions of a bit in which code lengths are compared."""
KEPT = 1 << 22
"""Counts that are kept for a second use, or counted at a time."""
_EDGES = np.array([0, 1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 56, 80, 112, 160])
_CAP = 160
_BUCKET = (np.searchsorted(_EDGES, np.arange(_CAP + 1), side="right") - 1).astype(np.uint8)
_MIDDLE = np.append((_EDGES[:-1] + np.maximum(_EDGES[1:] - 1, _EDGES[:-1])) / 2, _CAP)
"""Magnitude that stands for a bucket."""


@dataclass(frozen=True)
class Levels:
    """rows [rows] and cols [cols] in 0 .. HIGHEST; all ones where that side is not used."""

    rows: U8
    cols: U8

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.rows.max(initial=0)) + int(self.cols.max(initial=0)) + 1


def flat(shape: tuple[int, int]) -> Levels:
    """No levels at all: one class for every position."""
    return Levels(np.ones(shape[0], np.uint8), np.ones(shape[1], np.uint8))


def fitted(symbols: U8, values: NDArray[np.int64], by_row: bool, by_column: bool) -> Levels:
    """Levels for the shortest code of a non-empty symbol matrix, of its rows, its columns or both.

    values [256] are the codes that the symbols stand for; those of escapes, which are outliers, count as the largest.
    """
    bucket = _BUCKET[np.minimum(np.abs(values), _CAP)]
    start = [_first(symbols, bucket, axis) for axis in (0, 1)]
    total = max(float(start[0].mean()), 1e-12)
    row, column = _from_octaves(entropy.half_octaves(start[0] / total)), _from_octaves(entropy.half_octaves(start[1]))
    plain = flat((symbols.shape[0], symbols.shape[1]))
    row = row if by_row else plain.rows
    column = column if by_column else plain.cols
    for _ in range(next((rounds for size, rounds in ROUNDS if symbols.size <= size), 2)):
        before = row, column
        if by_row:
            row = _moved(symbols, bucket, row, column, 0)
        if by_column:
            column = _moved(symbols, bucket, column, row, 1)
        if (row == before[0]).all() and (column == before[1]).all():
            break
    return Levels(row, column)


def _first(symbols: U8, bucket: U8, axis: int) -> F64:
    """Mean magnitude of each line of an axis."""
    counts = np.empty((symbols.shape[axis], 1, BUCKETS), np.uint32)
    other = np.zeros(symbols.shape[1 - axis], np.uint8)
    kernel.kernel().count_lines(symbols, bucket, other, axis, counts)
    return np.asarray(counts[:, 0] @ _MIDDLE / max(other.size, 1))


def _from_octaves(levels: NDArray[np.int8]) -> U8:
    """Half octaves as levels from 1 up; 0 for an empty line."""
    live = levels > entropy.LOWEST
    lowest = int(levels[live].max(initial=0)) - HIGHEST + 5
    lowest = max(lowest, int(levels[live].min(initial=127)))
    return np.where(live, np.maximum(levels.astype(np.int64) - lowest, 0) + 1, 0).astype(np.uint8)


def _counted(symbols: U8, bucket: U8, other: U8, axis: int) -> Iterator[tuple[slice, F64]]:
    """How often each bucket occurs in each line with each level of the other side; blocks [lines, levels, buckets]."""
    lines = symbols.shape[axis]
    levels = int(other.max(initial=0)) + 1
    step = max(1, KEPT // (levels * BUCKETS))
    for at in range(0, lines, step):
        block = symbols[at : at + step] if axis == 0 else symbols[:, at : at + step]
        counts = np.empty((block.shape[axis], levels, BUCKETS), np.uint32)
        kernel.kernel().count_lines(np.ascontiguousarray(block), bucket, other, axis, counts)
        yield slice(at, at + len(counts)), counts.astype(np.float64)


def _moved(symbols: U8, bucket: U8, own: U8, other: U8, axis: int) -> U8:
    """The lines' levels, each moved to where its code and the level itself take the fewest bits.

    Bits are whole multiples of 1/UNIT, so that sums are exact and do not depend on how BLAS orders them.
    """
    top = min(int(own.max(initial=1)) + 1, HIGHEST)
    levels = int(other.max(initial=0)) + 1
    kept = list(_counted(symbols, bucket, other, axis)) if own.size * levels * BUCKETS <= KEPT else None
    bits = np.rint(UNIT * _class_bits(kept or _counted(symbols, bucket, other, axis), own, levels, top))
    candidates = np.arange(1, top + 1)
    pairs = np.where(np.arange(levels)[None, :] > 0, candidates[:, None] + np.arange(levels), 0)
    price = bits[pairs].reshape(top, -1).T
    used = np.bincount(own, minlength=top + 1)[1 : top + 1] + 0.3
    own_price = np.rint(-UNIT * np.log2(used / used.sum()))
    best = np.ones(own.size, np.int64)
    for lines, counts in kept or _counted(symbols, bucket, other, axis):
        best[lines] = np.argmin(counts.reshape(len(counts), -1) @ price + own_price, axis=1) + 1
    live = own > 0
    best -= int(best[live].min(initial=HIGHEST)) - 1
    return np.where(live, best, 0).astype(np.uint8)


def _class_bits(blocks: Blocks, own: U8, levels: int, top: int) -> F64:
    """Code lengths [classes, buckets] from the counts, smoothed with those of all classes."""
    width = BUCKETS
    table = np.zeros((top + levels, width))
    for lines, counts in blocks:
        for level in np.unique(own[lines]):
            here = counts[own[lines] == level].sum(0)
            table[0] += here[0] if level else here.sum(0)
            table[level + 1 : level + levels] += here[1:] if level else 0
    overall = table[1:].sum(0) + 2.0 ** -np.arange(width)
    table += 4 * overall / overall.sum()
    return np.asarray(-np.log2(table / table.sum(1, keepdims=True)))


def merged(counts: Array) -> tuple[U8, Array]:
    """Classes put together into tables: table_of [classes], and the tables' counts [tables, alphabet].

    The contiguous ranges with the fewest bits of code and tables, by dynamic programming.
    """
    classes = len(counts)
    total = np.concatenate([np.zeros((1, counts.shape[1])), np.cumsum(counts, axis=0, dtype=np.float64)])
    best = np.full(classes + 1, np.inf)
    best[0] = 0
    origin = np.zeros(classes + 1, np.int64)
    for stop in range(1, classes + 1):
        cost = best[:stop] + _range_bits(total[stop] - total[:stop])
        origin[stop] = int(np.argmin(cost))
        best[stop] = cost[origin[stop]]
    stops = [classes]
    while stops[-1] > 0:
        stops.append(int(origin[stops[-1]]))
    stops.reverse()
    table_of = np.repeat(np.arange(len(stops) - 1), np.diff(stops)).astype(np.uint8)
    return table_of, np.diff(total[stops], axis=0).astype(np.int64)


def _range_bits(counts: F64) -> F64:
    """Bits of the code and of the description of one table for each row of counts."""
    total = counts.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        code = np.where(counts > 0, -counts * np.log2(counts / total), 0.0).sum(1)
    return np.asarray(code + 8 + 3.0 * (counts > 0).sum(1))


MODELS = range(3)
"""How a run of small numbers is predicted: not at all, by a context of the number before, by the number before."""


def describe_levels(coder: Coder, count: int, side: U8 | None = None) -> U8:
    """Writes one side's levels, or reads `count` of them; raises FormatError."""
    values = np.zeros(count, np.int64) if side is None else side.astype(np.int64)
    centre = coder.natural(streams.CENTRE, int(np.median(values)) if count else 0, HIGHEST)
    values -= centre
    model = coder.bits(2, 0 if side is None else shortest(values, 2 * HIGHEST)[0])
    if model not in MODELS:
        raise FormatError(f"rans: the level model must be 0, 1 or 2. Received {model}. Fetch the file again.")
    coder.run(streams.VALUE, model, values, 2 * HIGHEST)
    values += centre
    if values.size and not 0 <= values.min() <= values.max() <= HIGHEST:
        raise FormatError(
            f"rans: a level must be 0 to {HIGHEST}. Received {values.min()} to {values.max()}. Fetch the file again."
        )
    return values.astype(np.uint8)


def shortest(values: NDArray[np.int64], limit: int) -> tuple[int, bytes]:
    """The model that takes the fewest bytes for a run of numbers, and these bytes with the model in front."""
    runs = []
    for model in MODELS:
        coder = kernel.kernel().SideEncoder()
        coder.bits(2, model)
        coder.run(streams.VALUE, model, values.copy(), limit)
        runs.append((model, coder.finish()))
    return min(runs, key=lambda one: len(one[1]))


def run_bits(side: U8) -> float:
    """About what small numbers 0 .. 255 take: their entropy, and half a logarithm for each that occurs."""
    counts = np.bincount(side)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / side.size)).sum() + 0.5 * counts.size * np.log2(side.size + 1))
