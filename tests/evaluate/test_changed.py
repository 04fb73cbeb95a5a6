"""Slices with bounds that hold at once, answers that turned into others, confidences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.evaluate.changed import SHIFTS, WORST, answers, calibration_error, grouped, told
from attar.evaluate.metrics import resolve_metric
from attar.types import Array, Score

ACCURACY, AGREEMENT, ERROR = (resolve_metric(name) for name in ("accuracy", "agreement", "mse"))


def pair(n: int = 900, classes: int = 3, noise: float = 1.0, seed: int = 0) -> tuple[Score, Score, Array]:
    """A model that is mostly right, and the same with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    outputs = rng.normal(size=(n, classes)) + 2 * np.eye(classes)[labels]
    return scored(outputs, labels), scored(outputs + noise * rng.normal(size=outputs.shape), labels), labels


def scored(outputs: Array, labels: Array) -> Score:
    each = ACCURACY.examples(outputs, labels, None)
    assert each is not None
    return Score("accuracy", float(each.mean()), len(outputs), outputs, each, labels)


def test_slices_add_up_to_the_whole_drop() -> None:
    before, after, labels = pair()
    slices = told(before, after, labels, ACCURACY, ("a", "b", "c"), 0.95)["slices"]
    assert slices["by"] == "class" and slices["of"] == 3
    total = sum(row["drop"] * row["n"] for row in slices["rows"]) / before.n
    assert total == pytest.approx(before.value - after.value)
    assert [row["drop"] for row in slices["rows"]] == sorted((row["drop"] for row in slices["rows"]), reverse=True)
    assert all(row["lower"] <= row["drop"] <= row["upper"] for row in slices["rows"])


def test_outputs_that_overflowed_are_no_answers() -> None:
    before, after, labels = pair()
    broken = np.where(np.arange(before.n)[:, None] == 7, np.inf, after.outputs)
    found = told(before, scored(broken, labels), labels, ACCURACY, (), 0.95)
    assert found["slices"]["of"] == 3 and not {"shifts", "reliability"} & set(found)
    assert "shifts" not in told(scored(broken, labels), before, labels, AGREEMENT, (), 0.95)


def test_bounds_of_many_slices_are_wider_than_that_of_one() -> None:
    before, after, labels = pair()
    few = told(before, after, labels, ACCURACY, (), 0.95)["slices"]["rows"]
    strict = told(before, after, labels, ACCURACY, (), 0.95**3)["slices"]["rows"]
    assert few[0]["upper"] > strict[0]["upper"]


def test_a_true_drop_is_rarely_above_any_slice_s_bound() -> None:
    """All bounds hold at once in at least 95 of 100 repetitions, but for chance (99.9 % of it)."""
    rng, missed, runs, classes, lost = np.random.default_rng(4), 0, 60, 4, 0.06
    labels = np.repeat(np.arange(classes), 100)
    eye = np.eye(classes)
    for _ in range(runs):
        flip = rng.random(len(labels)) < lost
        before = scored(eye[labels], labels)
        after = scored(np.where(flip[:, None], eye[(labels + 1) % classes], eye[labels]), labels)
        rows = told(before, after, labels, ACCURACY, (), 0.95)["slices"]["rows"]
        missed += any(row["upper"] < 100 * lost for row in rows)
    assert missed <= 9  # binomial(60, 0.05) is above with a chance below 0.001


def test_shifts_count_every_changed_answer() -> None:
    before, after, labels = pair(noise=2.0)
    shifts = told(before, after, labels, ACCURACY, ("ant", "bee", "cat"), 0.95)["shifts"]
    first, second = answers(before), answers(after)
    assert first is not None and second is not None
    assert shifts["changed"] == (first != second).sum() == sum(row["n"] for row in shifts["rows"])
    row = shifts["rows"][0]
    chosen = (first == ["ant", "bee", "cat"].index(row["before"])) & (
        second == ["ant", "bee", "cat"].index(row["after"])
    )
    assert row["n"] == chosen.sum() and row["lost"] == (labels[chosen] == first[chosen]).sum()
    assert sum(row["lost"] - row["gained"] for row in shifts["rows"]) == pytest.approx(
        (before.value - after.value) * before.n / 100
    )


def test_many_classes_are_told_by_the_worst() -> None:
    before, after, labels = pair(6000, 60, 1.5)
    found = told(before, after, labels, ACCURACY, (), 0.95)
    assert len(found["slices"]["rows"]) == WORST and found["slices"]["of"] == 60
    assert len(found["shifts"]["rows"]) == SHIFTS and found["shifts"]["pairs"] > SHIFTS


def test_without_labels_the_original_s_answers_make_the_slices() -> None:
    before, after, _ = pair()
    each = AGREEMENT.examples(before.outputs, None, before.outputs)
    later = AGREEMENT.examples(after.outputs, None, before.outputs)
    assert each is not None and later is not None
    one = Score("agreement", float(each.mean()), before.n, before.outputs, each)
    other = Score("agreement", float(later.mean()), before.n, after.outputs, later)
    found = told(one, other, None, AGREEMENT, (), 0.95)
    assert found["slices"]["by"] == "answer" and "lost" not in found["shifts"]["rows"][0]
    assert "reliability" not in found


def test_a_regression_is_sliced_by_quarters_of_its_labels() -> None:
    rng = np.random.default_rng(1)
    labels = np.sort(rng.normal(size=(400, 1)), 0)
    outputs = labels + 0.1 * rng.normal(size=labels.shape)
    worse = outputs + np.where(np.arange(400)[:, None] >= 300, 0.5, 0.0)
    scores = []
    for one in (outputs, worse):
        each = ERROR.examples(one, labels, None)
        assert each is not None
        scores.append(Score("mse", float(each.mean()), 400, one, each, labels))
    found = told(scores[0], scores[1], labels, ERROR, (), 0.95)
    assert found["slices"]["by"] == "quarter" and found["slices"]["of"] == 4 and "shifts" not in found
    assert found["slices"]["rows"][0]["drop"] > 10 * found["slices"]["rows"][1]["drop"]


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        (np.zeros((5, 4, 7)), np.zeros((5, 4), int)),
        (np.full((5, 3), np.nan), np.zeros(5, int)),
        (np.zeros((5, 3)), np.full(5, 9)),
        (np.zeros((5, 3)), np.full(5, 0.5)),
        (np.zeros((5, 3)), np.array(list("abcde"))),
        (np.zeros((5, 2)), None),
        (np.zeros((5, 1)), np.zeros(5)),
    ],
)
def test_what_has_no_classes_is_left_out(outputs: Array, labels: Array | None) -> None:
    score = Score("kl", 0.0, 5, outputs, np.zeros(5), labels)
    assert told(score, score, labels, resolve_metric("kl"), (), 0.95) == {}
    assert grouped(score, labels, resolve_metric("kl"), ())[1] == {}


@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 10**6))
def test_a_calibration_error_is_a_share_and_zero_for_certainty(classes: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, n)
    chances = rng.dirichlet(np.ones(classes), n)
    assert 0 <= calibration_error(chances, true) <= 100
    assert calibration_error(np.eye(classes)[true], true) == 0
    assert calibration_error(np.eye(classes)[(true + 1) % classes], true) == pytest.approx(100)
