"""A paired bootstrap of the drop, for metrics that are not a mean of bounded values: BCa, seeded, by weights.

Efron, JASA 82 (1987) 171-185. Approximate: nothing bounds the mean of unbounded values, or a ranking, exactly.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from attar.evaluate.base import Floats, Metric
from attar.evaluate.bounds import resample, unseen_upper
from attar.types import Score

RESAMPLES = 2000
GROUPS = 200
"""Most groups left out in turn by the jackknife that measures the skewness."""
CHUNK_BYTES = 32 << 20
"""Memory for the weights of the resamples that are worked on at once."""


def bounds(before: Score, after: Score, metric: Metric, confidence: float, seed: int = 0) -> tuple[float, float]:
    """Lower and upper bound on the drop, each one-sided, from resampled examples.

    For percentages the upper bound is no less than what an event that was not seen once in n examples may cost.
    """
    n, rng = before.n, np.random.default_rng(seed)
    chunk = max(1, CHUNK_BYTES // (8 * n))
    drops = [
        _drops(before, after, metric, resample(n, min(chunk, RESAMPLES - start), rng))
        for start in range(0, RESAMPLES, chunk)
    ]
    drawn = np.concatenate(drops)
    drawn = np.sort(drawn[np.isfinite(drawn)])
    observed = float(_drops(before, after, metric, np.ones((1, n)))[0])
    if not len(drawn):
        return -np.inf, np.inf
    low, high = _ends(drawn, observed, _acceleration(before, after, metric, chunk), confidence)
    if metric.unit == "points":
        high = max(high, observed + 100 * float(unseen_upper(n, confidence)) if drawn[0] == drawn[-1] else high)
    return low, high


def _drops(before: Score, after: Score, metric: Metric, weights: Floats) -> Floats:
    """The drop [b] with examples counted weights[b, n] times: positive is worse."""
    if before.per_example is not None and after.per_example is not None:
        moved = weights @ (before.per_example - after.per_example) / weights.sum(1)
    else:
        first = metric.weighted(before.outputs, before.labels, before.outputs, weights)
        moved = first - metric.weighted(after.outputs, after.labels, before.outputs, weights)
    return np.asarray(moved if metric.higher_is_better else -moved)


def _acceleration(before: Score, after: Score, metric: Metric, chunk: int) -> float:
    """Skewness of the drop's jackknife values over six: how fast its standard error changes."""
    groups = min(GROUPS, before.n)
    member = np.arange(before.n) % groups
    left = [
        _drops(
            before,
            after,
            metric,
            (member[None, :] != np.arange(start, min(start + chunk, groups))[:, None]).astype(float),
        )
        for start in range(0, groups, chunk)
    ]
    values = np.concatenate(left)
    values = values[np.isfinite(values)]
    deviation = values.mean() - values if len(values) else np.zeros(1)
    scale = float(np.sum(np.square(deviation)) ** 1.5)
    return float(np.sum(deviation**3)) / (6 * scale) if scale > 0 else 0.0


def _ends(drawn: Floats, observed: float, acceleration: float, confidence: float) -> tuple[float, float]:
    """BCa end points: quantiles of the sorted resamples, moved for bias and skewness."""
    below = (np.sum(drawn < observed) + 0.5 * np.sum(drawn == observed)) / len(drawn)
    bias = float(norm.ppf(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn))))
    z = bias + np.array([-1, 1]) * float(norm.ppf(confidence))
    shares = norm.cdf(bias + z / np.maximum(1 - acceleration * z, 1e-3))
    low, high = np.quantile(drawn, shares)
    return float(low), float(high)
