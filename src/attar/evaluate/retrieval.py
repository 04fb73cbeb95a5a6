"""Metrics of vectors that are searched by: mean reciprocal rank."""

from __future__ import annotations

import numpy as np

from attar.errors import DataError
from attar.evaluate.base import Floats, MeanMetric, finite_rows
from attar.types import Array

ROWS = 1024
"""Queries that are compared with everything at once."""


class Mrr(MeanMetric):
    """Mean reciprocal rank: each example looks for one of its own label among all others, by cosine.

    Outputs [n, width], labels [n]: what belongs together has one label. The rank counts examples of other labels that
    are more alike than the best of the own label; a vector that is not finite finds nothing, and is not found.
    """

    name = "mrr"
    limits = (0.0, 1.0)
    each_alone = False
    """A rank is among all others: with fewer of them it is better."""

    def check(self, outputs: Array, labels: Array | None) -> None:
        """Each label stands for two examples at least; raises DataError."""
        assert labels is not None
        if outputs.ndim != 2 or labels.ndim != 1:
            raise DataError(
                f"metric 'mrr': it takes a vector and a label for each example. Received outputs {outputs.shape} and "
                f"labels {labels.shape}. Use it with models that give one vector for each text."
            )
        values, counts = np.unique(labels, return_counts=True)
        if counts.min() < 2:
            raise DataError(
                f"metric 'mrr': each label must stand for two examples at least. Received one of label "
                f"{values[counts.argmin()]!r}. Give --calibrate, --select and --certify, so that pairs stay together."
            )

    def examples(self, outputs: Array, labels: Array | None, original: Array | None) -> Floats | None:  # noqa: ARG002
        """1 / rank for each example [n]."""
        assert labels is not None
        good = finite_rows(outputs)
        vectors = np.where(good[:, None], outputs, 0).astype(np.float64)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
        found = np.zeros(len(vectors))
        for start in range(0, len(vectors), ROWS):
            rows = np.arange(start, min(start + ROWS, len(vectors)))
            alike = vectors[rows] @ vectors.T
            alike[:, ~good] = -np.inf
            own = labels[rows][:, None] == labels
            mine = np.where(own & (np.arange(len(vectors)) != rows[:, None]), alike, -np.inf).max(1)
            found[rows] = 1 / (1 + (~own & (alike > mine[:, None])).sum(1))
            found[rows[np.isneginf(mine)]] = 0.0
        return np.where(good, found, 0.0)
