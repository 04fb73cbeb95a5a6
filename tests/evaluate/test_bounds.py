"""Bounds: against published values, against other definitions, and their coverage by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, norm

from attar.evaluate.bounds import mean_upper, paired_upper, resample, share_upper, unseen_upper


def test_tango_example() -> None:
    # Tango 1998: of 44 patients 43 agree and one changes; the two-sided 95 % interval is -0.118 to 0.059
    assert -paired_upper(1, 0, 44, 0.975) == pytest.approx(-0.118, abs=1e-3)
    assert paired_upper(0, 1, 44, 0.975) == pytest.approx(0.059, abs=1e-3)


def log_likelihood_score(b: float, c: float, n: float, difference: float) -> float:
    """The score statistic with the nuisance found by numerical maximisation instead of the closed form."""

    def slope(q: float) -> float:  # derivative of b log(q + d) + c log q + (n - b - c) log(1 - 2q - d)
        return b / (q + difference) + c / q - 2 * (n - b - c) / (1 - 2 * q - difference)

    low = max(0.0, -difference)
    q = brentq(slope, low + 1e-12, (1 - difference) / 2 - 1e-12)
    return (b - c - n * difference) / np.sqrt(n * (2 * q + difference * (1 - difference)))


@given(b=st.integers(1, 60), c=st.integers(1, 60), more=st.integers(1, 3000), level=st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=60, deadline=None)
def test_score_bound_solves_the_score_equation(b: int, c: int, more: int, level: float) -> None:
    n = b + c + more
    bound = float(paired_upper(b, c, n, level))
    assert log_likelihood_score(b, c, n, bound) == pytest.approx(-norm.ppf(level), abs=1e-5)


@given(b=st.integers(0, 50), c=st.integers(0, 50), n=st.integers(101, 5000))
@settings(max_examples=60, deadline=None)
def test_score_bound_is_ordered(b: int, c: int, n: int) -> None:
    bound = paired_upper(b, c, n)
    assert (b - c) / n < bound <= 1
    assert paired_upper(b + 1, c, n) > bound or b + c == 0
    assert paired_upper(b, c, n, 0.99) > bound
    assert -paired_upper(c, b, n) < bound


def test_bounds_work_on_arrays() -> None:
    b, c = np.array([0, 3, 50]), np.array([0, 0, 20])
    each = [float(paired_upper(x, y, 1000)) for x, y in zip(b, c, strict=True)]
    assert paired_upper(b, c, 1000) == pytest.approx(each)
    rng = np.random.default_rng(0)
    n = rng.uniform(1, 20_000, 300)  # a rate at another number is a fraction
    b, c = n * rng.uniform(0, 0.5, 300) ** 2, n * rng.uniform(0, 0.5, 300) ** 2
    b[:20], c[10:30], b[30:40] = 0, 0, n[30:40]
    for level in (0.5001, 0.95, 0.9999):
        one_by_one = [float(paired_upper(*counts, level)) for counts in zip(b, c, n, strict=True)]
        assert (paired_upper(b, c, n, level) == one_by_one).all(), "to the last bit"


def test_nothing_seen_is_the_exact_rule() -> None:
    assert paired_upper(0, 0, 10_000) == pytest.approx(1 - 0.05 ** (1 / 10_000))
    assert unseen_upper(10_000) == pytest.approx(3e-4, rel=0.01)
    assert share_upper(0, 500) == pytest.approx(float(unseen_upper(500)))


@given(k=st.integers(0, 40), n=st.integers(41, 3000))
@settings(max_examples=40, deadline=None)
def test_share_bound_is_where_so_few_become_unlikely(k: int, n: int) -> None:
    assert binom.cdf(k, n, float(share_upper(k, n))) == pytest.approx(0.05, abs=1e-6)
    assert share_upper(n, n) == 1


def coverage(n: int, rho: float, lean: float, count: int = 20_000) -> tuple[float, float]:
    """How often the score bound and Wald's are above the truth, for discordance rho and drop lean * rho."""
    drop = lean * rho
    b, c, _ = np.random.default_rng(n).multinomial(n, [(rho + drop) / 2, (rho - drop) / 2, 1 - rho], count).T
    wald = (b - c) / n + norm.ppf(0.95) * np.sqrt(np.maximum(b + c - (b - c) ** 2 / n, 0)) / n
    return float(np.mean(paired_upper(b, c, n) >= drop)), float(np.mean(wald >= drop))


def test_score_bound_covers_where_wald_does_not() -> None:
    cases = [(n, rho, lean) for n in (500, 2000, 10_000) for rho in (0.002, 0.005, 0.02, 0.05) for lean in (0, 0.5, 1)]
    found = {case: coverage(*case) for case in cases}
    assert min(score for score, _ in found.values()) >= 0.95 - 0.015
    assert min(wald for _, wald in found.values()) < 0.80  # few flips: Wald's bound is often just nothing
    score, wald = coverage(500, 0.01, 1)
    assert wald < 0.90 < 0.935 < score
    many = [score for (n, rho, _), (score, _) in found.items() if n * rho >= 100]
    assert max(many) <= 0.97  # and it is not merely wide


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-100.0, 100.0)])
@pytest.mark.parametrize("shape", ["rare", "even", "constant"])
def test_betting_bound_covers_and_narrows(low: float, high: float, shape: str) -> None:
    rng = np.random.default_rng(0)
    n, width = 600, high - low
    draws = {"rare": rng.random((200, n)) < 0.02, "even": rng.random((200, n)), "constant": np.full((2, n), 0.25)}[
        shape
    ]
    truth = {"rare": 0.02, "even": 0.5, "constant": 0.25}[shape]
    bounds = np.array([(mean_upper(low + width * row, low, high) - low) / width for row in draws])
    assert np.mean(bounds >= truth) >= 0.95
    assert np.median(bounds) - truth < 0.045
    assert mean_upper(np.tile(draws[0], 10) * width + low, low, high) < low + width * bounds[0]


def test_betting_bound_does_not_depend_on_sorting_and_repeats() -> None:
    values = np.repeat([0.0, 1.0], 300)
    assert mean_upper(values, 0, 1) == mean_upper(values, 0, 1) < 0.6
    assert mean_upper(values[::-1].copy(), 0, 1) < 0.6


def test_resamples_draw_n_of_n() -> None:
    weights = resample(40, 500, np.random.default_rng(0))
    assert weights.shape == (500, 40) and (weights.sum(1) == 40).all()
    assert weights.var() == pytest.approx(1 - 1 / 40, rel=0.05)
