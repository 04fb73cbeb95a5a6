"""Which candidates are made: stages of the plan near the limit, trained ones beyond it, or what fits a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace

from attar.latency.candidate import BOLDER, FLOAT, TRAINED, WHOLE, Candidate
from attar.latency.race import Race
from attar.latency.smaller import SHARE, with_smaller
from attar.plan.latency import Stage
from attar.search.bracket import Target, Trial, drop_at, sequence, shown, slope_of, solve, step_of
from attar.search.course import BOLDEST, FIRST_KL, SAFEST, SELECT_SHARE, STEP, SURE
from attar.search.in_order import Outcome, certify_in_order, front
from attar.search.recovery import AHEAD, BOLD, next_step

THINNED = 0.99
"""A stage is a candidate where it is predicted to take at most this share of the time of the one before."""
FITS = 4
"""Candidates that are timed for a budget of time at most."""
Stop = Callable[[], bool]


def thinned(stages: Sequence[Stage]) -> list[Stage]:
    """The last stage with all channels, then those that are faster by enough and lose no less than those before."""
    whole = max(index for index, stage in enumerate(stages) if stage.left == stages[0].left)
    kept = [stages[whole]]
    for stage in stages[whole + 1 :]:
        if stage.milliseconds <= THINNED * kept[-1].milliseconds:
            kept.append(stage)
    return kept


def search(
    race: Race, most: int, interrupted: Stop = lambda: False, budget_ms: float | None = None
) -> Outcome[Candidate]:
    """The fastest candidate within the drop; with a budget the least distorted that takes no longer, if it is within.

    At most about `most` full evaluations, certification included, and a trained candidate's beside them.
    """
    loop = race.loop
    confidence = loop.budget.confidence if loop.budget.guarantee == "bound" else 0.5
    power = 0.5 if loop.metric.relative_to_original and loop.metric.unit == "points" else 1.0
    target = Target(loop.limit(), len(loop.splits.certify), confidence, power=power)
    fitting = None if budget_ms is None else fit(race, budget_ms, target, interrupted)
    if fitting is not None:
        return certify_in_order(race, fitting)
    if race.sizing is None:
        order = fastest(race, most, target, interrupted)
        return certify_in_order(race, with_bolder(race, order, target, interrupted))
    half = replace(target, limit=SHARE * target.limit)
    order = fastest(race, most, half, interrupted)
    return certify_in_order(race, with_smaller(race, order, target, max(1, most // 2), interrupted))


def fastest(race: Race, most: int, target: Target, interrupted: Stop) -> list[float]:
    """What to test on the certify split, safest first: the float model, integers, then fewer and fewer channels."""
    trials, keys = landed(race, max(1, round(most * SELECT_SHARE)), target, interrupted)
    first = [FLOAT, *([WHOLE] if race.cost(WHOLE) < race.cost(FLOAT) else [])]
    looks = 1 if interrupted() else max(most - len(trials), 1)
    step = min(STEP, (SAFEST - BOLDEST) / max(looks - 1, 1))
    odds = [SAFEST - step * look for look in range(looks)]
    if race.loop.budget.guarantee != "bound":
        odds = [max(sigmas, 0.0) for sigmas in odds]
    untrained = [_stage_at(race, slope) for slope in sequence(trials, target, odds)]
    race.loop.ledger.add("landed", limit=target.limit, stages=untrained, tried=keys)
    trained = {} if race.training is None else extended(race, slope_of(solve(trials, target)), target, interrupted)
    if not trained:
        return rising(race, first, [float(stage) for stage in untrained if stage > 0])
    expected = {float(s): drop_at(trials, race.distortion(s), target) for s in untrained[:SURE] if s > 0}
    expected |= {key: shown(trial, target, 0) for key, trial in trained.items()}
    return [*first[:-1], *front(race, first[-1], expected)]


def rising(race: Race, first: Sequence[float], further: Sequence[float]) -> list[float]:
    """An order in which each takes less time than those before."""
    order = list(first)
    for key in further:
        if key not in order and race.cost(key) < race.cost(order[-1]):
            order.append(key)
    return order


def with_bolder(race: Race, order: Sequence[float], target: Target, interrupted: Stop) -> list[float]:
    """An order with integers that were near the drop behind it, where they are the fastest and may pass.

    On the select split they have failed, so that they may be tested last only.
    """
    if not race.bolder or interrupted() or race.cost(BOLDER) >= race.cost(order[-1]):
        return list(order)
    within = shown(race.trial(BOLDER), target, -BOLD) <= target.limit
    return [*order, BOLDER] if within else list(order)


def landed(race: Race, most: int, target: Target, interrupted: Stop) -> tuple[list[Trial], list[int]]:
    """Trials on the select split, the first where FIRST_KL is predicted, each next where the fit meets the limit."""
    stage = _stage_at(race, FIRST_KL)
    trials, tried = [race.trial(float(stage))], [stage]
    while len(trials) < most and not interrupted():
        stage = _stage_at(race, slope_of(solve(trials, target)))
        if stage in tried:
            break
        trials.append(race.trial(float(stage)))
        tried.append(stage)
    return trials, tried


def _stage_at(race: Race, distortion: float) -> int:
    """The last stage that is predicted to cost no more nats."""
    known = [race.distortion(index) for index in range(len(race.stages))]
    return max(bisect_right(known, distortion * (1 + 1e-9)) - 1, 0)


def extended(race: Race, slope: float, target: Target, interrupted: Stop) -> dict[float, Trial]:
    """Trained candidates from beyond where the untrained land, and of them those that may pass on the certify split."""
    assert race.training is not None
    trials: dict[float, Trial] = {}
    stage = _stage_at(race, slope_of(step_of(slope) + AHEAD))
    while stage > 0 and len(trials) < race.training.settings.candidates and not interrupted():
        trials[stage + TRAINED] = race.trial(stage + TRAINED)
        following = next_step(list(trials.values()), target)
        stage = 0 if following is None else _stage_at(race, slope_of(following))
        if stage + TRAINED in trials:
            break
    return {key: trial for key, trial in trials.items() if shown(trial, target, -BOLD) <= target.limit}


def fit(race: Race, budget_ms: float, target: Target, interrupted: Stop) -> list[float] | None:
    """The order that ends with the least distorted candidate within a time; None where none is, or is within the drop.

    Predictions are corrected by what was measured, candidate after candidate.
    """
    order = [FLOAT, *([WHOLE] if race.cost(WHOLE) < race.cost(FLOAT) else [])]
    for count, key in enumerate(order):
        if race.cost(key) <= budget_ms:
            return order[: count + 1]
    found, factor = set[int](), 1.0
    while len(found) < FITS and not interrupted():
        fits = [s for s in range(len(race.stages)) if factor * race.predicted(s) <= budget_ms]
        stage = min(fits, default=len(race.stages) - 1)
        if stage in found:
            break
        found.add(stage)
        factor = race.cost(float(stage)) / race.predicted(stage)
    within = [stage for stage in found if race.cost(float(stage)) <= budget_ms]
    if not within:
        return None
    key = min(within) + (0.0 if race.training is None else TRAINED)
    trial = race.trial(key)
    if race.cost(key) > budget_ms or shown(trial, target, -BOLD) > target.limit:
        return None
    return [*order, key]
