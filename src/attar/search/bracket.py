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

OCTAVE = 8
"""Slopes are whole powers of 2 ** (1 / OCTAVE): what differs in the last digits must not lead to other files."""
CLOSE = 2
"""Stop when the next slope would be within so many steps of one already tried."""
REACH = 4 * OCTAVE
"""How many steps beyond the slopes already tried the next may lie."""
BELOW = 2 * REACH
"""How many steps below them a candidate for the certify split may lie: the safest are to pass whatever the luck."""
BEYOND = 5
"""How many steps beyond them a candidate for the certify split may lie: models fall off cliffs that no fit foresees."""
SPREAD_POWER = 0.25
"""Discordance grows like the square root of KL, so its standard deviation like the fourth root."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one evaluation said: KL in nats, drop in the metric's unit with its standard error, and its spread.

    spread is the standard deviation of the change per example: it says how far new examples will differ. share: of the
    split's examples that were looked at; an evaluation that was stopped has the wider error of bounds that hold
    wherever it stops.
    """

    slope: float
    kl: float
    drop: float
    spread: float
    error: float
    share: float = 1.0

    @property
    def whole(self) -> bool:
        """On all examples of the split."""
        return self.share == 1.0


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
    # Weighted through the origin: a drop's variance grows like the square root of KL, and falls with the examples.
    weight, grown = np.array([t.share for t in trials]) / np.sqrt(kls), kls**target.power
    coefficient = max(float(np.sum(weight * grown * drops) / np.sum(weight * grown * grown)), 0.0)
    # What a stopped one is not sure of says nothing about a slope beside it, where another has seen all examples.
    nearest = min([t for t in trials if t.whole] or trials, key=lambda t: abs(np.log(t.slope / slope)))
    growth = (kl / max(nearest.kl, 1e-12)) ** SPREAD_POWER
    new = float(growth * nearest.spread / np.sqrt(target.examples))
    z = float(ndtri(target.confidence))
    return float(coefficient * kl**target.power + z * new + target.sigmas * np.hypot(new, growth * nearest.error))


def shown(trial: Trial, target: Target, sigmas: float) -> float:
    """What new examples will show of a candidate, its bound or its drop, if luck is `sigmas` against it."""
    new = trial.spread / float(np.sqrt(target.examples))
    return float(trial.drop + ndtri(target.confidence) * new + sigmas * np.hypot(new, trial.error))


def step_of(slope: float) -> int:
    """The step that a slope is nearest to."""
    return round(OCTAVE * float(np.log2(slope)))


def slope_of(step: int) -> float:
    """The slope at a step."""
    return float(2.0 ** (step / OCTAVE))


def solve(trials: Sequence[Trial], target: Target, beyond: int = REACH, below: int = REACH) -> int:
    """The largest step predicted to be within the limit: from `below` the slopes tried to `beyond` above them."""
    tried = [step_of(t.slope) for t in trials]
    steps = range(min(tried) - below, max(tried) + beyond + 1)
    inside = [drop_at(trials, slope_of(step), target) <= target.limit for step in steps]
    last = inside.index(False) if False in inside else len(steps)
    return steps[max(last - 1, 0)]


def land(
    evaluate: Callable[[float], Trial],
    first: float,
    target: Target,
    most: int,
    stop: Callable[[], bool] = lambda: False,
    finish: Callable[[float], Trial] | None = None,
) -> list[Trial]:
    """At most `most` trials, the first near slope `first`, each next where the fit says the limit is met.

    finish gives the trial on the rest of the examples, where one that was stopped is what the search would end at.
    """
    trials = [evaluate(slope_of(step_of(first)))]
    while not stop():
        step = solve(trials, target)
        near = [t for t in trials if abs(step - step_of(t.slope)) <= CLOSE]
        stopped = next((t for t in near if not t.whole), None)
        if stopped is not None and finish is not None:
            trials[trials.index(stopped)] = finish(stopped.slope)
        elif near or len(trials) >= most:
            break
        else:
            trials.append(evaluate(slope_of(step)))
    return trials


def sequence(trials: Sequence[Trial], target: Target, odds: Sequence[float]) -> list[float]:
    """Slopes for the certify split, ascending, one for each of the odds (sigmas) that makes a file of its own.

    The first is at most the boldest that was seen within the limit.
    """
    steps = sorted({solve(trials, replace(target, sigmas=sigmas), BEYOND, BELOW) for sigmas in odds})
    seen = max((step_of(t.slope) for t in trials if t.drop <= target.limit), default=steps[0])
    steps[0] = min(steps[0], seen)
    return [slope_of(step) for step in steps]
