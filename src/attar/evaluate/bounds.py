"""One-sided confidence bounds: paired proportions, a binomial share, and means of bounded values."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri

from attar.evaluate.base import Floats

STEPS = 60
"""Bisections: a bound is right to 2 ** -59."""


def paired_upper(lost: ArrayLike, gained: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> Floats:
    """Upper bound on P(lost) - P(gained), elementwise and broadcasting, by inverting the score test.

    lost: right before, wrong after; gained: the reverse; n: examples. Tango, Statistics in Medicine 17 (1998) 891-908.
    Where there is no discordant pair the exact bound 1 - (1 - confidence) ** (1 / n) is used, which is the wider.
    Counts may be fractions (a rate at another n).
    """
    b, c, size = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (lost, gained, n)))
    exact = unseen_upper(size, confidence)
    z = float(ndtri(confidence))
    if not b.ndim:
        return np.asarray(_upper_of_one(float(b), float(c), float(size), z) if b + c > 0 else exact)
    low, high = (b - c) / size, np.ones_like(b)
    for _ in range(STEPS):
        middle = (low + high) / 2
        inside = _score(b, c, size, middle) > -z
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.asarray(np.where(b + c > 0, high, exact))


def _upper_of_one(b: float, c: float, n: float, z: float) -> float:
    """The same bisection, operation by operation, for one pair of counts: a search asks for thousands, one by one."""
    low, high = (b - c) / n, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        first = (2 * n - b + c) * middle - b - c
        inner = first * first + 8 * n * c * middle * (1 - middle)
        share = max((math.sqrt(max(inner, 0.0)) - first) / (4 * n), 0.0, -middle)
        variance = n * (2 * share + middle * (1 - middle))
        gap = b - c - n * middle
        inside = gap / math.sqrt(max(variance, 1e-300)) > -z if variance > 0 else gap > 0
        low, high = (middle, high) if inside else (low, middle)
    return high


def _score(b: Floats, c: Floats, n: Floats, difference: Floats) -> Floats:
    """Tango's score statistic for P(lost) - P(gained) = difference; it falls as the difference grows."""
    first = (2 * n - b + c) * difference - b - c
    inner = np.square(first) + 8 * n * c * difference * (1 - difference)
    share = np.maximum((np.sqrt(np.maximum(inner, 0)) - first) / (4 * n), np.maximum(0, -difference))
    variance = n * (2 * share + difference * (1 - difference))
    gap = b - c - n * difference
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(variance > 0, gap / np.sqrt(np.maximum(variance, 1e-300)), np.sign(gap) * np.inf))


def unseen_upper(n: ArrayLike, confidence: float = 0.95) -> Floats:
    """Upper bound on the probability of what was not seen once in n examples: 1 - (1 - confidence) ** (1 / n)."""
    return np.asarray(-np.expm1(np.log1p(-confidence) / np.asarray(n, np.float64)))


def share_upper(count: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> Floats:
    """Exact (Clopper and Pearson 1934) upper bound on a probability, from `count` of n; elementwise."""
    k, size = np.broadcast_arrays(np.asarray(count, np.float64), np.asarray(n, np.float64))
    found = betaincinv(k + 1, np.maximum(size - k, 1e-9), confidence)
    return np.asarray(np.where(k >= size, 1.0, found))


def mean_upper(values: Floats, low: float, high: float, confidence: float = 0.95, seed: int = 0) -> float:
    """Upper bound on the mean of independent values [n] that lie in low .. high, valid at every n.

    The betting bound of Waudby-Smith and Ramdas, JRSS B 86 (2024) 1-27, section 4: a gambler bets that the mean is
    below m; were it m or more, their capital would reach 1 / (1 - confidence) with probability at most 1 - confidence.
    Each bet is fixed from the variance before it. The order is shuffled by `seed`: data are often sorted by class.
    """
    unit = (np.random.default_rng(seed).permutation(values) - low) / (high - low)
    n, goal = len(unit), -np.log1p(-confidence)
    count = np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(unit)) / (count + 1)
    spread = (0.25 + np.cumsum(np.square(unit - mean))) / (count + 1)
    bets = np.sqrt(2 * goal / (n * np.concatenate([[0.25], spread[:-1]])))
    least, most = 0.0, 1.0
    for _ in range(STEPS):
        m = (least + most) / 2
        capital = np.cumsum(np.log1p(np.minimum(bets, 0.9 / max(1 - m, 1e-12)) * (m - unit)))
        least, most = (least, m) if capital.max() >= goal else (m, most)
    return float(low + (high - low) * most)


def resample(n: int, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each of n examples is drawn in each of `count` bootstrap samples, [count, n]."""
    drawn = rng.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * count).reshape(count, n).astype(np.float64)
