"""Layouts, dtypes and scales: what is told, what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.data.fit import fit_inputs
from attar.errors import DataError, UsageError
from attar.types import Array, Dataset, Scaled, TensorSpec

RNG = np.random.default_rng(0)


def fit(x: Array, shape: tuple, dtype: str = "float32", **options) -> Array:
    found = fit_inputs(Dataset({"x": x}, np.arange(len(x))), [TensorSpec("input", dtype, shape)], **options)
    assert list(found.inputs) == ["input"] and found.labels is not None and len(found.labels) == len(x)
    return found.inputs["input"]


GREY = RNG.integers(0, 256, (3, 6, 5), np.uint8)
COLOUR = RNG.integers(0, 256, (3, 6, 5, 3), np.uint8)
UNIT = COLOUR.astype(np.float32) / 255


@pytest.mark.parametrize(
    ("x", "shape", "expected"),
    [
        (GREY, (None, 1, 6, 5), GREY[:, None]),
        (GREY, (None, 6, 5, 1), GREY[..., None]),
        (GREY, (None, 30), GREY.reshape(3, 30)),
        (GREY, (None, None, None), GREY),
        (GREY, (None, 1, None, None), GREY[:, None]),
        (GREY[..., None], (None, 6, 5), GREY),
        (GREY[..., None], (None, 1, 6, 5), GREY[:, None]),
        (GREY.reshape(3, 30), (None, 1, 6, 5), GREY[:, None]),
        (GREY.reshape(3, 30), (None, 6, 5, 1), GREY[..., None]),
        (COLOUR, (None, 3, 6, 5), np.moveaxis(COLOUR, -1, 1)),
        (COLOUR, (None, 3, None, None), np.moveaxis(COLOUR, -1, 1)),
        (np.moveaxis(COLOUR, -1, 1), (None, 6, 5, 3), COLOUR),
        (COLOUR, (8, 6, 5, 3), COLOUR),
        (COLOUR, (), COLOUR),
    ],
)
def test_layouts(x: Array, shape: tuple, expected: Array) -> None:
    found = fit(x, shape)
    assert found.dtype == np.float32 and np.array_equal(found, expected.astype(np.float32) * np.float32(1 / 255))


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (GREY, (None, 3, 6, 5)),
        (GREY, (None, 1, 5, 6)),
        (GREY, (None, 31)),
        (COLOUR, (None, 1, 6, 5)),
        (COLOUR.reshape(3, -1), (None, 3, 6, 5)),
        (np.zeros((3, 7)), (None, 1, 6, 5)),
        (np.zeros(3), (None, 4)),
    ],
)
def test_shapes_that_do_not_fit_are_named(x: Array, shape: tuple) -> None:
    with pytest.raises(DataError, match=r"must have shape \[n, .*\] float32. Received \[n.*\] (uint8|float64)"):
        fit(x, shape)


def test_what_fits_in_two_ways_is_not_guessed() -> None:
    with pytest.raises(DataError, match="two ways"):
        fit(GREY, (None, None, None, None))


def test_bytes_are_scaled_and_numbers_are_not() -> None:
    assert np.array_equal(fit(COLOUR, (None, 6, 5, 3), scale=1.0), COLOUR)
    assert np.array_equal(fit(COLOUR.astype(np.int64), (None, 6, 5, 3)), COLOUR)
    assert fit(UNIT.astype(np.float64), (None, 6, 5, 3)).dtype == np.float32
    assert fit(UNIT, (None, 6, 5, 3), "float16").dtype == np.float16
    assert fit(UNIT, (None, 6, 5, 3), "bfloat16").dtype == np.float32
    assert fit(COLOUR, (None, 6, 5, 3), "uint8").dtype == np.uint8
    assert fit(UNIT, (None, 6, 5, 3)) is UNIT  # nothing to do, nothing copied


@pytest.mark.parametrize("shape", [(None, 3, 6, 5), (None, 6, 5, 3)])
def test_mean_and_std_go_along_the_channels(shape: tuple) -> None:
    mean, std = [0.1, 0.2, 0.3], [1.0, 2.0, 4.0]
    found = fit(COLOUR, shape, mean=mean, std=std)
    expected = (UNIT - np.float32(mean)) / np.float32(std)
    assert np.allclose(found if shape[1] == 6 else np.moveaxis(found, 1, -1), expected, atol=1e-6)
    assert np.allclose(fit(COLOUR, shape, mean=0.5), fit(COLOUR, shape) - 0.5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"scale": 1.0, "mean": [127.0, 10.0, 3.0], "std": 128.0}, {"std": [1, 2, 3]}])
def test_pictures_may_stay_bytes_and_are_the_same_floats(dtype: str, options: dict) -> None:
    whole, held = (
        fit(COLOUR, (None, 3, 6, 5), dtype, **options, as_bytes=as_bytes) for as_bytes in (False, True)
    )  # fmt: skip
    assert isinstance(held, Scaled) and held.given.dtype == np.uint8
    assert held.shape == whole.shape and len(held) == len(whole)
    for rows in (slice(None), slice(1, 3), np.array([2, 0, 2]), 1, -1):
        assert held[rows].dtype == whole.dtype and np.array_equal(held[rows], whole[rows])
    data = Dataset({"x": held}).take([2, 1])
    assert isinstance(data.inputs["x"], Scaled) and np.array_equal(data.arrays()["x"], whole[[2, 1]])
    batches = [batch["x"] for batch in data.batches(1)]
    assert all(isinstance(one, Scaled) for one in batches)
    assert [np.asarray(one).tobytes() for one in batches] == [whole[[2]].tobytes(), whole[[1]].tobytes()]
    twice = Dataset({"x": held}).pick(np.array([2, 0, 1, 2])).pick(np.array([3, 1]))
    picked = twice.inputs["x"]
    assert isinstance(picked, Scaled) and picked.given is held.given, "no copy"
    assert picked.shape == whole[[2, 0]].shape and picked.size == whole[[2, 0]].size
    for rows in (slice(None), slice(1, 2), np.array([1, 1]), 1, -1):
        assert np.array_equal(picked[rows], whole[[2, 0]][rows])
    assert np.array_equal(np.asarray(picked.take(np.array([1]))), whole[[0]])
    assert [np.asarray(one["x"]).tobytes() for one in twice.batches(1)] == [whole[[2]].tobytes(), whole[[0]].tobytes()]
    assert np.asarray(held, np.float64).dtype == np.float64
    again = fit_inputs(data, [TensorSpec("x", dtype, (None, 3, 6, 5))])
    assert np.array_equal(again.inputs["x"], whole[[2, 1]])


def test_what_is_not_scaled_bytes_is_not_held_as_such() -> None:
    assert fit(UNIT, (None, 6, 5, 3), as_bytes=True) is UNIT
    assert fit(COLOUR, (None, 6, 5, 3), "uint8", as_bytes=True) is COLOUR
    with pytest.raises(DataError, match="NaN or infinity in 3 of 3"), np.errstate(over="ignore"):
        fit(COLOUR, (None, 6, 5, 3), scale=1e38, as_bytes=True)


def test_options_that_cannot_be_are_refused() -> None:
    for options in ({"scale": 0}, {"std": [1, 0, 1]}, {"mean": float("nan")}, {"scale": "big"}, {"mean": []}):
        with pytest.raises(UsageError, match="finite number"):
            fit(COLOUR, (None, 6, 5, 3), **options)
    with pytest.raises(UsageError, match="Received 2"):
        fit(COLOUR, (None, 6, 5, 3), mean=[1, 2])


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(DataError, match="empty"):
        fit(GREY[:0], (None, 6, 5))


def test_ids_stay_exact() -> None:
    ids = np.array([[1, 2**31 - 1], [0, 5]])
    assert fit(ids, (None, None), "int32").dtype == np.int32
    assert fit(ids.astype(np.uint16), (None, None), "int64").dtype == np.int64
    assert fit(np.array([[True, False]]), (None, None), "int64").tolist() == [[1, 0]]
    for bad, dtype in ((ids + 1, "int32"), (ids - 1, "uint8"), (ids.astype(float), "int64"), (ids, "bool")):
        with pytest.raises(DataError, match=f"must be {dtype}"):
            fit(bad, (None, None), dtype)


def test_values_that_are_not_finite_are_counted() -> None:
    x = UNIT.copy()
    x[0, 0, 0, 0], x[2, 1, 1, 1] = np.nan, np.inf
    with pytest.raises(DataError, match="in 2 of 3 examples"):
        fit(x, (None, 6, 5, 3))
    with pytest.raises(DataError, match="infinity in 1 of 1"):
        fit(np.full((1, 2), 1e300), (None, 2))


def test_optional_inputs_are_taken_where_they_are_given() -> None:
    specs = [TensorSpec("ids", "int64", ()), TensorSpec("mask", "int64", (), optional=True)]
    ids, mask = np.arange(6).reshape(3, 2), np.ones((3, 2), bool)
    both = fit_inputs(Dataset({"mask": mask, "ids": ids, "other": ids}), specs)
    assert list(both.inputs) == ["ids", "mask"]
    assert both.inputs["mask"].dtype == bool
    assert list(fit_inputs(Dataset({"anything": ids}), specs).inputs) == ["ids"]
    with pytest.raises(DataError, match="Add ids"):
        fit_inputs(Dataset({"mask": mask, "other": ids}), specs)


def test_several_inputs_are_taken_by_name() -> None:
    specs = [TensorSpec("input_ids", "int64", (None, None)), TensorSpec("mask", "int64", (None, None))]
    ids = np.ones((4, 3), np.int32)
    found = fit_inputs(Dataset({"mask": ids, "input_ids": ids * 2, "token_type_ids": ids}), specs)
    assert list(found.inputs) == ["input_ids", "mask"] and found.inputs["input_ids"][0, 0] == 2
    assert found.inputs["mask"].dtype == np.int64
    with pytest.raises(DataError, match="Add mask"):
        fit_inputs(Dataset({"input_ids": ids, "other": ids}), specs)
    with pytest.raises(DataError, match="Add x"):
        fit_inputs(Dataset({"a": ids, "b": ids}), [TensorSpec("x", "int64", (None, None))])


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), want=st.lists(st.integers(1, 4), min_size=1, max_size=3)
)
@settings(max_examples=200, deadline=None)
def test_the_result_has_the_models_shape_and_the_same_values(shape: list[int], want: list[int]) -> None:
    x = RNG.normal(size=(2, *shape)).astype(np.float32)
    before = x.copy()
    try:
        found = fit(x, (None, *want))
    except DataError:
        return
    assert found.shape == (2, *want)
    assert np.array_equal(np.sort(found.reshape(2, -1)), np.sort(before.reshape(2, -1)))
    assert np.array_equal(x, before)
