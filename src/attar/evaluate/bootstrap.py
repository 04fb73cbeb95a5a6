"""A paired bootstrap of the drop, for metrics that are not a mean of bounded values: BCa, seeded, by weights.

Efron, JASA 82 (1987) 171-185. Approximate: nothing bounds the mean of unbounded values, or a ranking, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import ndtr, ndtri

from attar.evaluate.base import Floats, Metric
from attar.evaluate.bounds import resample, unseen_upper
from attar.types import Score

RESAMPLES = 2000
GROUPS = 200
"""Most groups left out in turn by the jackknife that measures the skewness."""
CHUNK_BYTES = 256 << 20
"""Memory for the weights of the resamples that are worked on at once."""


def bounds(before: Score, after: Score, metric: Metric, confidence: float, seed: int = 0) -> tuple[float, float]:
    """Lower and upper bound on the drop, each one-sided, from resampled examples.

    For percentages where no resample differs, the upper bound is what an event that was not seen once in n examples may
    cost.
    """
    groups = min(GROUPS, before.n)
    values = np.concatenate([_drops(before, after, metric, w) for w in _weights(before.n, groups, seed)])
    observed, left, drawn = float(values[0]), values[1 : 1 + groups], values[1 + groups :]
    drawn = np.sort(drawn[np.isfinite(drawn)])
    if not len(drawn):
        return -np.inf, np.inf
    low, high = _ends(drawn, observed, _acceleration(left[np.isfinite(left)]), confidence)
    if metric.unit == "points" and drawn[0] == drawn[-1]:
        high = max(high, observed + 100 * float(unseen_upper(before.n, confidence)))
    return low, high


def _weights(n: int, groups: int, seed: int) -> Iterator[Floats]:
    """Rows of weights [b, n], as many at once as memory allows: all ones, each group left out, the resamples.

    Few, large pieces: a metric may have to go through large outputs for each.
    """
    rng, member = np.random.default_rng(seed), np.arange(n) % groups
    chunk = max(1, CHUNK_BYTES // (8 * n))
    total = 1 + groups + RESAMPLES
    for start in range(0, total, chunk):
        rows = np.arange(start, min(start + chunk, total))
        fixed = rows[rows <= groups]
        kept = (member[None, :] != fixed[:, None] - 1).astype(np.float64)  # row 0 leaves out no group
        yield np.concatenate([kept, resample(n, len(rows) - len(fixed), rng)])


def _drops(before: Score, after: Score, metric: Metric, weights: Floats) -> Floats:
    """The drop [b] with examples counted weights[b, n] times: positive is worse."""
    if before.per_example is not None and after.per_example is not None:
        moved = weights @ (before.per_example - after.per_example) / weights.sum(1)
    else:
        first = metric.weighted(before.outputs, before.labels, before.outputs, weights)
        moved = first - metric.weighted(after.outputs, after.labels, before.outputs, weights)
    return np.asarray(moved if metric.higher_is_better else -moved)


def _acceleration(left: Floats) -> float:
    """How fast the drop's standard error changes: the skewness of its jackknife values over six."""
    deviation = left.mean() - left if len(left) else np.zeros(1)
    scale = float(np.sum(np.square(deviation)) ** 1.5)
    return float(np.sum(deviation**3)) / (6 * scale) if scale > 0 else 0.0


def _ends(drawn: Floats, observed: float, acceleration: float, confidence: float) -> tuple[float, float]:
    """BCa end points: quantiles of the sorted resamples, moved for bias and skewness."""
    below = (np.sum(drawn < observed) + 0.5 * np.sum(drawn == observed)) / len(drawn)
    bias = float(ndtri(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn))))
    z = bias + np.array([-1, 1]) * float(ndtri(confidence))
    shares = ndtr(bias + z / np.maximum(1 - acceleration * z, 1e-3))
    low, high = np.quantile(drawn, shares)
    return float(low), float(high)
