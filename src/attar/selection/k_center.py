"""Greedy k-center: the example farthest from all that are chosen comes next."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from attar.selection.base import Indices, Pool


class KCenter:
    """Farthest-first traversal, at most twice the best radius (Gonzalez, Theoretical Computer Science 38, 1985)."""

    summary: ClassVar[str] = "always the example farthest from those chosen, so that no region is left out"
    needs: ClassVar[str] = "layers"

    @staticmethod
    def choose(pool: Pool, k: int, rng: np.random.Generator) -> Indices:
        """See `attar.selection.base.Choice`; begins in the middle and draws nothing."""
        del rng
        x = pool.features
        square = np.einsum("nd,nd->n", x, x, dtype=np.float64)
        far = np.full(pool.size, np.inf)
        chosen = np.empty(k, np.int64)
        at = int(square.argmin())  # features are centred
        for step in range(k):
            chosen[step] = at
            far = np.minimum(far, np.maximum(square - 2 * (x @ x[at]) + square[at], 0))
            far[at] = -1
            at = int(far.argmax())
        return chosen
