"""Mean reciprocal rank against a count by hand, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import DataError
from attar.evaluate.metrics import resolve_metric


def by_hand(vectors: np.ndarray, labels: np.ndarray) -> list[float]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for i in range(len(unit)):
        best = max(float(unit[i] @ unit[j]) for j in range(len(unit)) if j != i and labels[j] == labels[i])
        found.append(1 / (1 + sum(float(unit[i] @ unit[j]) > best for j in range(len(unit)) if labels[j] != labels[i])))
    return found


@given(st.integers(0, 1000), st.integers(2, 12))
def test_ranks_are_those_counted_by_hand(seed: int, pairs: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(2 * pairs, 3)).astype(np.float32)
    labels = rng.permutation(np.repeat(np.arange(pairs), 2))
    metric = resolve_metric("mrr")
    metric.check(vectors, labels)
    np.testing.assert_allclose(metric.examples(vectors, labels, None), by_hand(vectors.astype(float), labels))


def test_more_rows_than_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(20, 4)), np.repeat(np.arange(10), 2)
    whole = resolve_metric("mrr").examples(vectors, labels, None)
    monkeypatch.setattr("attar.evaluate.retrieval.ROWS", 3)
    np.testing.assert_array_equal(resolve_metric("mrr").examples(vectors, labels, None), whole)


def test_vectors_that_are_not_finite_find_nothing() -> None:
    vectors = np.eye(4)[[0, 0, 1, 1]]
    vectors[1] = np.nan
    assert resolve_metric("mrr").examples(vectors, np.array([0, 0, 1, 1]), None).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("outputs", "labels"), [(np.ones((3, 2)), np.array([0, 0, 1])), (np.ones((2, 2, 2)), np.zeros(2))]
)
def test_labels_that_make_no_pairs_are_refused(outputs: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="mrr"):
        resolve_metric("mrr").check(outputs, labels)
