"""Moment matching: examples whose mean of x and of x xT, in every layer, is nearest to that of all."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from attar.selection.base import Indices, Pool, least_sum


class Moments:
    """Greedy least squares: each example is the one after which the mean is nearest to that of all."""

    summary: ClassVar[str] = "examples whose second moments in every layer are together those of all"
    needs: ClassVar[str] = "layers"

    @staticmethod
    def choose(pool: Pool, k: int, rng: np.random.Generator) -> Indices:
        """See `attar.selection.base.Choice`; draws nothing: the sketch had its random numbers before."""
        del rng
        square = np.einsum("nm,nm->n", pool.moments, pool.moments, dtype=np.float64)
        return least_sum(pool.moments, k, square, 2.0)
