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
from attar.coding import kernel
from attar.coding.streams import Coder, Encoder
from attar.errors import FormatError
from attar.types import Array

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
HIGHEST = 28
"""Largest level; 56 classes at most."""
ROUNDS, LARGE_ROUNDS, LARGE = 12, 3, 1 << 21
"""Moves of rows and columns at most; fewer for matrices with more than LARGE codes."""
UNIT = 64
"""Fractions of a bit in which code lengths are compared."""
KEPT = 1 << 22
"""Counts that are kept for a second use."""
BLOCK = 1 << 21
"""Codes that are counted at a time."""
_EDGES = np.array([0, 1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 56, 80, 112, 160])
_CAP = 160
_BUCKET = (np.searchsorted(_EDGES, np.arange(_CAP + 1), side="right") - 1).astype(np.uint8)
_EMPTY = -1000


@dataclass(frozen=True)
class Levels:
    """rows [rows] and cols [cols] in 0 .. HIGHEST; all ones where that side is not used."""

    rows: U8
    cols: U8

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.rows.max(initial=0)) + int(self.cols.max(initial=0)) + 1

    def contexts(self, start: int, count: int, table_of: U8) -> U8:
        """The tables [count] of the positions from `start` on, row by row; table_of [classes]."""
        rows, cols = (np.where(side > 0, side, _EMPTY).astype(np.int16) for side in (self.rows, self.cols))
        return kernel.contexts_of(start, count, rows, cols, table_of)


def flat(shape: tuple[int, int]) -> Levels:
    """No levels at all: one class for every position."""
    return Levels(np.ones(shape[0], np.uint8), np.ones(shape[1], np.uint8))


def fitted(codes: Array, by_row: bool, by_column: bool) -> Levels:
    """Levels for the shortest code of a non-empty integer matrix, of its rows, its columns or both."""
    # A few huge codes, which will be escapes, must not pass for the scale of their lines.
    held = np.clip(codes, -_CAP, _CAP)
    row, column = (_from_octaves(side) for side in entropy.levels(held))
    plain = flat((codes.shape[0], codes.shape[1]))
    row = row if by_row else plain.rows
    column = column if by_column else plain.cols
    buckets = _BUCKET[np.abs(held)]
    for _ in range(ROUNDS if codes.size <= LARGE else LARGE_ROUNDS):
        before = row, column
        if by_row:
            row = _moved(buckets, row, column)
        if by_column:
            column = _moved(buckets.T, column, row)
        if (row == before[0]).all() and (column == before[1]).all():
            break
    return Levels(row, column)


def _from_octaves(levels: NDArray[np.int8]) -> U8:
    """Half octaves as levels from 1 up; 0 for an empty line."""
    live = levels > entropy.LOWEST
    lowest = int(levels[live].max(initial=0)) - HIGHEST + 5
    lowest = max(lowest, int(levels[live].min(initial=127)))
    return np.where(live, np.maximum(levels.astype(np.int64) - lowest, 0) + 1, 0).astype(np.uint8)


def _counted(buckets: U8, other: U8) -> Iterator[tuple[slice, F64]]:
    """How often each bucket occurs in each line with each level of the other side; blocks [lines, levels, buckets]."""
    lines, width = buckets.shape
    levels = int(other.max(initial=0)) + 1
    cell = levels * len(_EDGES)
    step = max(1, BLOCK // max(width, cell))
    base = other.astype(np.int64) * len(_EDGES)
    for at in range(0, lines, step):
        block = buckets[at : at + step]
        index = block + base + np.arange(len(block))[:, None] * cell
        counts = np.bincount(index.ravel(), minlength=len(block) * cell)
        yield slice(at, at + len(block)), counts.reshape(len(block), levels, len(_EDGES)).astype(np.float64)


def _moved(buckets: U8, own: U8, other: U8) -> U8:
    """The lines' levels, each moved to where its code and the level itself take the fewest bits.

    Bits are whole multiples of 1/UNIT, so that sums are exact and do not depend on how BLAS orders them.
    """
    top = min(int(own.max(initial=1)) + 1, HIGHEST)
    levels = int(other.max(initial=0)) + 1
    blocks = list(_counted(buckets, other)) if own.size * levels * len(_EDGES) <= KEPT else None
    bits = np.rint(UNIT * _class_bits(blocks or _counted(buckets, other), own, levels, top))
    candidates = np.arange(1, top + 1)
    pairs = np.where(np.arange(levels)[None, :] > 0, candidates[:, None] + np.arange(levels), 0)
    price = bits[pairs].reshape(top, -1).T
    used = np.bincount(own, minlength=top + 1)[1 : top + 1] + 0.3
    own_price = np.rint(-UNIT * np.log2(used / used.sum()))
    best = np.ones(own.size, np.int64)
    for lines, counts in blocks or _counted(buckets, other):
        best[lines] = np.argmin(counts.reshape(len(counts), -1) @ price + own_price, axis=1) + 1
    live = own > 0
    best -= int(best[live].min(initial=HIGHEST)) - 1
    return np.where(live, best, 0).astype(np.uint8)


def _class_bits(blocks: Iterable[tuple[slice, F64]], own: U8, levels: int, top: int) -> F64:
    """Code lengths [classes, buckets] from the counts, smoothed with those of all classes."""
    width = len(_EDGES)
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


def describe_run(
    coder: Coder, count: int, model: int, values: list[int] | None = None, limit: int = 1 << 40
) -> list[int]:
    """Writes small numbers around zero, or reads `count` of them."""
    done: list[int] = []
    before = 0
    for i in range(count):
        value = 0 if values is None else values[i]
        if model == 2:
            value = before + coder.integer("value", value - before, 2 * limit)
        elif model == 1:
            value = coder.integer(("value", min(max(before, -3), 3)), value, limit)
        else:
            value = coder.integer("value", value, limit)
        done.append(value)
        before = value
    return done


def describe_levels(coder: Coder, count: int, side: U8 | None = None) -> U8:
    """Writes one side's levels, or reads `count` of them; raises FormatError."""
    values = None if side is None else side.astype(np.int64)
    centre = coder.natural("centre", 0 if values is None else int(np.median(values)), HIGHEST)
    given = None if values is None else [int(v) for v in values - centre]
    model = coder.bits(2, 0 if given is None else shortest(given)[0])
    if model not in MODELS:
        raise FormatError(f"rans: the level model must be 0, 1 or 2. Received {model}. Fetch the file again.")
    read = np.asarray(describe_run(coder, count, model, given, 2 * HIGHEST), np.int64) + centre
    if read.size and not 0 <= read.min() <= read.max() <= HIGHEST:
        raise FormatError(
            f"rans: a level must be 0 to {HIGHEST}. Received {read.min()} to {read.max()}. Fetch the file again."
        )
    return read.astype(np.uint8)


def shortest(values: list[int], limit: int = 1 << 40) -> tuple[int, bytes]:
    """The model that takes the fewest bytes for a run, and these bytes with the model in front."""
    runs = []
    for model in MODELS:
        coder = Encoder()
        coder.bits(2, model)
        describe_run(coder, len(values), model, values, limit)
        runs.append((model, coder.finish()))
    return min(runs, key=lambda one: len(one[1]))


def run_bits(side: U8) -> float:
    """About what small numbers 0 .. 255 take: their entropy, and half a logarithm for each that occurs."""
    counts = np.bincount(side)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / side.size)).sum() + 0.5 * counts.size * np.log2(side.size + 1))
