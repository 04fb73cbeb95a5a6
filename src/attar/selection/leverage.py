"""Ridge leverage scores: examples are drawn the more often, the less others can stand for what layers saw of them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attar.selection.base import F32, Indices, Pool


class Leverage:
    """Alaoui and Mahoney, Fast randomized kernel ridge regression with statistical guarantees (NIPS 2015), section 3.

    The ridge is the mean square that k examples leave unexplained, as of Cohen, Musco and Musco, Input sparsity time
    low-rank approximation via ridge leverage score sampling (SODA 2017), definition 1, with the rank that features
    have. Statistics of what is drawn are not weighed, so that rare examples count for more than in the set.
    """

    summary: ClassVar[str] = "drawn by ridge leverage scores, rare directions more often"
    needs: ClassVar[str] = "layers"

    @staticmethod
    def choose(pool: Pool, k: int, rng: np.random.Generator) -> Indices:
        """See `attar.selection.base.Choice`: without replacement, by exponential keys (Efraimidis, Spirakis 2006)."""
        scores = sum((leverage(pool.features[:, part], k) for part in pool.layers), np.zeros(pool.size))
        keys = rng.standard_exponential(pool.size) / np.maximum(scores, 1e-12)
        return np.asarray(np.argsort(keys, kind="stable")[:k], np.int64)


def leverage(x: F32, k: int) -> NDArray[np.float64]:
    """x_i^T (X^T X + lambda I)^-1 x_i [n], with lambda the mean of X^T X's eigenvalues over k, times their number."""
    gram = (x.T @ x).astype(np.float64)
    ridge = float(np.trace(gram)) / k + 1e-12
    solved = np.linalg.solve(gram + ridge * np.eye(len(gram)), x.T.astype(np.float64))
    return np.asarray(np.einsum("nd,dn->n", x, solved))
