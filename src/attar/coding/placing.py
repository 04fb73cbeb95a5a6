"""From a chunk's order of symbols to a matrix and back: native/place.hpp in numpy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from attar.coding.layout import Malformed
from attar.types import Array

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
FORMATS = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def collect(source: U8, rows: I32, columns: I32, runs: I32, symbols: U8) -> None:
    """Fill symbols [n] from the chunk's rows of source [height, width], in the chunk's order."""
    _check(rows, columns, runs, len(source))
    ordered = source[rows[:, None], columns[None, :]]
    at = row = 0
    for group in _groups(runs, columns.size):
        column = 0
        for height, width, _ in group:
            symbols[at : at + height * width] = ordered[row : row + height, column : column + width].ravel()
            at += height * width
            column += width
        row += group[0][0]


def place(symbols: U8, rows: I32, columns: I32, runs: I32, low: int, out: Array) -> None:
    """out[row, column] = low + symbol, modulo the size of out's unsigned dtype; other rows are left alone."""
    base = np.array(low % (1 << 64), np.uint64).astype(out.dtype)
    out[rows[:, None], columns[None, :]] = _sorted(symbols, rows, columns, runs, len(out)).astype(out.dtype) + base


def place_scaled(
    symbols: U8, rows: I32, columns: I32, runs: I32, low: int, column: Array, row: Array, out: U8, format: str
) -> None:
    """out = ((low + symbol) * column) * row in a format; column [groups, width], row [height], out [height, bytes]."""
    if not len(column) or row.size % len(column):
        raise Malformed("the rows must divide into the groups")
    codes = (_sorted(symbols, rows, columns, runs, row.size).astype(np.int32) + np.int32(low)).astype(np.float32)
    ordered = np.empty_like(codes)
    ordered[:, columns] = codes
    share = row.size // len(column)
    with np.errstate(over="ignore", invalid="ignore"):
        values = ordered * column[rows // share] * row[rows][:, None]
        out.view(FORMATS[format])[rows] = values.astype(FORMATS[format])


def _sorted(symbols: U8, rows: I32, columns: I32, runs: I32, height: int) -> U8:
    """The chunk's rows, columns sorted: [rows, width]."""
    _check(rows, columns, runs, height)
    result = np.empty((rows.size, columns.size), np.uint8)
    at = row = 0
    for group in _groups(runs, columns.size):
        column = 0
        for tall, width, _ in group:
            block = symbols[at : at + tall * width].reshape(tall, width)
            result[row : row + tall, column : column + width] = block
            at += tall * width
            column += width
        row += group[0][0]
    return result


def _groups(runs: I32, width: int) -> list[list[list[int]]]:
    """The runs of each group of rows."""
    groups: list[list[list[int]]] = []
    filled = width
    for run in runs.tolist():
        if filled == width:
            groups.append([])
            filled = 0
        groups[-1].append(run)
        filled += run[1]
        if run[0] < 1 or run[1] < 1 or run[0] != groups[-1][0][0]:
            raise Malformed("the runs of a group must have its rows")
        if filled > width:
            raise Malformed("the runs of a group must add up to the columns")
    if filled != width:
        raise Malformed("the runs of a group must add up to the columns")
    return groups


def _check(rows: I32, columns: I32, runs: I32, height: int) -> None:
    """The same rules as the native kernel's."""
    if sum(group[0][0] for group in _groups(runs, columns.size)) != rows.size:
        raise Malformed("the runs must add up to the rows")
    if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < height:
        raise Malformed("a row lies outside the matrix")
    if (np.sort(columns) != np.arange(columns.size)).any():
        raise Malformed("the columns must be a permutation")
