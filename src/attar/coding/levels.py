"""Row and column levels of a code matrix, chosen for the shortest file, and the few tables that their sums select.

The model is that of attar/entropy.py: the magnitude expected at [r, c] is a row scale times a column scale, so that
the sum of two small levels picks the table. Levels start there and are then moved, rows and columns in turn, to where
code and levels together take the fewest bits (k-means with code lengths for distances; Chou, Lookabaugh and Gray 1989).
Level 0 is an empty row or column; the sum's class is row + column, and 0 wherever one of them is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attar.coding import kernel, streams
from attar.coding.fit_levels import HIGHEST
from attar.coding.fixed import log2_fixed
from attar.coding.streams import Coder
from attar.errors import FormatError

U8 = NDArray[np.uint8]
ROUNDS = ((1 << 18, 12), (1 << 20, 6))
"""Moves of rows and columns at most, by the number of codes; three for larger matrices."""


@dataclass(frozen=True)
class Levels:
    """rows [rows] and cols [cols] in 0 .. HIGHEST; all ones where that side is not used."""

    rows: U8
    cols: U8

    @cached_property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.rows.max(initial=0)) + int(self.cols.max(initial=0)) + 1

    @cached_property
    def bits(self) -> tuple[int, int]:
        """About what the levels of the rows take, and those of the columns, in 2**-16 bit."""
        return level_bits(self.rows), level_bits(self.cols)


def flat(shape: tuple[int, int]) -> Levels:
    """No levels at all: one class for every position."""
    return Levels(np.ones(shape[0], np.uint8), np.ones(shape[1], np.uint8))


@dataclass(frozen=True)
class Fitted:
    """Levels, and about what code and levels take without any, with the rows', the columns', both, in 2**-16 bit."""

    levels: Levels
    bits: tuple[int, int, int, int]


def fitted(symbols: U8, zero: int, size: int, by_row: bool, by_column: bool) -> Fitted:
    """Levels for the shortest code of a non-empty matrix of symbols below size, of its rows, its columns or both.

    zero is the symbol of the smallest magnitude.
    """
    found = flat((symbols.shape[0], symbols.shape[1]))
    rounds = next((rounds for most, rounds in ROUNDS if symbols.size <= most), 3)
    none, row, column, both = kernel.kernel().fit_levels(
        symbols, zero, size, by_row, by_column, rounds, found.rows, found.cols
    )
    sides = found.bits
    return Fitted(found, (none, row + sides[0], column + sides[1], both + sum(sides)))


def merged(counts: NDArray[np.int64]) -> tuple[U8, NDArray[np.int64]]:
    """Classes put together into tables: table_of [classes], and the tables' counts [tables, alphabet].

    The contiguous ranges with the fewest bits of code and tables.
    """
    table_of = np.zeros(len(counts), np.uint8)
    kernel.kernel().merge_classes(counts, table_of)
    starts = np.searchsorted(table_of, np.arange(int(table_of[-1]) + 1))
    return table_of, np.add.reduceat(counts, starts, axis=0)


MODELS = range(3)
"""How a run of small numbers is predicted: not at all, by a context of the number before, by the number before."""


def describe_levels(coder: Coder, count: int, side: U8 | None = None) -> U8:
    """Writes one side's levels, or reads `count` of them; raises FormatError."""
    values = np.zeros(count, np.int64) if side is None else side.astype(np.int64)
    centre = coder.natural(streams.CENTRE, 0 if side is None else int(np.bincount(side).argmax()), HIGHEST)
    values -= centre
    model = coder.bits(2, 0 if side is None else shortest(values, 2 * HIGHEST)[0])
    if model not in MODELS:
        raise FormatError(f"rans: the level model must be 0, 1 or 2. Received {model}. Fetch the file again.")
    coder.run(streams.VALUE, model, values, 2 * HIGHEST)
    if side is not None:
        return side
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


def level_bits(side: U8) -> int:
    """About what a side's levels take, in 2**-16 bit: their entropy, and half a logarithm for each that occurs."""
    counts = np.bincount(side)
    counts = counts[counts > 0]
    size, more = log2_fixed(np.array([side.size, side.size + 1])).tolist()
    return int(side.size * size - (counts * log2_fixed(counts)).sum() + counts.size * more // 2)
