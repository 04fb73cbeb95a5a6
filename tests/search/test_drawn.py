"""Examples that tell the mean KL of all of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attar.measuring import drawn
from attar.search.sensitivity import uncertainty


def logits(seed: int, n: int = 2000) -> np.ndarray:
    """Of classifiers that are sure of most examples."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 10)) * rng.gamma(2, 3, (n, 1))).astype(np.float32)


@given(seed=st.integers(0, 50), count=st.integers(1, 700))
def test_each_example_counts_by_the_inverse_of_its_chance(seed: int, count: int) -> None:
    original = logits(seed, 300)
    rows, weights = drawn(original, "logits", count)
    odds = uncertainty(original, "logits")
    assert (np.diff(rows) > 0).all()
    assert len(rows) <= count
    np.testing.assert_allclose(np.sum(weights * odds[rows]), odds.mean())
    np.testing.assert_allclose(np.rint(weights * odds[rows] / odds.mean() * count).sum(), count)


def test_few_of_them_tell_a_mean_that_goes_with_uncertainty() -> None:
    errors, plain = [], []
    for seed in range(40):
        original, rng = logits(seed), np.random.default_rng(seed)
        each = uncertainty(original, "logits") * rng.gamma(1, 1, 2000)
        rows, weights = drawn(original, "logits", 512)
        errors.append(weights @ each[rows] / each.mean() - 1)
        plain.append(each[:512].mean() / each.mean() - 1)
    assert abs(np.mean(errors)) < 0.03
    assert np.std(errors) < 0.6 * np.std(plain)


def test_plain_numbers_are_spread_evenly() -> None:
    rows, weights = drawn(np.zeros((1000, 3), np.float32), "regression", 100)
    np.testing.assert_array_equal(np.diff(rows), 10)
    np.testing.assert_allclose(weights, 0.01)
