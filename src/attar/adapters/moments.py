"""Input statistics of layers, summed block by block: what an adapter's `moments` is made of.

Products are made in float32 (BLAS) and summed in float64. The first block's mean is subtracted from every block before
the product, so that centring at the end does not cancel leading digits (Chan, Golub, LeVeque 1983, "Algorithms for
computing the sample variance"). Blocks are of BLOCK examples however the data come, so that frameworks which run a
model on other numbers of examples at once agree to the last bit where their activations do; of fewer where so many
examples of a layer would take too much memory: every layer has one that waits to be whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from attar.types import Array, Stats

F32 = NDArray[np.float32]
T = TypeVar("T")
BLOCK = 128
"""Examples in one product."""
WIDE, PIECE = 1 << 23, 1 << 20
"""Numbers in a block from which it is too large to wait for, layer by layer, and numbers in a product then."""


def with_last(items: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Each item, and whether it is the last: of that one nothing has to wait for more."""
    waiting: list[T] = []
    for item in items:
        if waiting:
            yield waiting.pop(), False
        waiting.append(item)
    if waiting:
        yield waiting.pop(), True


class Pace:
    """How many examples to look at together: a few first, then as many as so many bytes allow, a block at most.

    What makes a block whole is taken where the bytes allow it, so that nothing is left over that waits for the next.
    """

    def __init__(self, most: int, examples: int = BLOCK) -> None:
        """most: bytes of what a model hands back; examples: no more, where what is made of it is larger."""
        self._most, self._examples, self._step = most, examples, min(8, examples)

    def __call__(self, start: int) -> int:
        """The next step, from the example of this number in its batch."""
        return min(self._step, BLOCK - start % BLOCK)

    def learn(self, nbytes: int, examples: int) -> None:
        """What so many examples took."""
        self._step = min(max(self._most // max(nbytes // examples, 1), 1), self._examples)


class MomentSum:
    """Mean and centred second moment of a layer's input columns, and of their mean over the positions of an example.

    Columns come example by example, as many for each (the order of `unfold`). pooled: whether that mean's moment is
    wanted; only what becomes of convolutions asks for it, and it is as large as the other.
    """

    def __init__(self, groups: int, cols: int, *, pooled: bool = True):
        self._wanted = pooled
        self.count = 0
        self.samples = 0
        self._shift: F32 | None = None
        self._first = np.zeros((groups, cols))
        self._second = np.zeros((groups, cols, cols))
        self._pooled = np.zeros((groups, cols, cols) if pooled else (0,))
        self._pooled_first = np.zeros((groups, cols) if pooled else (0,))
        self._several = False
        self._apart = False
        self._waiting: F32 | None = None
        """Room for a whole block, of which so many examples are there."""
        self._filled = 0

    def add(self, x: Array, samples: int) -> None:
        """Add columns x[groups, cols, n] that came from this many examples; x is not modified."""
        # Columns as rows of memory, the layout that `unfold` makes and BLAS takes as it is.
        columns = np.array(x.transpose(0, 2, 1), np.float32, order="C")
        if samples and columns.size and columns.shape[1] % samples == 0:
            self.take(columns.reshape(len(columns), samples, -1, columns.shape[2]))
            return
        self.samples += samples
        self.count += x.shape[2]
        if x.shape[2]:
            self.flush()
            self._sum(columns[:, None], pooled=False)

    def take(self, block: F32) -> None:
        """Add a block [groups, examples, positions, cols], contiguous, which is of no use to others afterwards."""
        groups, examples, *rest = block.shape
        self.samples += examples
        self.count += examples * block.shape[2]
        if self._waiting is not None and self._waiting.shape[2] != block.shape[2]:
            self.flush()
        size, start = _examples(block[:, :1].size), 0
        while start < examples:
            part = block[:, start : start + size - self._filled]
            start += part.shape[1]
            if part.shape[1] == size:
                self._sum(np.ascontiguousarray(part), pooled=True)
                continue
            if self._waiting is None:
                self._waiting = np.empty((groups, size, *rest), np.float32)
            self._waiting[:, self._filled : self._filled + part.shape[1]] = part
            self._filled += part.shape[1]
            if self._filled == size:
                self.flush()

    def flush(self) -> None:
        """Sum all that is waiting for a whole block; no more examples come."""
        if self._waiting is not None:
            whole, self._waiting = self._waiting[:, : self._filled], None
            self._filled = 0
            self._sum(whole, pooled=True)

    def _sum(self, block: F32, *, pooled: bool) -> None:
        """Add a block [groups, examples, positions, cols]."""
        groups, examples, positions, depth = block.shape
        moved = block.reshape(groups, examples * positions, depth)
        if self._shift is None:
            self._shift = _total(moved) / np.float32(moved.shape[1])
        moved -= self._shift  # a block is of no use afterwards
        self._first += _total(moved)[:, 0]
        self._second += moved.transpose(0, 2, 1) @ moved
        if pooled and self._wanted:
            self._several |= positions > 1
            means = moved.reshape(block.shape).mean(2)
            self._pooled += means.transpose(0, 2, 1) @ means
            self._pooled_first += means.sum(1)
        elif self._wanted:
            self._apart = True

    def stats(self) -> Stats | None:
        """The statistics so far; None where no column was seen."""
        self.flush()
        if self._shift is None:
            return None
        mean = self._first / self.count
        hessian = self._second / self.count
        square = mean[:, :, None] * mean[:, None, :]
        hessian -= square
        pooled = self._pooled / self.samples if self._several else None
        if pooled is not None and self._apart:
            # Of one use of a weight among several, whose mean is another: about its own, or it would not be a moment.
            mean_of_pooled = self._pooled_first / self.samples
            pooled -= mean_of_pooled[:, :, None] * mean_of_pooled[:, None, :]
        elif pooled is not None:
            pooled -= square
        return Stats(hessian, mean + self._shift[:, 0], self.count, self.samples, pooled=pooled)


def _examples(numbers: int) -> int:
    """Examples in a product, of a layer that sees so many numbers of each: a matter of shapes alone."""
    return BLOCK if BLOCK * numbers <= WIDE else max(PIECE // numbers, 1)


def waiting(numbers: int) -> int:
    """Most bytes that wait for a block to be whole, of a layer that sees so many numbers of each example."""
    return 4 * numbers * _examples(numbers)


def _total(columns: F32) -> F32:
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

    def flush(self) -> None:
        """Nothing waits."""

    def stats(self) -> Stats | None:
        """The statistics so far; None where nothing was looked up."""
        count = int(self._counts.sum())
        if not count:
            return None
        frequency = self._counts[None, :] / count
        return Stats(frequency, np.zeros_like(frequency), count, self.samples)
