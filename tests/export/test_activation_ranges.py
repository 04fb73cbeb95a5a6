"""Ranges of activations: always around zero, within what was seen, and each rule's own law."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attar.exports.ranges import BINS, LEVELS, RULES, TAIL, Seen, range_of


def watched(values) -> Seen:
    found = Seen.between(float(values.min()), float(values.max()))
    found.add(values)
    return found


def error(values, low, high) -> float:
    step = max((high - low) / (LEVELS - 1), 1e-30)
    zero = np.rint(-low / step)
    codes = np.clip(np.rint(values / step) + zero, 0, LEVELS - 1)
    return float(np.square((codes - zero) * step - values).mean())


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32)), st.sampled_from(RULES))
def test_ranges_hold_zero_and_no_more_than_was_seen(values, rule):
    found = watched(values)
    low, high = range_of(found, rule)
    assert found.low <= low <= 0 <= high <= found.high
    assert found.counts.sum() == len(values)


@pytest.mark.parametrize("kind", ["laplace", "t", "normal with one far out"])
def test_the_squared_error_is_the_least(kind):
    rng = np.random.default_rng(0)
    values = {
        "laplace": rng.laplace(size=50_000), "t": rng.standard_t(3, 50_000),
        "normal with one far out": np.append(rng.normal(size=50_000), 100),
    }[kind].astype(np.float32)  # fmt: skip
    found = watched(values)
    errors = {rule: error(values, *range_of(found, rule)) for rule in RULES}
    assert errors["mse"] <= 1.03 * min(errors.values()) and errors["mse"] < errors["minmax"]


def test_squared_error_keeps_a_uniform_range():
    values = np.random.default_rng(0).uniform(-2, 3, 50_000).astype(np.float32)
    low, high = range_of(watched(values), "mse")
    assert low < -1.9 and high > 2.85


def test_percentiles_leave_out_the_tail():
    values = np.concatenate([np.linspace(-1, 1, 100_000), [50.0]]).astype(np.float32)
    low, high = range_of(watched(values), "percentile")
    assert -1.06 < low < -0.9 and 0.9 < high < 1.1
    assert ((values < low) | (values > high)).mean() <= TAIL


@pytest.mark.parametrize("rule", RULES)
def test_after_a_relu_the_range_starts_at_zero(rule):
    values = np.maximum(np.random.default_rng(0).normal(size=10_000), 0).astype(np.float32)
    low, high = range_of(watched(values), rule)
    assert low == 0 and high > 0.5 * values.max()


def test_divergence_clips_what_is_rare():
    rng = np.random.default_rng(0)
    values = np.concatenate([np.abs(rng.normal(size=100_000)), [400.0]]).astype(np.float32)
    assert range_of(watched(values), "kl")[1] < 200


def test_nothing_and_constants():
    assert range_of(Seen.between(0.0, 0.0), "mse") == (0.0, 0.0)
    constant = np.full(10, 3.0, np.float32)
    for rule in RULES:
        low, high = range_of(watched(constant), rule)
        assert low == 0 and high > 2.5 / BINS


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="one of minmax, percentile, mse, kl"):
        range_of(Seen.between(-1, 1), "best")
