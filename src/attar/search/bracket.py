"""Landing on the budget: a few evaluations of the drop as a function of the slope, and where to look next.

Drops measured on a few thousand examples are noisy and not monotone; KL is smooth and monotone in the slope. So the
search fits log KL to log slope, the drop to a power of KL (one coefficient over all trials), and the spread of the
per-example change to another, and solves for the slope at which the drop on the certify split, or its upper bound
there, meets the limit, at even odds or better ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

CLOSE = 0.2
"""Stop when the next slope would be within this distance (natural logarithm) of one already tried."""
NARROW = 0.05
"""Candidates for the certify split are at least this far apart."""
REACH = float(np.log(16.0))
"""How far beyond the slopes already tried the next may lie."""
BEYOND = float(np.log(1.5))
"""How far beyond them a candidate for the certify split may lie: models fall off cliffs that no fit foresees."""
SPREAD_POWER = 0.25
"""Discordance grows like the square root of KL, so its standard deviation like the fourth root."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one evaluation said: KL in nats, drop in the metric's unit with its standard error, and its spread.

    spread is the standard deviation of the change per example: it says how far new examples will differ.
    """

    slope: float
    kl: float
    drop: float
    spread: float
    error: float


@dataclass(frozen=True, slots=True)
class Target:
    """Where to land: what new examples are to show, at which odds.

    limit, in the metric's unit, is for the upper bound at `confidence` on so many new examples; for the observed drop
    where confidence is 0.5. sigmas are standard deviations of what they may show: 0 for even odds, 2 for 98 %. power
    says how the drop grows with KL: in proportion, or like its square root where every flip counts (agreement).
    """

    limit: float
    examples: int
    confidence: float = 0.95
    sigmas: float = 0.0
    power: float = 1.0


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
    """What new examples are predicted to show of a slope, at the target's odds: its bound, or the observed drop."""
    kls = np.array([max(t.kl, 1e-12) for t in trials])
    drops = np.array([t.drop for t in trials])
    kl = kl_at(trials, slope)
    # Weighted through the origin: the variance of a measured drop grows like the square root of KL.
    weight, grown = 1 / np.sqrt(kls), kls**target.power
    coefficient = max(float(np.sum(weight * grown * drops) / np.sum(weight * grown * grown)), 0.0)
    nearest = min(trials, key=lambda t: abs(np.log(t.slope / slope)))
    growth = (kl / max(nearest.kl, 1e-12)) ** SPREAD_POWER
    new = float(growth * nearest.spread / np.sqrt(target.examples))
    z = float(ndtri(target.confidence))
    return float(coefficient * kl**target.power + z * new + target.sigmas * np.hypot(new, growth * nearest.error))


def solve(trials: Sequence[Trial], target: Target, beyond: float = REACH) -> float:
    """The largest slope predicted to be within the limit: from REACH below the slopes tried to `beyond` above them."""
    slopes = [t.slope for t in trials]
    low, high = np.log(min(slopes)) - REACH, np.log(max(slopes)) + beyond
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


def sequence(trials: Sequence[Trial], target: Target, odds: Sequence[float]) -> list[float]:
    """Slopes for the certify split, ascending: one for each of the odds (sigmas), the first at most the boldest that
    was seen within the limit, and none so close to the one before that it would make nearly the same file."""
    found = sorted(solve(trials, replace(target, sigmas=sigmas), BEYOND) for sigmas in odds)
    seen = max((t.slope for t in trials if t.drop <= target.limit), default=found[0])
    kept = [min(found[0], seen)]
    for slope in found[1:]:
        if np.log(slope / kept[-1]) >= NARROW:
            kept.append(slope)
    return kept
