"""Certificates: which bound, which verdict, how many examples, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import DataError, UsageError
from attar.evaluate.bounds import paired_upper
from attar.evaluate.budget import Budget
from attar.evaluate.certificate import certify, examples_needed, fixed_sequence, smallest_certifiable
from attar.evaluate.metrics import Custom, resolve_metric
from attar.types import Score

ACCURACY, AGREEMENT, KL = (resolve_metric(name) for name in ("accuracy", "agreement", "kl"))


def scores(metric: str, before: np.ndarray, after: np.ndarray) -> tuple[Score, Score]:
    """Scores of given per-example values."""
    first, second = np.asarray(before, float), np.asarray(after, float)
    made = [Score(metric, float(v.mean()), len(v), v[:, None], v) for v in (first, second)]
    return made[0], made[1]


def flipped(n: int, lost: int, gained: int) -> tuple[Score, Score]:
    before, after = np.full(n, 100.0), np.full(n, 100.0)
    after[:lost] = 0
    before[lost : lost + gained] = 0
    return scores("accuracy", before, after)


def test_accuracy_is_tested_by_flips() -> None:
    found = certify(*flipped(10_000, 60, 40), ACCURACY, 0.5)
    assert (found.bound, found.verdict, found.lost, found.gained, found.needed) == ("score", "certified", 60, 40, None)
    assert found.drop == pytest.approx(0.2)
    assert found.upper == pytest.approx(100 * float(paired_upper(60, 40, 10_000)))
    assert found.lower == pytest.approx(-100 * float(paired_upper(40, 60, 10_000)))
    assert found.lower < found.drop < found.upper <= 0.5


def test_an_unchanged_model_is_bounded_exactly() -> None:
    found = certify(*flipped(1000, 0, 0), ACCURACY, 0.5)
    assert found.bound == "exact" and found.upper == pytest.approx(0.2991, abs=1e-4) and found.verdict == "certified"
    assert found.lower == pytest.approx(-found.upper)


def test_too_few_examples_are_told_with_the_number_needed() -> None:
    found = certify(*flipped(300, 0, 0), ACCURACY, 0.5)
    assert found.verdict == "not certifiable" and found.needed == 598
    assert certify(*flipped(598, 0, 0), ACCURACY, 0.5).verdict == "certified"
    assert certify(*flipped(597, 0, 0), ACCURACY, 0.5).verdict == "not certifiable"
    worse = certify(*flipped(300, 30, 0), ACCURACY, 0.5)
    assert worse.verdict == "not certifiable" and worse.needed == 598


def test_a_high_flip_rate_makes_a_small_set_not_certifiable() -> None:
    found = certify(*flipped(1000, 30, 30), ACCURACY, 0.5)
    assert found.verdict == "not certifiable" and found.needed is not None
    scale = found.needed / 1000
    assert 100 * float(paired_upper(30 * scale, 30 * scale, found.needed)) <= 0.5


def test_a_worse_model_is_not_certified_however_many_examples() -> None:
    found = certify(*flipped(10_000, 300, 100), ACCURACY, 0.5)
    assert found.verdict == "not certified" and found.needed is None


def test_needed_is_the_least_number_at_this_flip_rate() -> None:
    found = certify(*flipped(2000, 12, 8), ACCURACY, 0.5)
    assert found.verdict == "not certified" and found.needed is not None and found.needed > 2000
    enough, short = (100 * float(paired_upper(0.006 * n, 0.004 * n, n)) for n in (found.needed, found.needed - 1))
    assert enough <= 0.5 < short
    assert found.needed == examples_needed(0.5, drop=0.2, rho=0.01)
    assert examples_needed(0.5, drop=0.5, rho=0.01) is None


def test_what_a_number_of_examples_can_certify() -> None:
    assert smallest_certifiable(10_000) == pytest.approx(0.03, abs=1e-3)
    rates = [smallest_certifiable(10_000, rho) for rho in (0, 0.005, 0.02, 0.04)]
    assert rates == sorted(rates)
    for rho, largest in (
        (0.005, 0.37),
        (0.02, 0.26),
        (0.04, 0.17),
    ):  # largest observed drop that certifies half a point
        fine, over = (
            100 * float(paired_upper(5000 * (rho + d / 100), 5000 * (rho - d / 100), 10_000))
            for d in (largest - 0.01, largest + 0.01)
        )
        assert fine < 0.5 < over


def test_agreement_is_a_binomial_share() -> None:
    found = certify(*scores("agreement", np.full(1000, 100), np.r_[np.zeros(5), np.full(995, 100)]), AGREEMENT, 2.0)
    assert found.bound == "exact" and found.lost == 5 and found.gained == 0 and found.verdict == "certified"
    assert found.upper == pytest.approx(1.0482, abs=1e-3) and 0 < found.lower < 0.5
    none = certify(*scores("agreement", np.full(100, 100), np.full(100, 100)), AGREEMENT, 2.0)
    assert none.verdict == "not certifiable" and none.needed == 149 and none.lower == 0


def test_bounded_values_bet_and_unbounded_ones_are_resampled() -> None:
    rng = np.random.default_rng(0)
    close = 1 - 0.01 * rng.random(500)
    cosine = certify(*scores("cosine", np.ones(500), close), resolve_metric("cosine"), 0.03)
    assert cosine.bound == "betting" and cosine.verdict == "certified" and 0.005 < cosine.upper < 0.03
    assert cosine.lost is None
    share = certify(*scores("accuracy", 100 * rng.random(500), 100 * rng.random(500)), ACCURACY, 10)
    assert share.bound == "betting"
    kl = certify(*scores("kl", np.zeros(500), rng.exponential(0.02, 500)), KL, 0.03)
    assert kl.bound == "bootstrap" and kl.verdict == "certified" and kl.drop < kl.upper < 0.025


def test_direction_follows_the_metric() -> None:
    up = certify(*scores("kl", np.zeros(50), np.ones(50) + np.arange(50) / 50), KL, 0.1)
    assert up.drop == pytest.approx(1.49) and up.verdict == "not certified"
    loss = Custom(lambda o, y: o[:, 0], higher_is_better=False, name="loss", limits=(0, 1))
    wrong_after = certify(*scores("loss", np.zeros(100), np.r_[np.ones(10), np.zeros(90)]), loss, 0.5)
    assert wrong_after.drop == pytest.approx(0.1) and wrong_after.lost == 10 and wrong_after.bound == "score"


def test_a_candidate_that_is_not_finite_is_not_certified() -> None:
    found = certify(*scores("kl", np.zeros(50), np.r_[np.inf, np.zeros(49)]), KL, 0.1)
    assert found.verdict == "not certified" and (found.upper, found.lower) == (np.inf, -np.inf)


@given(lost=st.integers(0, 40), gained=st.integers(0, 40), n=st.integers(100, 4000), limit=st.floats(0.05, 3))
@settings(max_examples=30, deadline=None)
def test_verdict_agrees_with_bound_and_limit(lost: int, gained: int, n: int, limit: float) -> None:
    found = certify(*flipped(n, lost, gained), ACCURACY, limit)
    assert (found.verdict == "certified") == (found.upper <= limit)
    assert found.needed is None or found.needed > n
    assert (found.needed is None) <= (found.verdict == "certified" or found.drop >= limit)


def test_swapping_the_models_mirrors_the_interval() -> None:
    first, second = flipped(1000, 9, 4)
    there, back = certify(first, second, ACCURACY, 1), certify(second, first, ACCURACY, 1)
    assert (there.lower, there.upper) == pytest.approx((-back.upper, -back.lower))


def test_fixed_sequence_stops_at_the_first_failure() -> None:
    good = certify(*flipped(10_000, 1, 1), ACCURACY, 0.5)
    bad = replace(good, verdict="not certified")
    assert fixed_sequence([good, good, bad, good]) == 1
    assert fixed_sequence([bad, good]) is None and fixed_sequence([]) is None
    assert fixed_sequence([good]) == 0


def test_fixed_sequence_keeps_the_level() -> None:
    """Three candidates whose true drops lie on or above the limit: one of them is rarely certified."""
    rng, n, errors = np.random.default_rng(0), 2000, 0
    model = certify(*flipped(2000, 1, 1), ACCURACY, 1.0)
    draws = [rng.multinomial(n, [(0.03 + d) / 2, (0.03 - d) / 2, 0.97], 1000) for d in (0.010, 0.011, 0.012)]
    certified = [paired_upper(draw[:, 0], draw[:, 1], n) <= 0.01 for draw in draws]
    for run in zip(*certified, strict=True):
        verdicts = ["certified" if passed else "not certified" for passed in run]
        errors += fixed_sequence([replace(model, verdict=verdict) for verdict in verdicts]) is not None
    assert 0.02 < errors / 1000 <= 0.05 + 0.015


def test_impossible_requests_are_refused() -> None:
    first, second = flipped(100, 1, 1)
    for limit in (-0.1, np.nan, np.inf):
        with pytest.raises(UsageError, match="max_drop"):
            certify(first, second, ACCURACY, limit)
    with pytest.raises(UsageError, match="confidence"):
        certify(first, second, ACCURACY, 0.5, confidence=1.0)
    with pytest.raises(DataError, match="same examples"):
        certify(first, flipped(99, 1, 1)[1], ACCURACY, 0.5)
    with pytest.raises(DataError, match="one metric"):
        certify(first, second, KL, 0.5)


def test_budget_limits() -> None:
    assert Budget(0.5).limit(90) == 0.5
    assert Budget(max_relative_drop=0.01).limit(-50) == pytest.approx(0.5)
    assert Budget(0.5, 0.01).limit(20) == pytest.approx(0.2)
    assert Budget(0.0).limit(1) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_drop": -1},
        {"max_drop": float("nan")},
        {"max_relative_drop": float("inf")},
        {"max_drop": True},
        {"max_drop": "1"},
        {"max_drop": 1, "confidence": 0.5},
        {"max_drop": 1, "guarantee": "hope"},
    ],
)
def test_budget_refuses(fields: dict) -> None:
    with pytest.raises(UsageError, match="Received"):
        Budget(**fields)


def test_a_relative_drop_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="max_drop"):
        Budget(max_relative_drop=0.1).limit(0.0)
