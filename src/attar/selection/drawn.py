"""Examples drawn by chance, from all alike or from every class alike."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from attar.errors import UsageError
from attar.selection.base import Indices, Pool


class Random:
    """A sample without replacement."""

    summary: ClassVar[str] = "a sample without replacement"
    needs: ClassVar[str] = ""

    @staticmethod
    def choose(pool: Pool, k: int, rng: np.random.Generator) -> Indices:
        """See `attar.selection.base.Choice`."""
        return np.asarray(rng.permutation(pool.size)[:k], np.int64)


class Balanced:
    """As many of each class as there are, at random within a class."""

    summary: ClassVar[str] = "a sample with as many examples of each class as there are"
    needs: ClassVar[str] = ""

    @staticmethod
    def choose(pool: Pool, k: int, rng: np.random.Generator) -> Indices:
        """See `attar.selection.base.Choice`; classes take turns until they are used up."""
        if pool.labels is None:
            raise UsageError(
                "select: balanced classes need labels. Received none. Add labels (y, or --target), or use another "
                "--method."
            )
        order = rng.permutation(pool.size)
        _, classes = np.unique(pool.labels, return_inverse=True)
        mixed = classes.reshape(-1)[order]
        by_class = np.argsort(mixed, kind="stable")
        _, start, counts = np.unique(mixed[by_class], return_index=True, return_counts=True)
        turn = np.empty(pool.size, np.int64)
        turn[by_class] = np.arange(pool.size) - np.repeat(start, counts)
        return np.asarray(order[np.argsort(turn, kind="stable")[:k]], np.int64)
