"""A layer that reads fewer columns, fitted to what it put out with all of them: closed form, no pass over data.

Least squares on the layer's outputs, as in He et al. 2017, "Channel Pruning for Accelerating Very Deep Neural
Networks", with the moments of the full model's inputs in the place of samples.
"""

from __future__ import annotations

import numpy as np

from attar.errors import UsageError
from attar.structure.base import Index
from attar.structure.moments import damped, stacked
from attar.types import Layer, Stats, Weight

RIDGE = 0.01
"""Share of the mean diagonal of the kept columns' second moment that holds weights back from moving."""


def refit(layer: Layer, weight: Weight, stats: Stats, kept: Index, ridge: float = RIDGE) -> Weight:
    """W'[rows, kept] that is least wrong about W x: W' = W_K + W_R H_RK (H_KK + ridge)^-1, K kept, R removed columns.

    The ridge draws towards W_K. With a bias, H is centred and b' = b + W mu - W' mu_K; without, H is E[x x^T]. The
    columns are those of one group, the same in each. Raises UsageError for columns that are not the layer's.
    """
    if not len(kept) or kept.min() < 0 or kept.max() >= layer.cols:
        raise UsageError(
            f"layer {layer.name!r}: columns to keep must be some of its {layer.cols}. Received {kept.tolist()}. "
            "Pass their numbers."
        )
    if stats.hessian.ndim == 2:  # a lookup's ids
        return plain(weight, kept)
    matrix = stacked(layer, weight)
    moment = stats.hessian
    if weight.bias is None:
        moment = moment + stats.mean[:, :, None] * stats.mean[:, None, :]
    removed = np.setdiff1d(np.arange(layer.cols), kept)
    cross = matrix[:, :, removed] @ moment[:, removed[:, None], kept]
    own = damped(moment[:, kept[:, None], kept], ridge)
    moved = matrix[:, :, kept] + np.linalg.solve(own, cross.transpose(0, 2, 1)).transpose(0, 2, 1)
    new = moved.reshape(layer.rows, -1).astype(np.float32)
    if weight.bias is None:
        return Weight(new)
    shift = np.einsum("grc,gc->gr", matrix, stats.mean) - np.einsum("grc,gc->gr", moved, stats.mean[:, kept])
    return Weight(new, (weight.bias + shift.ravel()).astype(np.float32))


def plain(weight: Weight, kept: Index) -> Weight:
    """The kept columns as they are."""
    return Weight(np.ascontiguousarray(weight.matrix[:, kept]), weight.bias)
