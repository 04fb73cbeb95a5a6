"""The search lands on the budget within its evaluations, on curves of the kind that models show."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from attar.search.bracket import BEYOND, Target, Trial, drop_at, kl_at, land, sequence, slope_of, solve, step_of

ESTIMATE = Target(0.5, 10_000, confidence=0.5)


def world(power: float, per_nat: float, noise: float, seed: int = 0):
    """KL = (slope / 1e-6) ** power / 100; drop proportional to it, measured with noise on 4,000 examples."""
    rng = np.random.default_rng(seed)

    def evaluate(slope: float) -> Trial:
        kl = 0.01 * (slope / 1e-6) ** power
        spread = 100 * np.sqrt(0.15 * np.sqrt(kl))
        error = spread / np.sqrt(4000)
        return Trial(slope, kl, per_nat * kl + noise * rng.normal() * error, spread, error)

    return evaluate, lambda drop: 1e-6 * (100 * drop / per_nat) ** (1 / power)


@pytest.mark.parametrize("power", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("start", [1e-8, 1e-6, 3e-5])
def test_lands_on_the_estimate(power: float, start: float) -> None:
    evaluate, answer = world(power, 25.0, noise=0.0)
    trials = land(evaluate, start, ESTIMATE, most=5)
    assert len(trials) <= 5
    assert abs(np.log(slope_of(solve(trials, ESTIMATE)) / answer(0.5))) < 0.1


def test_noise_does_not_throw_it_off() -> None:
    misses = []
    for seed in range(40):
        evaluate, answer = world(1.0, 25.0, noise=1.0, seed=seed)
        trials = land(evaluate, 3e-7, ESTIMATE, most=5)
        misses.append(np.log(slope_of(solve(trials, ESTIMATE)) / answer(0.5)))
    assert np.std(misses) < 0.6
    assert abs(np.median(misses)) < 0.25


def test_the_bound_is_stricter_than_the_estimate() -> None:
    evaluate, _ = world(1.0, 25.0, noise=0.0)
    trials = [evaluate(1e-6), evaluate(2e-6)]
    slopes = [slope_of(solve(trials, t)) for t in (*(Target(0.5, n) for n in (500, 2000, 10000)), ESTIMATE)]
    assert slopes == sorted(slopes)
    assert slopes[0] < 0.5 * slopes[-1]


def test_a_gain_is_no_licence() -> None:
    """A candidate that happens to be better than the original does not send the search beyond its reach."""
    trials = [Trial(1e-6, 0.01, -0.2, 10.0, 0.1)]
    assert slope_of(solve(trials, ESTIMATE)) <= 17.5e-6
    assert drop_at(trials, 1e-6, ESTIMATE) == 0.0


def test_stops_when_it_has_landed() -> None:
    evaluate, answer = world(1.0, 25.0, noise=0.0)
    assert len(land(evaluate, answer(0.5), ESTIMATE, most=8)) <= 2


def test_stops_when_asked() -> None:
    evaluate, _ = world(1.0, 25.0, noise=0.0)
    assert len(land(evaluate, 1e-8, ESTIMATE, most=8, stop=lambda: True)) == 1


def test_kl_between_two_trials_is_a_line_in_logarithms() -> None:
    trials = [Trial(1e-6, 0.01, 0, 1, 1), Trial(4e-6, 0.04, 0, 1, 1)]
    assert kl_at(trials, 2e-6) == pytest.approx(0.02)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_odds_are_those_that_new_examples_show(confidence: float) -> None:
    """At `sigmas` the share of runs whose certify split shows more than the limit is the normal tail."""
    passed = {0.0: 0, 1.0: 0, 2.0: 0}
    for seed in range(120):
        evaluate, _ = world(1.0, 25.0, noise=1.0, seed=seed)
        rng = np.random.default_rng(1000 + seed)
        trials = [evaluate(2e-6)]
        for sigmas in passed:
            slope = slope_of(solve(trials, Target(0.6, 10_000, confidence, sigmas)))
            kl = 0.01 * slope / 1e-6
            deviation = 100 * np.sqrt(0.15 * np.sqrt(kl)) / 100
            shown = 25.0 * kl + deviation * (rng.normal() + norm.ppf(confidence))
            passed[sigmas] += shown <= 0.6
    shares = [passed[s] / 120 for s in (0.0, 1.0, 2.0)]
    assert abs(shares[0] - 0.5) < 0.15
    assert abs(shares[1] - 0.84) < 0.12
    assert shares[2] > 0.93


def test_candidates_for_the_certify_split_ascend_and_stay_near_what_was_tried() -> None:
    evaluate, answer = world(1.0, 25.0, noise=0.0)
    trials = [evaluate(1e-6), evaluate(answer(0.5))]
    slopes = sequence(trials, ESTIMATE, [2.0, 1.0, 0.99, 0.0])
    assert len(slopes) == 3 and slopes == sorted(slopes)
    first = slope_of(step_of(1e-6))
    assert sequence([evaluate(first)], ESTIMATE, [0.0, -1.0]) == [first]
    assert sequence([evaluate(first)], ESTIMATE, [2.0, -1.0])[-1] == slope_of(step_of(1e-6) + BEYOND)


def test_digits_that_do_not_count_lead_to_the_same_slopes() -> None:
    trials = [Trial(2.0**-20, 0.01, 0.2, 12.0, 0.1), Trial(2.0**-19, 0.021, 0.45, 14.0, 0.12)]
    others = [replace(t, kl=t.kl * (1 + 1e-6), drop=t.drop * (1 - 1e-6), error=t.error * (1 + 1e-6)) for t in trials]
    odds = [2.5, 1.3, 0.1, -1.0]
    assert sequence(trials, Target(0.5, 10_000), odds) == sequence(others, Target(0.5, 10_000), odds)


def test_nothing_bolder_than_what_was_seen_is_certified_first() -> None:
    """A cliff: no drop at all where it was tried, everything lost just beyond."""
    trials = [Trial(1e-6, 0.001, 0.0, 1.0, 0.02), Trial(4e-6, 0.004, 0.0, 1.0, 0.02)]
    assert sequence(trials, Target(5.0, 1000), [2.0])[0] == slope_of(step_of(4e-6))
    beyond = [*trials, Trial(8e-6, 0.3, 12.0, 30.0, 1.0)]
    assert sequence(beyond, Target(5.0, 1000), [2.0])[0] <= slope_of(step_of(4e-6))


STOPPED = Trial(1e-6, 0.01, -0.2, 12.0, 1.0, share=0.1)
"""What was within the limit by luck, on few examples: little is known of its drop."""


def test_what_few_examples_said_counts_little() -> None:
    """It moves the fit by a fraction of what as much luck on all examples would."""
    seen = Trial(2e-6, 0.02, 0.3, 13.0, 0.08)
    alone, beside = (drop_at(trials, 2e-6, ESTIMATE) for trials in ([seen], [STOPPED, seen]))
    whole = drop_at([replace(STOPPED, share=1.0), seen], 2e-6, ESTIMATE)
    assert whole < beside < alone and alone - beside < (alone - whole) / 4


def test_an_evaluation_that_stopped_does_not_widen_what_another_is_sure_of() -> None:
    """Slopes nearest to the stopped one are as sure as the whole one beside it says: safe candidates stay near."""
    seen = Trial(2e-6, 0.02, 0.1, 13.0, 0.08)
    safe = replace(STOPPED, drop=0.05)
    target = Target(0.5, 10_000, sigmas=1.4)
    assert solve([safe, seen], target) >= solve([seen], target) - 1
    assert drop_at([safe], 1e-6, target) > drop_at([safe, seen], 1e-6, target) + 1, "alone it is all that is known"
