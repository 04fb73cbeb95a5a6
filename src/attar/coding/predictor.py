"""What the columns of a row say about each other: the twin of native/predictor.hpp.

The best linear prediction of a value from those before it in its row, by the covariance of all rows before. It is kept
as L D L^T with a unit triangle L and changed by one row at a time (Gill, Golub, Murray and Saunders 1974, method C1),
beginning with a multiple of the identity, which is a ridge. float32, each operation rounded by itself and in this
order, so that every machine predicts the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
WIDEST_BLOCK = 1024
WIDEST = 4096
FEWEST_ROWS = 4


class Predictor:
    """Columns are in blocks of equal width, independent of each other; energy is the expected square of a value."""

    def __init__(self, rows: int, cols: int, energy: int) -> None:
        self.on = rows >= FEWEST_ROWS and 2 <= cols <= WIDEST
        self.width = -(-cols // -(-cols // WIDEST_BLOCK))
        self.values = np.zeros(cols, np.float32)
        if self.on:
            self._factor = np.zeros((cols, self.width), np.float32)
            self._diagonal = np.full(cols, energy * self.width * 3 // 5, np.float32)

    def begin(self, previous: list[int] | None) -> None:
        """A new row; previous [cols] are the values of the row before, None for the first."""
        self.values[:] = 0
        if not self.on or previous is None:
            return
        seen = np.array(previous, np.float32)
        with np.errstate(all="ignore"):
            for first in range(0, seen.size, self.width):
                self._turn(first, seen[first : first + self.width])

    def _turn(self, first: int, rest: F32) -> None:
        """The covariance of one block gains a row: rest [width of the block], which is used up."""
        share = np.float32(1)
        for j in range(rest.size):
            p = rest[j]
            if p == 0:
                continue
            before = self._diagonal[first + j]
            scaled = share * p
            after = before + scaled * p
            share = share * before / after
            self._diagonal[first + j] = after
            column = self._factor[first + j, j + 1 : rest.size]
            rest[j + 1 :] -= p * column
            column += (scaled / after) * rest[j + 1 :]

    def learn(self, column: int, value: int) -> None:
        """What the value of a column was; columns come in order."""
        if not self.on:
            return
        error = np.float32(value) - self.values[column]
        at = column % self.width
        rest = self.values[column + 1 : column - at + self.width]
        with np.errstate(all="ignore"):
            if error != 0:
                rest += self._factor[column, at + 1 : at + 1 + rest.size] * error
