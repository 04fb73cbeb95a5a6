"""Landing on the budget: a few evaluations of the drop as a function of the slope, and where to look next.

Drops measured on a few thousand examples are noisy and not monotone; KL is smooth and monotone in the slope. So the
search fits log KL to log slope, the drop to KL (one coefficient over all trials), and the spread of the per-example
change to a power of KL, and solves for the slope at which the drop (or its upper bound on the certify split) meets the
limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

CLOSE = 0.06
"""Stop when the next slope would be within this distance (natural logarithm) of one already tried."""
REACH = np.log(16.0)
"""How far beyond the slopes already tried the next may lie."""
SPREAD_POWER = 0.25
"""Discordance grows like the square root of KL, so its standard deviation like the fourth root."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one evaluation said: KL in nats, drop in the metric's unit, spread (standard deviation per example)."""

    slope: float
    kl: float
    drop: float
    spread: float


@dataclass(frozen=True, slots=True)
class Target:
    """Where to land: limit in the metric's unit; examples and confidence of the bound (examples 0: the estimate)."""

    limit: float
    examples: int = 0
    confidence: float = 0.95


def kl_at(trials: Sequence[Trial], slope: float) -> float:
    """KL predicted at a slope: proportional beside one trial, a line in logarithms through the nearest two."""
    order = sorted(trials, key=lambda t: abs(np.log(t.slope / slope)))
    first = order[0]
    power = 1.0
    if len(order) > 1 and order[1].slope != first.slope and min(first.kl, order[1].kl) > 0:
        power = float(np.log(order[1].kl / first.kl) / np.log(order[1].slope / first.slope))
        power = float(np.clip(power, 0.5, 2.0))
    return max(first.kl, 1e-12) * float((slope / first.slope) ** power)


def drop_at(trials: Sequence[Trial], slope: float, target: Target) -> float:
    """The drop predicted at a slope; with target.examples > 0 its upper bound on so many examples."""
    kls = np.array([max(t.kl, 1e-12) for t in trials])
    drops = np.array([t.drop for t in trials])
    kl = kl_at(trials, slope)
    # Weighted through the origin: the variance of a measured drop grows like the square root of KL.
    weight = 1 / np.sqrt(kls)
    coefficient = max(float(np.sum(weight * kls * drops) / np.sum(weight * kls * kls)), 0.0)
    nearest = min(trials, key=lambda t: abs(np.log(t.slope / slope)))
    prediction = coefficient * kl
    if target.examples:
        spread = nearest.spread * (kl / max(nearest.kl, 1e-12)) ** SPREAD_POWER
        prediction += float(norm.ppf(target.confidence)) * spread / float(np.sqrt(target.examples))
    return prediction


def solve(trials: Sequence[Trial], target: Target) -> float:
    """The largest slope whose predicted drop is within the limit, at most REACH from the slopes already tried."""
    slopes = [t.slope for t in trials]
    low, high = np.log(min(slopes)) - REACH, np.log(max(slopes)) + REACH
    grid = np.linspace(low, high, 512)
    inside = [drop_at(trials, float(np.exp(g)), target) <= target.limit for g in grid]
    last = int(np.argmin(inside)) if not all(inside) else len(grid)
    return float(np.exp(grid[max(last - 1, 0)]))


def land(
    evaluate: Callable[[float], Trial],
    first: float,
    target: Target,
    most: int,
    stop: Callable[[], bool] = lambda: False,
) -> list[Trial]:
    """At most `most` trials, the first at slope `first`, each next where the fit says the limit is met."""
    trials = [evaluate(first)]
    while len(trials) < most and not stop():
        slope = solve(trials, target)
        if min(abs(np.log(slope / t.slope)) for t in trials) < CLOSE:
            break
        trials.append(evaluate(slope))
    return trials
