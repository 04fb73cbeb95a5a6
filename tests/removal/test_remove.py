# ruff: noqa: E501
"""Measures, selection, refit and the stage over the numpy twin of a network."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import UsageError
from attar.structure.base import Group, Member, Product, Structure
from attar.structure.elimination import Reader, eliminated
from attar.structure.importance import MEASURES, Subject, importances
from attar.structure.refit import refit
from attar.structure.select import Cost, Goal, cost_of, selected
from attar.types import Layer, Stats, Weight

RNG = np.random.default_rng(0)


def moments(x, groups=1):
    """Statistics of columns x[groups * cols, n]."""
    stacked = x.reshape(groups, -1, x.shape[1])
    mean = stacked.mean(2)
    centred = stacked - mean[:, :, None]
    return Stats(centred @ centred.transpose(0, 2, 1) / x.shape[1], mean, x.shape[1], x.shape[1])


def network(width=6, inputs=4, outputs=3, n=500, dead=()):
    """h = relu(W x + b), y = V h, with some hidden channels that never react."""
    rng = np.random.default_rng(width)
    w, v = rng.normal(size=(width, inputs)).astype(np.float32), rng.normal(size=(outputs, width)).astype(np.float32)
    bias = rng.normal(size=width).astype(np.float32)
    w[list(dead)], bias[list(dead)] = 0, 0
    x = rng.normal(size=(inputs, n))
    hidden = np.maximum(w @ x + bias[:, None], 0)
    index = np.arange(width)[:, None]
    group = Group(
        "w", width, (Member("w", 0, index, "out"), Member("b", 0, index, "with"), Member("v", 1, index, "in"))
    )
    structure = Structure((group,), {}, {"w": Product((width, inputs), 1), "v": Product((outputs, width), 1)})
    layers = {
        "w": Layer("w", "dense", width, inputs, (width, inputs), has_bias=True),
        "v": Layer("v", "dense", outputs, width, (outputs, width), has_bias=True),
    }
    weights = {"w": Weight(w, bias), "v": Weight(v, np.zeros(outputs, np.float32))}
    return Subject(structure, layers, weights, {"w": moments(x), "v": moments(hidden)}), hidden


@pytest.mark.parametrize("measure", MEASURES)
def test_dead_channels_matter_least(measure):
    subject, _ = network(dead=(1, 4))
    scores = importances(subject, measure)["w"]
    assert scores.shape == (6,)
    assert (scores >= 0).all()
    assert set(np.argsort(scores)[:2]) == {1, 4}


@pytest.mark.parametrize("measure", ["l1", "l2", "activation"])
def test_relative_measures_have_mean_one(measure):
    assert importances(network()[0], measure)["w"].mean() == pytest.approx(1)


def test_an_unknown_measure_is_refused():
    with pytest.raises(UsageError, match="one of l1, l2"):
        importances(network()[0], "magic")


def test_distortion_is_the_quadratic_loss_of_a_column():
    subject, hidden = network()
    loss = [0.5 * np.square(np.outer(subject.weights["v"].matrix[:, c], hidden[c] - hidden[c].mean())).mean(1).sum() for c in range(6)]  # fmt: skip
    np.testing.assert_allclose(importances(subject, "distortion")["w"], loss, rtol=1e-5)


def test_taylor_is_the_variance_of_the_output_by_its_sensitivity():
    subject, _ = network()
    rows = np.linspace(1, 2, 6)
    stats = subject.stats["w"]
    subject.stats["w"] = Stats(stats.hessian, stats.mean, stats.count, stats.samples, rows)
    matrix = subject.weights["w"].matrix.astype(np.float64)
    expected = 0.5 * rows * np.einsum("rc,cd,rd->r", matrix, stats.hessian[0], matrix)
    np.testing.assert_allclose(importances(subject, "taylor")["w"], expected)


def least_loss(matrix, rows, moment, kept):
    """1/2 sum_r s_r of the best fit of W x by the kept columns."""
    best = matrix @ moment[:, kept] @ np.linalg.inv(moment[np.ix_(kept, kept)])
    full = matrix.copy()
    full[:, kept] -= best
    return 0.5 * np.sum(rows * np.einsum("rc,cd,rd->r", full, moment, full))


def test_elimination_costs_what_the_best_refit_leaves():
    matrix, rows = RNG.normal(size=(4, 6)), np.exp(RNG.normal(size=4))
    root = RNG.normal(size=(6, 9))
    moment, columns = root @ root.T, np.arange(6).reshape(3, 2)
    reader = Reader(matrix, rows, moment, columns)
    total, left = 0.0, [0, 1, 2]
    for channel in (1, 2):
        total += reader.losses(np.array([channel]))[0]
        reader.eliminate(np.array([channel]))
        left.remove(channel)
        assert total == pytest.approx(least_loss(matrix, rows, moment, columns[left].ravel()))


def test_elimination_never_gets_cheaper_and_takes_every_channel():
    matrix, root = RNG.normal(size=(5, 200)), RNG.normal(size=(200, 300))
    scores = eliminated([Reader(matrix, np.ones(5), root @ root.T, np.arange(200)[:, None])], 200)
    assert scores.shape == (200,)
    assert (scores > 0).all()


def test_of_two_alike_only_the_first_is_cheap():
    """Alone each of two equal channels could go for nothing; both together cannot."""
    x = RNG.normal(size=(3, 400))
    moment = moments(np.vstack([x[:1], x])).hessian[0] + 1e-9 * np.eye(4)
    scores = eliminated([Reader(np.ones((1, 4)), np.ones(1), moment, np.arange(4)[:, None])], 4)
    assert scores.min() < 1e-6
    assert np.sum(scores > 0.1) == 3


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 3), st.booleans(), st.integers(0, 100))
def test_refit_is_least_squares(groups, biased, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(groups * 5, 5)) @ rng.normal(size=(5, 300)) + rng.normal(size=(groups * 5, 300)) + 1
    layer = Layer("v", "conv", groups * 2, 5, (groups * 2, 5), groups, has_bias=biased)
    weight = Weight(
        rng.normal(size=(groups * 2, 5)).astype(np.float32), np.ones(groups * 2, np.float32) if biased else None
    )
    kept = np.array([0, 2, 3])
    found = refit(layer, weight, moments(x, groups), kept, ridge=0)
    for g in range(groups):
        own = x.reshape(groups, 5, -1)[g]
        wanted = weight.matrix[2 * g : 2 * g + 2] @ own + (1 if biased else 0)
        regressors = np.vstack([own[kept], np.ones((1, 300))]) if biased else own[kept]
        best = np.linalg.lstsq(regressors.T, wanted.T, rcond=None)[0].T
        np.testing.assert_allclose(found.matrix[2 * g : 2 * g + 2], best[:, :3], atol=1e-4)
        if biased:
            np.testing.assert_allclose(found.bias[2 * g : 2 * g + 2], best[:, 3], atol=1e-4)


def test_refit_with_a_large_ridge_leaves_weights():
    subject, _ = network()
    found = refit(subject.layers["v"], subject.weights["v"], subject.stats["v"], np.array([1, 2]), ridge=1e9)
    np.testing.assert_allclose(found.matrix, subject.weights["v"].matrix[:, [1, 2]], atol=1e-6)


def test_refit_of_a_lookup_and_of_no_columns():
    layer, weight = Layer("e", "embedding", 2, 3, (3, 2)), Weight(np.ones((2, 3), np.float32))
    stats = Stats(np.ones((1, 3)), np.zeros((1, 3)), 1, 1)
    assert refit(layer, weight, stats, np.array([0, 1])).matrix.shape == (2, 2)
    with pytest.raises(UsageError, match="columns to keep"):
        refit(layer, weight, stats, np.array([], np.int64))


def chain(widths, positions=1):
    """Dense layers in a row; hidden ones are groups."""
    products = {f"w{i}": Product((b, a), positions) for i, (a, b) in enumerate(pairwise(widths))}
    groups = []
    for i, width in enumerate(widths[1:-1]):
        index = np.arange(width)[:, None]
        groups.append(Group(f"w{i}", width, (Member(f"w{i}", 0, index, "out"), Member(f"w{i + 1}", 1, index, "in"))))
    return Structure(tuple(groups), {}, products)


def test_cost_counts_both_sides():
    structure = chain([4, 10, 20, 3], positions=7)
    assert structure.macs == 7 * (40 + 200 + 60)
    assert cost_of(structure, {"w0": np.arange(5), "w1": np.arange(4)}) == 7 * (20 + 20 + 12)
    cost = Cost(structure, "bytes")
    assert cost.saved(structure.groups[0], 1) == 4 * 24
    assert cost.total() == 4 * 300


@settings(deadline=None)
@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=4), st.floats(0, 0.7), st.sampled_from([1, 4]),
    st.sampled_from(["macs", "bytes"]), st.integers(0, 99),
)  # fmt: skip
def test_selection_reaches_the_share(hidden, share, multiple, unit, seed):
    structure = chain([8, *hidden, 5])
    rng = np.random.default_rng(seed)
    scores = {g.name: rng.random(g.channels) for g in structure.groups}
    goal = Goal(share, unit, multiple, 0.2)
    try:
        keep = selected(structure, scores, goal)
    except UsageError:
        return
    assert cost_of(structure, keep, unit) <= (1 - share) * cost_of(structure, {}, unit)
    for group in structure.groups:
        kept = keep[group.name]
        assert goal.least(group.channels) <= len(kept) <= group.channels
        assert len(kept) % multiple == 0 or len(kept) == group.channels
        assert (
            len(kept) == group.channels or scores[group.name][kept].min() >= np.delete(scores[group.name], kept).max()
        )
    again = selected(structure, scores, goal)
    assert all(np.array_equal(keep[name], again[name]) for name in keep)


def test_selection_weighs_loss_by_what_is_saved():
    structure = chain([100, 10, 10, 1])
    scores = {"w0": np.full(10, 1.0), "w1": np.full(10, 1.0)}
    keep = selected(structure, scores, Goal(0.3, multiple=1))
    assert len(keep["w0"]) < len(keep["w1"]) == 10
    by_rank = selected(
        structure, {"w0": np.full(10, 1.0), "w1": np.full(10, 0.9)}, Goal(0.05, multiple=1), by_work=False
    )
    assert len(by_rank["w0"]) == 10 > len(by_rank["w1"])


def test_selection_says_what_the_floor_allows():
    structure = chain([4, 10, 3])
    with pytest.raises(UsageError, match="no more than 50% of the macs"):
        selected(structure, {"w0": np.ones(10)}, Goal(0.8, multiple=1, floor=0.5))


@pytest.mark.parametrize("wrong", [{"share": 1.0}, {"share": -0.1}, {"unit": "joules"}, {"multiple": 0}, {"floor": 2}])
def test_goals_are_checked(wrong):
    with pytest.raises(UsageError, match="removal: share must be"):
        Goal(**wrong)


@pytest.fixture(scope="module")
def lenet():
    from attar.adapters.onnx.adapter import OnnxAdapter

    adapter = OnnxAdapter.open(Path(__file__).parents[2] / "examples" / "models" / "lenet5.onnx")
    images = np.random.default_rng(0).random((256, 1, 28, 28), np.float32)
    return adapter, {"image": images}, adapter.moments([{"image": images}])


def test_the_stage(lenet):
    from attar.structure.remove import remove

    adapter, batch, stats = lenet
    before = adapter.run(batch)
    smaller, report = remove(adapter, stats, Goal(0.4, multiple=1))
    plain, _ = remove(adapter, stats, Goal(0.4, multiple=1), ridge=None)
    assert 0.4 <= report.share < 0.5
    assert report.macs == (adapter.structure().macs, smaller.structure().macs)
    assert {g.name: g.channels for g in smaller.structure().groups} == {n: c[1] for n, c in report.channels.items()}
    assert report.weights[1] < report.weights[0]
    assert set(report.refitted) == {"conv2.weight", "fc1.weight", "fc2.weight"}
    np.testing.assert_array_equal(adapter.run(batch), before)

    def error(model):
        return np.square(model.run(batch) - before).mean()

    assert error(smaller) < 0.2 * error(plain)


def test_the_stage_is_deterministic(lenet):
    from attar.structure.remove import remove

    adapter, batch, stats = lenet
    first, second = (remove(adapter, stats, Goal(0.5, multiple=4))[0].run(batch) for _ in range(2))
    np.testing.assert_array_equal(first, second)
