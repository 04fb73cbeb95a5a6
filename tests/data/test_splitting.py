"""Splits: sizes, shares of classes, no example twice, labels kept from calibration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.data.overlap import row_hashes
from attar.data.splits import make_splits, stratified
from attar.errors import DataError, UsageError
from attar.types import Dataset, Splits


def made(n: int, seed: int = 0, labels: bool = True, classes: int = 4) -> Dataset:
    """Distinct examples whose label is their first number."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    y = np.arange(n) % classes
    x[:, 0] = y
    return Dataset({"x": x}, y if labels else None, f"set {seed}")


def check(splits: Splits) -> None:
    parts = (splits.calibrate, splits.select, splits.certify)
    hashes = [set(row_hashes(part).tolist()) for part in parts]
    assert not (hashes[0] & hashes[1] or hashes[0] & hashes[2] or hashes[1] & hashes[2])
    assert splits.calibrate.labels is None
    for part in parts[1:]:
        assert part.labels is None or np.array_equal(part.inputs["x"][:, 0], part.labels)


def sizes(splits: Splits) -> tuple[int, int, int]:
    return len(splits.calibrate), len(splits.select), len(splits.certify)


@given(n=st.integers(20, 400), classes=st.integers(2, 5), seed=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_one_set_is_split_whole_and_in_shares(n: int, classes: int, seed: int) -> None:
    splits = make_splits(made(n, classes=classes), seed=seed)
    check(splits)
    assert sizes(splits) == (n // 4, n // 4, n - 2 * (n // 4)) and len(splits.certify) >= n / 2
    for part in (splits.select, splits.certify):
        counts = np.bincount(part.labels, minlength=classes)
        assert np.ptp(counts) <= 3  # one for each cut, and one for the set itself


def test_splits_are_seeded() -> None:
    one, two, other = (make_splits(made(200), seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.certify.inputs["x"], two.certify.inputs["x"])
    assert not np.array_equal(one.certify.inputs["x"], other.certify.inputs["x"])


def test_every_prefix_of_the_order_is_fair() -> None:
    labels = np.r_[np.zeros(900, int), np.ones(90, int), np.full(10, 2)]
    order = stratified(Dataset({"x": np.arange(1000)}, labels), np.random.default_rng(0))
    assert np.array_equal(np.sort(order), np.arange(1000))
    for size in (100, 300, 700):
        assert np.bincount(labels[order[:size]], minlength=3) == pytest.approx(
            size * np.array([0.9, 0.09, 0.01]), abs=1
        )


def test_limits_leave_more_for_certify() -> None:
    assert sizes(make_splits(made(1000), seed=0, n_calibrate=50, n_select=100)) == (50, 100, 850)


def test_train_gives_calibrate_and_select_and_test_is_certify() -> None:
    test = made(60, 1)
    splits = make_splits({"train": made(300), "test": test}, seed=0, n_calibrate=100, n_select=120)
    check(splits)
    assert sizes(splits) == (100, 120, 60) and splits.certify is test
    assert np.bincount(splits.select.labels).tolist() == [30, 30, 30, 30]


def test_sets_of_their_own_are_taken_as_they_are() -> None:
    given = {"calibrate": made(40, 0, labels=False), "select": made(50, 1), "certify": made(60, 2)}
    splits = make_splits(None, **given, seed=0)
    check(splits)
    assert sizes(splits) == (40, 50, 60)
    for name, part in given.items():  # whole, so nothing is copied
        assert all(values is getattr(splits, name).inputs[key] for key, values in part.inputs.items())
    assert sizes(make_splits(made(100), certify=made(60, 2), seed=0)) == (50, 50, 60)
    assert sizes(make_splits(made(100), calibrate=made(60, 2), seed=0)) == (60, 50, 50)
    assert sizes(make_splits({"train": made(100), "test": made(60, 1)}, certify=made(70, 2), seed=0)) == (50, 50, 70)
    parts = {"train": made(50), "test": made(30, 1)}
    assert sizes(make_splits(None, calibrate=parts, certify=made(80, 2), seed=0)) == (25, 25, 80)


def test_select_is_lent_by_certify_where_calibrate_has_no_labels() -> None:
    splits = make_splits(None, calibrate=made(40, labels=False), certify=made(60, 1), seed=0)
    check(splits)
    assert sizes(splits) == (40, 30, 30)
    unlabelled = make_splits(
        None, calibrate=made(40, labels=False), certify=made(60, 1, False), seed=0, metric_needs_labels=False
    )
    assert sizes(unlabelled) == (20, 20, 60)


def test_parts_without_a_set_are_named() -> None:
    with pytest.raises(UsageError, match="calibrate and select"):
        make_splits(None, certify=made(60), seed=0)
    with pytest.raises(UsageError, match="select and certify"):
        make_splits(None, calibrate=made(60), seed=0)
    with pytest.raises(UsageError, match="both"):
        make_splits(made(60), calibrate=made(60, 1), select=made(60, 2), certify=made(60, 3), seed=0)


def test_the_same_set_twice_is_refused() -> None:
    with pytest.raises(DataError, match="100 %"):
        make_splits(None, calibrate=made(60), select=made(60, 1), certify=made(60), seed=0)
    with pytest.raises(DataError, match="must not share"):
        make_splits({"train": made(100), "test": made(100)}, seed=0)


def test_a_few_common_examples_are_left_out_of_all_but_certify() -> None:
    certify, train = made(1000, 1), made(1000)
    for row in (3, 500, 900):
        train.inputs["x"][row] = certify.inputs["x"][row]
    splits = make_splits({"train": train, "test": certify}, seed=0)
    check(splits)
    assert splits.certify is certify and sum(sizes(splits)) == 1997
    assert any("left out" in warning for warning in splits.warnings)
    for row in range(20):
        train.inputs["x"][row] = certify.inputs["x"][row]
    with pytest.raises(DataError, match="must not share"):
        make_splits({"train": train, "test": certify}, seed=0)


def test_copies_within_one_set_are_removed_not_refused() -> None:
    data = made(400)
    data.inputs["x"][200:300] = data.inputs["x"][:100]
    splits = make_splits(data, seed=0)
    check(splits)
    assert splits.warnings and len(splits.certify) == 200


def test_a_set_of_copies_only_is_refused() -> None:
    data = Dataset({"x": np.zeros((40, 3))}, np.arange(40) % 2)
    with pytest.raises(DataError, match="occur in other parts"):
        make_splits(data, seed=0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (made(0), "at least 20"),
        (made(19), "Received 19"),
        (made(100, labels=False), "needs labels"),
        (made(100, classes=1), "two classes"),
        ({"train": made(100), "test": made(100, 1, classes=1)}, "two classes"),
    ],
)
def test_sets_that_cannot_do_are_refused(data, said: str) -> None:
    with pytest.raises(DataError, match=said):
        make_splits(data, seed=0)


def test_numbers_as_labels_and_no_labels_are_split_at_random() -> None:
    x = made(100).inputs
    numbers = make_splits(Dataset(x, np.linspace(0, 1, 100)), seed=0)
    assert sizes(numbers) == (25, 25, 50) and 0.3 < float(np.mean(numbers.certify.labels)) < 0.7
    assert sizes(make_splits(Dataset(x), seed=0, metric_needs_labels=False)) == (25, 25, 50)
    rows = make_splits(Dataset(x, np.eye(4)[np.arange(100) % 4]), seed=0)
    assert np.ptp(rows.certify.labels.sum(0)) <= 2
