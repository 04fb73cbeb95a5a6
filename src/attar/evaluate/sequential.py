"""Bounds on a mean that hold at every number of examples at once, so that one may stop whenever one likes.

Hedged capital with predictable plug-in bets: Waudby-Smith and Ramdas, JRSS B 86 (2024) 1-27, section 4 and equation
(26). A gambler bets that the mean is below m (another, that it is above); were it m, their capital would be a
martingale, and reach 1 / (1 - confidence) at any time at all with probability at most 1 - confidence (Ville 1939).
"""

from __future__ import annotations

import numpy as np

from attar.evaluate.base import Floats, Metric

STEPS = 40
"""Bisections: a bound is right to 2 ** -40 of the range."""
MOST = 0.9
"""Most of the capital that is staked at once."""


def separable(metric: Metric) -> bool:
    """Whether a metric is the mean of values that are bounded and each of one example alone.

    Those that are not (F1, AUROC, R2: of a whole set; mean reciprocal rank: of an example among all others; squared
    errors, nats and perplexity: without a bound) have no sequence of bounds.
    """
    return metric.limits is not None and bool(getattr(metric, "each_alone", True))


def sequence_bounds(values: Floats, low: float, high: float, confidence: float = 0.95) -> tuple[float, float]:
    """Lower and upper bound on the mean of values [n] in low .. high, each one-sided at `confidence`.

    The values come in random order. Bounds of the first n hold for every n at once: stopping when a bound is as one
    likes does not spoil it.
    """
    unit = (values - low) / (high - low)
    bets = _bets(unit, -float(np.log1p(-confidence)))
    upper, lower = _upper(unit, bets, confidence), 1 - _upper(1 - unit, bets, confidence)
    return low + (high - low) * lower, low + (high - low) * upper


def side(values: Floats, low: float, high: float, of: float, confidence: float = 0.95) -> int:
    """1 where the mean is plainly above a number, by the bounds of `sequence_bounds`, -1 where it is below, else 0."""
    unit, m = (values - low) / (high - low), (of - low) / (high - low)
    if not 0 < m < 1:
        return int(m <= 0) - int(m >= 1)
    bets = _bets(unit, -float(np.log1p(-confidence)))
    if _won(unit, bets, m, confidence):
        return -1
    return int(_won(1 - unit, bets, 1 - m, confidence))


def _bets(unit: Floats, goal: float) -> Floats:
    """Stakes [n], each from the variance of what came before it: about the best for all n alike."""
    count = np.arange(1, len(unit) + 1)
    mean = (0.5 + np.cumsum(unit)) / (count + 1)
    spread = (0.25 + np.cumsum(np.square(unit - mean))) / (count + 1)
    before = np.concatenate([[0.25], spread[:-1]])
    return np.asarray(np.sqrt(2 * goal / (before * count * np.log1p(count))))


def _upper(unit: Floats, bets: Floats, confidence: float) -> float:
    """The least m at which the bets on a mean below m have at some time won enough."""
    least, most = 0.0, 1.0
    for _ in range(STEPS):
        m = (least + most) / 2
        least, most = (least, m) if _won(unit, bets, m, confidence) else (m, most)
    return most


def _won(unit: Floats, bets: Floats, m: float, confidence: float) -> bool:
    """Whether the bets on a mean below m have at some time won enough."""
    capital = np.cumsum(np.log1p(np.minimum(bets, MOST / max(1 - m, 1e-12)) * (m - unit)))
    return bool(capital.max(initial=0.0) >= -np.log1p(-confidence))
