"""Small sums over a layer's weights and statistics that measures and the refit share."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from attar.types import Layer, Stats, Weight

Scores: TypeAlias = NDArray[np.float64]


def damped(moment: Scores, share: float) -> Scores:
    """A second moment [groups, n, n] with a share of its mean diagonal added to the diagonal."""
    level = share * np.einsum("gcc->g", moment) / moment.shape[1]
    return np.asarray(moment + (level + 1e-12)[:, None, None] * np.eye(moment.shape[1]))


def stacked(layer: Layer, weight: Weight) -> Scores:
    """The weight as [groups, rows of a group, cols]."""
    return weight.matrix.astype(np.float64).reshape(layer.groups, -1, layer.cols)


def sensitivity(layer: Layer, stats: Stats) -> Scores:
    """[groups, rows of a group], ones where none was measured."""
    rows = np.ones(layer.rows) if stats.sensitivity is None else stats.sensitivity
    return rows.reshape(layer.groups, -1)
