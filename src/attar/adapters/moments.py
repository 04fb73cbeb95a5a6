"""Input statistics of layers, summed batch by batch: what an adapter's `moments` is made of.

Products are made in float32 (BLAS) and summed in float64. The first batch's mean is subtracted from every batch before
the product, so that centring at the end does not cancel leading digits (Chan, Golub, LeVeque 1983, "Algorithms for
computing the sample variance").
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from attar.types import Array, Stats


class MomentSum:
    """Mean and centred second moment of a layer's input columns, and of their mean over the positions of an example.

    Columns come example by example, as many for each (the order of `unfold`).
    """

    def __init__(self, groups: int, cols: int):
        self.count = 0
        self.samples = 0
        self._shift: NDArray[np.float32] | None = None
        self._first = np.zeros((groups, cols))
        self._second = np.zeros((groups, cols, cols))
        self._pooled = np.zeros((groups, cols, cols))
        self._several = False

    def add(self, x: Array, samples: int) -> None:
        """Add columns x[groups, cols, n] that came from this many examples; x is not modified."""
        x = np.asarray(x, np.float32)
        self.samples += samples
        if not x.shape[2]:
            return
        # Columns as rows of memory, the layout that `unfold` makes: no transposition, and BLAS takes it as it is.
        columns: Array = x.transpose(0, 2, 1)
        if self._shift is None:
            self._shift = _sum(columns) / np.float32(columns.shape[1])
        moved: Array = np.empty(columns.shape, np.float32)  # group by group in memory, whatever the layout of x
        np.subtract(columns, self._shift, out=moved)
        self.count += moved.shape[1]
        self._first += _sum(moved)[:, 0]
        self._second += moved.transpose(0, 2, 1) @ moved
        if samples and not moved.shape[1] % samples:
            self._several |= moved.shape[1] > samples
            means = moved.reshape(len(moved), samples, -1, moved.shape[2]).mean(2)
            self._pooled += means.transpose(0, 2, 1) @ means

    def stats(self) -> Stats | None:
        """The statistics so far; None where no column was seen."""
        if self._shift is None:
            return None
        mean = self._first / self.count
        hessian = self._second / self.count
        square = mean[:, :, None] * mean[:, None, :]
        pooled = self._pooled / self.samples - square if self._several else None
        return Stats(hessian - square, mean + self._shift[:, 0], self.count, self.samples, pooled=pooled)


def _sum(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum over the columns, [groups, 1, depth]; as a product, which is many times faster for short rows."""
    return np.ones((1, columns.shape[1]), np.float32) @ columns


class IdCounts:
    """How often each column of an embedding's matrix was looked up.

    The inputs are one-hot, so E[x x^T] is the diagonal of frequencies; it is given uncentred, with mean 0, which
    makes the distortion sum_c p_c e_c^2 exact with a diagonal alone.
    """

    def __init__(self, cols: int):
        self.samples = 0
        self._counts = np.zeros(cols, np.int64)

    def add(self, ids: Array, samples: int) -> None:
        """Add looked-up ids (any shape, 0 .. cols - 1; negative ones count from the end) from this many examples."""
        flat = np.asarray(ids).ravel().astype(np.int64)
        self.samples += samples
        self._counts += np.bincount(flat % len(self._counts), minlength=len(self._counts))

    def stats(self) -> Stats | None:
        """The statistics so far; None where nothing was looked up."""
        count = int(self._counts.sum())
        if not count:
            return None
        frequency = self._counts[None, :] / count
        return Stats(frequency, np.zeros_like(frequency), count, self.samples)


def seed_of(name: str, batch: int) -> tuple[int, int]:
    """The seed for `unfold.pick`: the same for the same layer and batch number in every run."""
    return crc32(name.encode()), batch
