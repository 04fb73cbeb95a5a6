"""The course of a search: evaluate a candidate on select, ask for the next slope, then certify once, safest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np

from attar.evaluate.certificate import smallest_certifiable
from attar.search.bracket import Target, Trial, drop_at, land, sequence, shown, slope_of, solve
from attar.search.in_order import Outcome, certify_in_order, front, level
from attar.search.loop import Loop
from attar.search.subject import Candidate, Subject

FIRST_KL = 0.01
"""Predicted KL, in nats, of the first candidate."""
ODDS = (0.9, 0.2, -0.5, -1.2)
"""Of the candidates tested on the certify split: the first should pass unless luck is so many standard deviations
against it (18 % of runs), the last only if luck is for it. In simulated runs these take the fewest examples of those
that end with as small files as any."""
SPARE = (4.0, 2.5, 1.0)
"""Odds of those to fall back on where the first fails, by bounds at their own level."""
FEWEST = 1000
"""Examples below which the error is not split: bounds so far out in the tail would not mean much."""
SAFEST, BOLDEST, STEP = 2.5, -1.0, 1.5
"""Odds where there is nothing to fall back on: the first should pass unless luck is SAFEST standard deviations
against it (1 % of runs), the last only if luck is one for it; in even steps, of at most STEP."""
SURE = 2
"""Candidates that were only rounded which are tested beside those that were trained."""
SELECT_SHARE = 1 / 2
"""Share of the evaluations that the search itself may spend."""


def first_slope(subject: Subject) -> float:
    """The slope of the first candidate: that of a predicted KL of FIRST_KL, at high resolution."""
    return 2 * float(np.log(2)) * FIRST_KL / max(subject.weight_count, 1)


Extend = Callable[[float, Target, Callable[[], bool]], list[Trial]]
"""(slope landed on, target, interrupted) -> trials of further candidates, already built (search/recovery.py)."""


def target_of(loop: Loop) -> Target:
    """Where a search lands: the budget, on as many examples as there are to certify."""
    power = 0.5 if loop.metric.relative_to_original and loop.metric.unit == "points" else 1.0
    confidence = loop.budget.confidence if loop.budget.guarantee == "bound" else 0.5
    return Target(loop.limit(), len(loop.splits.certify), confidence, power=power)


def landing(loop: Loop, target: Target, most: int, interrupted: Callable[[], bool]) -> list[Trial]:
    """The search's own evaluations, of `most` in all."""
    share = max(1, round(most * SELECT_SHARE))
    return land(loop.trial, first_slope(loop.subject), target, share, interrupted, loop.finish)


def search(
    loop: Loop, most: int = 8, interrupted: Callable[[], bool] = lambda: False, extend: Extend | None = None, *,
    alone: bool = False,
) -> Outcome[Candidate]:  # fmt: skip
    """Land on the budget with at most `most` full evaluations, certification included.

    extend adds candidates of its own, which are tested with the safest of the others, or alone.
    """
    target = target_of(loop)
    trials = landing(loop, target, most, interrupted)
    looks = 1 if interrupted() else most - len(trials)
    landed = slope_of(solve(trials, target))
    loop.ledger.add("landed", slope=landed, limit=loop.limit(), trials=[asdict(t) for t in trials])
    further = extend(landed, target, interrupted) if extend is not None else []
    if not further:
        slopes, spare = planned(loop, trials, target, looks)
        return certify_in_order(loop, slopes, interrupted, spare)
    slopes = sequence(trials, target, even_odds(loop, looks))
    expected = {} if alone else {slope: drop_at(trials, slope, target) for slope in slopes[1:SURE]}
    expected |= {trial.slope: shown(trial, target, 0) for trial in further}
    safest = min(expected, key=lambda slope: expected[slope]) if alone else slopes[0]
    return certify_in_order(loop, front(loop, safest, expected), interrupted)


def even_odds(loop: Loop, looks: int) -> list[float]:
    """Odds of so many candidates from the safest to the boldest; of an estimate none below even ones."""
    step = min(STEP, (SAFEST - BOLDEST) / max(looks - 1, 1))
    least = -np.inf if loop.budget.guarantee == "bound" else 0.0
    return [max(SAFEST - step * look, least) for look in range(looks)]


def planned(loop: Loop, trials: Sequence[Trial], target: Target, looks: int) -> tuple[list[float], list[float]]:
    """Slopes for the certify split, ascending, and those to fall back on; sets the loop's levels.

    Without any to fall back on where one evaluation is left, so few examples that no bound at their level is small, or
    where an estimate is all that is asked for, which has no error to share.
    """
    bound, n = loop.budget.guarantee == "bound", target.examples
    own = level(loop.budget.confidence, spare=True)
    few = n < FEWEST or (loop.metric.unit == "points" and smallest_certifiable(n, 0.0, own) > loop.limit() / 2)
    if looks < 2 or few or not bound:
        return sequence(trials, target, even_odds(loop, looks)), []
    slopes = sequence(trials, target, ODDS[:looks])
    safer = replace(target, confidence=own)
    spare = [slope for slope in sequence(trials, safer, SPARE[: looks - 1]) if slope < slopes[0]]
    loop.spare = frozenset(spare)
    return slopes, spare
