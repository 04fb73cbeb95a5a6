"""The search lands on the budget within its evaluations, on curves of the kind that models show."""

import numpy as np
import pytest

from attar.search.bracket import Target, Trial, drop_at, kl_at, land, solve


def world(power: float, per_nat: float, noise: float, seed: int = 0):
    """KL = (slope / 1e-6) ** power / 100; drop proportional to it, measured with noise on 4,000 examples."""
    rng = np.random.default_rng(seed)

    def evaluate(slope: float) -> Trial:
        kl = 0.01 * (slope / 1e-6) ** power
        spread = 100 * np.sqrt(0.15 * np.sqrt(kl))
        return Trial(slope, kl, per_nat * kl + noise * rng.normal() * spread / np.sqrt(4000), spread)

    return evaluate, lambda drop: 1e-6 * (100 * drop / per_nat) ** (1 / power)


@pytest.mark.parametrize("power", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("start", [1e-8, 1e-6, 3e-5])
def test_lands_on_the_estimate(power: float, start: float) -> None:
    evaluate, answer = world(power, 25.0, noise=0.0)
    trials = land(evaluate, start, Target(0.5), most=5)
    assert len(trials) <= 5
    assert abs(np.log(solve(trials, Target(0.5)) / answer(0.5))) < 0.1


def test_noise_does_not_throw_it_off() -> None:
    misses = []
    for seed in range(40):
        evaluate, answer = world(1.0, 25.0, noise=1.0, seed=seed)
        trials = land(evaluate, 3e-7, Target(0.5), most=5)
        misses.append(np.log(solve(trials, Target(0.5)) / answer(0.5)))
    assert np.std(misses) < 0.6
    assert abs(np.median(misses)) < 0.25


def test_the_bound_is_stricter_than_the_estimate() -> None:
    evaluate, _ = world(1.0, 25.0, noise=0.0)
    trials = [evaluate(1e-6), evaluate(2e-6)]
    slopes = [solve(trials, Target(0.5, n)) for n in (500, 2000, 10000, 0)]
    assert slopes == sorted(slopes)
    assert slopes[0] < 0.5 * slopes[-1]


def test_a_gain_is_no_licence() -> None:
    """A candidate that happens to be better than the original does not send the search beyond its reach."""
    trials = [Trial(1e-6, 0.01, -0.2, 10.0)]
    assert solve(trials, Target(0.5)) <= 16.01e-6
    assert drop_at(trials, 1e-6, Target(0.5)) == 0.0


def test_stops_when_it_has_landed() -> None:
    evaluate, answer = world(1.0, 25.0, noise=0.0)
    assert len(land(evaluate, answer(0.5), Target(0.5), most=8)) <= 2


def test_stops_when_asked() -> None:
    evaluate, _ = world(1.0, 25.0, noise=0.0)
    assert len(land(evaluate, 1e-8, Target(0.5), most=8, stop=lambda: True)) == 1


def test_kl_between_two_trials_is_a_line_in_logarithms() -> None:
    trials = [Trial(1e-6, 0.01, 0, 1), Trial(4e-6, 0.04, 0, 1)]
    assert kl_at(trials, 2e-6) == pytest.approx(0.02)
