"""The order in which the symbols of a matrix are coded: sorted by level, so that long runs share one table.

Rows are sorted by row level, columns by column level, both stable. A chunk is some consecutive sorted rows; its groups
of rows with one level are cut where the table changes. Long runs are what lets the decoder keep a table in registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

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


def chunks(levels: Levels, table_of: U8, even: bool) -> Iterator[Chunk]:
    """The chunks of a matrix, in order, an even number of them where that is asked for; table_of [classes]."""
    height, width = levels.rows.size, levels.cols.size
    if height == 1:
        # No levels here: pieces of one long row.
        for start, stop in _pieces(width, CHUNK):
            size = stop - start
            yield Chunk(_first(1), _first(size), np.array([[1, size, 0]], np.int32), slice(start, stop))
        return
    rows = _sorted(levels.rows)
    columns = _sorted(levels.cols)
    spans = _all_spans(levels, table_of)
    for start, stop in _pieces(height, max(1, CHUNK // width), even):
        chosen = rows[start:stop]
        groups = [(level, size) for level, size in enumerate(np.bincount(levels.rows[chosen]).tolist()) if size]
        runs = [[size, *span] for level, size in groups for span in spans[level]]
        yield Chunk(chosen, columns, np.array(runs, np.int32), slice(0, width))


def _piece(count: int, most: int, even: bool) -> int:
    """Lines in each of some equal parts of at most so many, but perhaps the last one."""
    parts = -(-count // most)
    parts += parts % 2 if even and parts > 1 else 0
    return -(-count // parts)


def _pieces(count: int, most: int, even: bool = False) -> Iterator[tuple[int, int]]:
    """Equal parts of at most so many lines, the last one perhaps smaller."""
    size = _piece(count, most, even)
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


def _all_spans(levels: Levels, table_of: U8) -> list[list[list[int]]]:
    """The spans of the rows of each level."""
    widths, tables = np.bincount(levels.cols).tolist(), table_of.tolist()
    return [_spans(level, widths, tables) for level in range(int(levels.rows.max()) + 1)]


def _spans(level: int, widths: list[int], table_of: list[int]) -> list[list[int]]:
    """Width and table of each run of sorted columns for rows of a level; widths: columns of each level."""
    spans: list[list[int]] = []
    for other, width in enumerate(widths):
        if width:
            # A row level that does not occur may lie beyond the classes.
            table = table_of[min(level + other, len(table_of) - 1) if level and other else 0]
            if spans and spans[-1][1] == table:
                spans[-1][0] += width
            else:
                spans.append([width, table])
    return spans


def turns(levels: Levels, table_of: U8, even: bool, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices that put some places of a matrix, row by row, into the order of coding."""
    height, width = levels.rows.size, levels.cols.size
    if height == 1:
        return np.argsort(places, kind="stable")
    row, column = np.divmod(places, width)
    row_rank, column_rank = np.argsort(_sorted(levels.rows))[row], np.argsort(_sorted(levels.cols))[column]
    level, span = levels.rows[row], np.zeros(places.size, np.int64)
    spans = _all_spans(levels, table_of)
    for one in np.unique(level):
        ends = np.cumsum([span_width for span_width, _ in spans[one]])
        span[level == one] = np.searchsorted(ends, column_rank[level == one], side="right")
    chunk = row_rank // _piece(height, max(1, CHUNK // width), even)
    return np.lexsort((column_rank, row_rank, span, level, chunk))


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
