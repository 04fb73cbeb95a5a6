"""The laws of choices, for every registered one, and planted sets of which the best choice is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import registry
from attar.errors import UsageError
from attar.selection.base import Pool, least_sum
from attar.selection.features import of_rows
from attar.selection.leverage import leverage

NAMES = list(registry.names("choice"))


def pool(n: int, seed: int = 0, depth: int = 6) -> Pool:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, depth)) * np.arange(1, depth + 1)
    known = of_rows([rows], n, rng.integers(0, 3, n), seed, lambda _: None)
    return replace(known, doubts=rng.random(n))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 60), seed=st.integers(0, 5), data=st.data())
def test_k_distinct_examples_the_same_for_the_same_seed(name: str, n: int, seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    one = pool(n, seed)
    before = one.features.copy(), one.moments.copy()
    way = registry.get("choice", name)
    chosen = way.choose(one, k, np.random.default_rng(seed))
    assert chosen.dtype == np.int64 and len(np.unique(chosen)) == k and 0 <= chosen.min() <= chosen.max() < n
    np.testing.assert_array_equal(chosen, way.choose(pool(n, seed), k, np.random.default_rng(seed)))
    np.testing.assert_array_equal(before[0], one.features)
    np.testing.assert_array_equal(before[1], one.moments)


@pytest.mark.parametrize("name", NAMES)
def test_every_choice_says_what_it_does(name: str) -> None:
    way = registry.get("choice", name)
    assert way.summary[0].islower() and not way.summary.endswith(".") and way.needs in ("", "layers", "outputs")


@pytest.mark.parametrize("name", NAMES)
def test_all_of_a_set_and_equal_examples_are_no_trouble(name: str) -> None:
    same = of_rows([np.ones((9, 4))], 9, np.zeros(9, int), 0, lambda _: None)
    same = replace(same, doubts=np.zeros(9))
    chosen = registry.get("choice", name).choose(same, 9, np.random.default_rng(0))
    assert sorted(chosen.tolist()) == list(range(9))


def test_balanced_takes_classes_in_turn_and_needs_labels() -> None:
    labels = np.array(["a"] * 90 + ["b"] * 8 + ["c"] * 2)
    known = Pool(100, np.zeros((100, 1), np.float32), np.zeros((100, 1), np.float32), (), labels)
    chosen = registry.get("choice", "balanced").choose(known, 20, np.random.default_rng(0))
    assert np.unique(labels[chosen], return_counts=True)[1].tolist() == [10, 8, 2]
    with pytest.raises(UsageError, match="need labels"):
        registry.get("choice", "balanced").choose(replace(known, labels=None), 2, None)


def test_k_center_takes_one_of_each_cluster() -> None:
    rng = np.random.default_rng(1)
    centres = 20 * rng.normal(size=(7, 5))
    # The first cluster has nearly all examples: chance would see no other.
    which = np.concatenate([np.zeros(300, int), np.arange(1, 7)])
    known = of_rows([centres[which] + rng.normal(size=(306, 5))], 306, None, 0, lambda _: None)
    chosen = registry.get("choice", "k-center").choose(known, 7, rng)
    assert set(which[chosen]) == set(range(7))


def test_moments_finds_the_pair_that_cancels() -> None:
    rng = np.random.default_rng(2)
    values = np.abs(rng.normal(size=(40, 3))).astype(np.float32) + 1
    values[17] = -values.sum(0) + values[17]  # the mean of all is 0, and so is that of 17 with a 38th of the others
    square = np.einsum("nm,nm->n", values, values)
    best = least_sum(values - values.mean(0), 1, square * 0, 0.0)
    assert best.tolist() == [0]  # nothing pulls: the lowest position
    pairs = np.array([[1, 0], [9, 9], [-1, 0], [0, 4], [0, -4]], np.float32)
    pairs = np.concatenate([pairs, -pairs.sum(0, keepdims=True)])
    chosen = least_sum(pairs, 2, np.square(pairs).sum(1).astype(float), 2.0)
    assert sorted(chosen.tolist()) == [0, 2]


@pytest.mark.parametrize("name", ["moments", "herding"])
def test_matched_means_are_nearer_than_those_of_chance(name: str) -> None:
    known, k = pool(600, 3), 40
    mean = known.moments.mean(0)

    def off(way: str, seed: int) -> float:
        chosen = registry.get("choice", way).choose(known, k, np.random.default_rng(seed))
        return float(np.square(known.moments[chosen].mean(0) - mean).sum())

    assert off(name, 0) < 0.5 * np.mean([off("random", seed) for seed in range(10)])


def test_leverage_is_that_of_its_definition_and_finds_the_rare_direction() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, 5)).astype(np.float32)
    x[:, 4] = 0
    x[13, 4] = 8
    scores = leverage(x, 50)
    gram = x.T.astype(float) @ x
    ridge = np.trace(gram) / 50
    expected = np.diag(x @ np.linalg.inv(gram + ridge * np.eye(5)) @ x.T)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert scores.argmax() == 13
    known = Pool(200, x, x, (slice(0, 5),))
    taken = [registry.get("choice", "leverage").choose(known, 20, np.random.default_rng(s)) for s in range(40)]
    assert np.mean([13 in chosen for chosen in taken]) > 0.9


def test_undecided_examples_come_more_often_and_need_outputs() -> None:
    doubts = np.where(np.arange(1000) % 10 == 0, 0.5, 0.005)
    known = replace(pool(1000), doubts=doubts)
    chosen = [registry.get("choice", "undecided").choose(known, 100, np.random.default_rng(s)) for s in range(10)]
    share = np.mean([doubts[one] > 0.1 for one in chosen])
    # Odds of 0.709 to 0.087 where one in ten is of the first kind: by numbers 0.475, a little less without replacement.
    assert 0.4 < share < 0.5
    with pytest.raises(UsageError, match="Pass --for"):
        registry.get("choice", "undecided").choose(replace(known, doubts=None), 2, np.random.default_rng(0))


def test_an_unknown_choice_names_the_known() -> None:
    with pytest.raises(UsageError, match="random, balanced, k-center"):
        registry.get("choice", "best")
