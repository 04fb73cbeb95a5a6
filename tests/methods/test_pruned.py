"""Zeros are where they must be, and chosen where they cost least."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.methods import grid, masks
from attar.methods.base import distortion
from attar.methods.pruned import Pruned, PrunedParams
from attar.methods.uniform import Uniform
from kits.method_laws import problem

FINE = 1e-9
"""A slope at which what is not zero is stored almost exactly, so that only the zeros cost."""


def loss(form, **params):
    layer, weight, stats = problem(**form)
    (point,) = Pruned.points(layer, weight, stats, [FINE], PrunedParams(**{"pattern": "free", **params}))
    decoded = Pruned.decode(point.encoded)
    return distortion(layer, weight, decoded, stats), np.mean(point.encoded.arrays["codes"] == 0)


@pytest.mark.parametrize(("pattern", "keep", "run"), [("2:4", 2, 4), ("4:8", 4, 8), ("1:3", 1, 3)])
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 22), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_of_every_run_so_many_stay_at_most(pattern, keep, run, groups, rows, cols, seed) -> None:
    layer, weight, stats = problem(groups * rows, cols, groups, seed=seed)
    for criterion in masks.CRITERIA:
        choice = {"slope": FINE, "pattern": pattern, "criterion": criterion}
        codes = Pruned.encode(layer, weight, stats, choice).arrays["codes"]
        for start in range(0, cols, run):
            assert (np.count_nonzero(codes[:, start : start + run], axis=1) <= keep).all()


def test_a_pattern_keeps_no_fewer_than_it_may() -> None:
    layer, weight, stats = problem(40, 64)
    codes = Pruned.encode(layer, weight, stats, {"slope": FINE, "pattern": "2:4"}).arrays["codes"]
    assert np.mean(np.count_nonzero(codes[:, :-4].reshape(40, -1, 4), axis=2)) > 1.98


def test_the_share_is_the_share() -> None:
    form = {"rows": 40, "cols": 150}
    for criterion in masks.CRITERIA:
        _, zeros = loss(form, share=0.6, criterion=criterion)
        assert 0.6 <= zeros < 0.62


def test_better_criteria_cost_less_at_equal_sparsity() -> None:
    form = {"rows": 60, "cols": 150}
    (obs, _), (wanda, _), (magnitude, _) = (loss(form, share=0.5, criterion=one) for one in masks.CRITERIA)
    assert obs < 0.95 * wanda and wanda < 0.5 * magnitude


def test_errors_of_zeros_are_fed_back() -> None:
    """The same zeros, and what remains as it was, cost much more."""
    layer, weight, stats = problem(60, 150)
    choice = {"slope": FINE, "pattern": "2:4"}
    decoded = Pruned.decode(Pruned.encode(layer, weight, stats, choice))
    plain = type(weight)(np.where(decoded.matrix == 0, 0, weight.matrix), decoded.bias)
    assert distortion(layer, weight, decoded, stats) < 0.5 * distortion(layer, weight, plain, stats)


def test_less_is_zero_for_a_smaller_slope() -> None:
    layer, weight, stats = problem(30, 60)
    zeros = [
        np.mean(point.encoded.arrays["codes"] == 0)
        for point in Pruned.points(layer, weight, stats, (1e-7, 1e-5, 1e-3), PrunedParams(pattern="free"))
    ]
    assert zeros == sorted(zeros) and zeros[0] < zeros[-1]


def test_no_zero_asked_for_is_uniform() -> None:
    layer, weight, stats = problem(30, 60)
    choice = {"slope": 1e-5, "pattern": "free", "share": 1e-9}
    ours = Pruned.encode(layer, weight, stats, choice).arrays
    theirs = Uniform.encode(layer, weight, stats, {"slope": 1e-5}).arrays
    assert np.mean(ours["codes"] != theirs["codes"]) < 0.02


def test_runs_stay_together() -> None:
    rng = np.random.default_rng(0)
    order = masks.by_runs(rng.random((3, 22)), 4)
    assert (np.sort(order) == np.arange(22)).all()
    assert (order[:, :20].reshape(3, 5, 4) % 4 == np.arange(4)).all() and (order[:, 20:] == [20, 21]).all()


@pytest.mark.parametrize("pattern", ["4:2", "2", "0:4", "a:b", "4:4"])
def test_patterns_that_are_none(pattern) -> None:
    with pytest.raises(ValueError, match="pattern"):
        masks.parse(pattern)


def test_a_criterion_that_is_none() -> None:
    layer, weight, stats = problem(4, 6)
    with pytest.raises(ValueError, match="criterion"):
        masks.choose(grid.pose(layer, weight, stats, 0.1, 0.2), "luck", 0.5)
