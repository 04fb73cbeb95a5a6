"""Summed statistics against numpy's own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attar.adapters.moments import IdCounts, MomentSum, seed_of

RNG = np.random.default_rng(0)


@given(st.integers(1, 3), st.integers(1, 5), st.lists(st.integers(0, 7), min_size=1, max_size=4), st.floats(-1e3, 1e3))
def test_batches_add_up_to_the_covariance(groups, cols, sizes, offset):
    parts = [(RNG.normal(size=(groups, cols, n)) + offset).astype(np.float32) for n in sizes]
    total = MomentSum(groups, cols)
    for part in parts:
        before = part.copy()
        total.add(part, 1)
        np.testing.assert_array_equal(part, before)
    x = np.concatenate(parts, axis=2).astype(np.float64)
    stats = total.stats()
    if not x.shape[2]:
        assert stats is None
        return
    assert (stats.count, stats.samples) == (x.shape[2], len(sizes))
    np.testing.assert_allclose(stats.mean, x.mean(2), rtol=1e-6, atol=1e-5)
    expected = np.stack([np.cov(g, bias=True).reshape(cols, cols) for g in x])
    np.testing.assert_allclose(stats.hessian, expected, atol=2e-4 + 1e-6 * abs(offset))


def test_a_large_mean_does_not_cancel():
    x = (RNG.normal(size=(1, 4, 5000)) + 1e4).astype(np.float32)
    total = MomentSum(1, 4)
    for part in np.split(x, 5, axis=2):
        total.add(part, 10)
    expected = np.cov(x[0].astype(np.float64), bias=True)
    np.testing.assert_allclose(total.stats().hessian[0], expected, atol=1e-4)


def test_ids_are_counted_from_both_ends():
    counts = IdCounts(4)
    counts.add(np.array([[0, 1], [-1, 1]]), 2)
    counts.add(np.array([3]), 1)
    stats = counts.stats()
    np.testing.assert_array_equal(stats.hessian, [[0.2, 0.4, 0, 0.4]])
    np.testing.assert_array_equal(stats.mean, np.zeros((1, 4)))
    assert (stats.count, stats.samples) == (5, 3)
    assert IdCounts(4).stats() is None


def test_seeds_differ_by_layer_and_batch():
    assert len({seed_of("a", 0), seed_of("a", 1), seed_of("b", 0)}) == 3
    assert seed_of("a", 0) == seed_of("a", 0)
