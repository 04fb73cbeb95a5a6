"""The order in which the symbols of a matrix are coded: sorted by level, so that long runs share one table.

Rows are sorted by row level, columns by column level, both stable. A chunk is some consecutive sorted rows; its groups
of rows with one level are cut where the table changes. Long runs are what lets the decoder keep a table in registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from attar.coding.levels import Levels
from attar.coding.symbols import U8

I32 = NDArray[np.int32]
CHUNK = 1 << 19
"""Symbols, about, that are decoded independently of all others; part of the file format."""


@dataclass(frozen=True)
class Chunk:
    """rows [r] and columns [c] of the matrix in the order of coding; runs [k, 3] of rows, width and table; the chunk's
    place among all columns (0 .. c, but in a matrix of one row).
    """

    rows: I32
    columns: I32
    runs: I32
    span: slice

    @property
    def size(self) -> int:
        """Symbols."""
        return self.rows.size * self.columns.size


def chunks(levels: Levels, table_of: U8) -> Iterator[Chunk]:
    """The chunks of a matrix, in order; table_of [classes]."""
    height, width = levels.rows.size, levels.cols.size
    if height == 1:
        # No levels here: pieces of one long row.
        for start, stop in _pieces(width, CHUNK):
            size = stop - start
            yield Chunk(_first(1), _first(size), np.array([[1, size, 0]], np.int32), slice(start, stop))
        return
    rows = _sorted(levels.rows)
    columns = _sorted(levels.cols)
    spans = {level: _spans(level, levels.cols[columns], table_of) for level in np.unique(levels.rows).tolist()}
    for start, stop in _pieces(height, max(1, CHUNK // width)):
        chosen = rows[start:stop]
        found, sizes = np.unique(levels.rows[chosen], return_counts=True)
        runs = [
            [size, *span] for level, size in zip(found.tolist(), sizes.tolist(), strict=True) for span in spans[level]
        ]
        yield Chunk(chosen, columns, np.array(runs, np.int32), slice(0, width))


def _pieces(count: int, most: int) -> Iterator[tuple[int, int]]:
    """Equal parts of at most so many lines, the last one perhaps smaller."""
    size = -(-count // -(-count // most))
    for start in range(0, count, size):
        yield start, min(start + size, count)


def _sorted(levels: U8) -> I32:
    """The lines by level, stable."""
    return np.argsort(levels, kind="stable").astype(np.int32)


@cache
def _arange() -> I32:
    return np.arange(CHUNK, dtype=np.int32)


def _first(count: int) -> I32:
    return _arange()[:count]


def _spans(level: int, columns: U8, table_of: U8) -> list[list[int]]:
    """Width and table of each run of sorted columns for rows of a level."""
    classes = np.where((columns > 0) & (level > 0), columns.astype(np.int64) + level, 0)
    tables = table_of[classes]
    cuts = [0, *(np.flatnonzero(np.diff(tables)) + 1).tolist(), tables.size]
    return [[stop - start, int(tables[start])] for start, stop in pairwise(cuts)]


def places(chunk: Chunk, index: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Where some symbols of a chunk, by their index in it, stand in a matrix of so many columns, row by row."""
    runs = chunk.runs.astype(np.int64)
    size = runs[:, 0] * runs[:, 1]
    stop = np.cumsum(size)
    # A run begins at the column where the one before it ended, and in its group's first row.
    column = np.cumsum(runs[:, 1]) - runs[:, 1]
    group, first_column = np.divmod(column, chunk.columns.size)
    heights = runs[first_column == 0, 0]
    first_row = (np.cumsum(heights) - heights)[group]
    run = np.searchsorted(stop, index, side="right")
    row, offset = np.divmod(index - (stop - size)[run], runs[run, 1])
    found = chunk.rows[first_row[run] + row].astype(np.int64) * width
    return np.asarray(found + chunk.span.start + chunk.columns[first_column[run] + offset])
