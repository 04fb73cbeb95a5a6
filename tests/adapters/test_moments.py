"""Summed statistics against numpy's own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attar.adapters.moments import IdCounts, MomentSum

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


def test_sums_do_not_depend_on_how_the_examples_come():
    x = RNG.normal(size=(2, 5, 300 * 4)).astype(np.float32)
    whole = MomentSum(2, 5)
    whole.add(x, 300)
    for sizes in ([100, 200], [8, 120, 172], [1] * 300):
        pieces, start = MomentSum(2, 5), 0
        for size in sizes:
            part = x[:, :, 4 * start : 4 * (start + size)]
            pieces.add(np.asfortranarray(part), size)
            start += size
        for name in ("hessian", "mean", "pooled"):
            np.testing.assert_array_equal(getattr(pieces.stats(), name), getattr(whole.stats(), name))


def test_pieces_of_several_lengths_add_up():
    parts = [RNG.normal(size=(1, 3, n)).astype(np.float32) for n in (20, 30, 7, 40)]
    total = MomentSum(1, 3)
    for part, samples in zip(parts, (10, 10, 0, 20), strict=True):
        total.add(part, samples)
    stats = total.stats()
    assert (stats.count, stats.samples) == (97, 40)
    np.testing.assert_allclose(stats.hessian[0], np.cov(np.concatenate(parts, 2)[0], bias=True), atol=1e-5)
