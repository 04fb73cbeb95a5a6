"""The dense coder: native and twin alike on every path, what it refuses, what it finds, when it is tried."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import _native as native
from attar.coding import SOON, dense, dense_twin, effort_for, encode_array
from attar.coding.dense import Dense
from attar.coding.rans import Rans
from attar.errors import FormatError, UsageError

HEADS = st.tuples(st.integers(0, 28), st.integers(0, 31), st.sampled_from([3, 4, 7, 28, 500, 4096]))


def related(rng, rows, cols, rank=4, noise=0.3, scale=1.5):
    """Codes whose columns say something about each other."""
    mixed = rng.normal(0, 1, (rows, rank)) @ rng.normal(0, 1, (rank, cols)) / np.sqrt(rank)
    return np.rint(scale * (mixed + noise * rng.normal(0, 1, (rows, cols)))).astype(np.int64)


def both(values, head):
    """The bytes, which both kernels write and read."""
    data = native.dense_encode(values, *head)
    assert dense_twin.dense_encode(values, *head) == data
    for module in (native, dense_twin):
        out = np.full(values.shape, 7, np.int64)
        module.dense_decode(np.frombuffer(data, np.uint8), out, *head)
        assert (out == values).all()
    return data


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 40), HEADS, st.sampled_from([0.05, 1, 30, 1e6]))
def test_native_equals_twin(seed, rows, cols, head, scale):
    rng = np.random.default_rng(seed)
    heavy = np.clip(np.rint(rng.standard_cauchy((rows, cols)) * scale), -(2**30), 2**30).astype(np.int64)
    both(heavy, head)


@pytest.mark.parametrize(("rows", "cols"), [(60, 50), (5, 1030), (9, 2), (4, 4097), (3, 60), (1, 900), (200, 1)])
def test_blocks_edges_and_vectors(rows, cols):
    both(related(np.random.default_rng(rows), rows, cols), (0, 16, 5))


def test_extremes():
    edge = np.array([[2**30, -(2**30), 0, 1, -1, 15, 16, -14]] * 5)
    for head in ((0, 0, 3), (28, 31, 3), (3, 18, 4)):
        both(edge, head)


@pytest.mark.parametrize("head", [(-1, 0, 3), (29, 0, 3), (0, -1, 3), (0, 32, 3), (0, 0, 2), (0, 0, 4097)])
@pytest.mark.parametrize("module", [native, dense_twin], ids=["native", "twin"])
def test_heads_that_cannot_be(module, head):
    with pytest.raises(ValueError, match="shift must be 0 to 28"):
        module.dense_encode(np.ones((2, 2), np.int64), *head)
    with pytest.raises(ValueError, match="shift must be 0 to 28"):
        module.dense_decode(np.zeros(3, np.uint8), np.ones((2, 2), np.int64), *head)


@pytest.mark.parametrize("module", [native, dense_twin], ids=["native", "twin"])
def test_values_beyond(module):
    with pytest.raises(ValueError, match=r"2\^30"):
        module.dense_encode(np.array([[2**30 + 1]]), 0, 0, 3)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60), st.integers(1, 6), st.integers(1, 8), HEADS)
def test_any_bytes_are_read_alike(data, rows, cols, head):
    found = []
    for module in (native, dense_twin):
        out = np.empty((rows, cols), np.int64)
        try:
            module.dense_decode(np.frombuffer(data, np.uint8), out, *head)
            found.append(out.tolist())
        except ValueError as error:
            found.append(str(error))
    assert found[0] == found[1]


def test_what_it_takes():
    assert Dense.accepts(np.array([2**62, 2**62 + 2**30 - 1])) and not Dense.accepts(np.array([0, 2**30]))
    assert not Dense.accepts(np.ones(3, np.float32)) and Dense.accepts(np.zeros((0, 4), np.int8))
    assert not Dense.accepts(np.broadcast_to(np.int8(0), (2**24 + 1,)))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int64", "uint64", "bool"])
def test_dtypes_at_their_ends(dtype):
    kind = np.dtype(dtype)
    ends = (0, 1) if dtype == "bool" else (np.iinfo(kind).min, np.iinfo(kind).max)
    for end in ends:
        away = [0, 1, 2, 3] if end == ends[0] else [0, -1, -2, -3]
        array = np.array([int(end) + (d if dtype != "bool" else 0) for d in away] * 3, object).astype(kind)
        data = Dense.encode(array)
        assert (Dense.decode(data, dtype, array.shape) == array).all()


def test_a_value_that_the_dtype_cannot_hold():
    data = Dense.encode(np.array([[100, 300], [5, -2]], np.int16))
    for dtype in ("int8", "uint8", "bool"):
        with pytest.raises(FormatError, match=f"{dtype} holds"):
            Dense.decode(data, dtype, (2, 2))


@pytest.mark.parametrize(
    ("data", "shape", "rule"),
    [
        (bytes([64, 29]), (2, 2), "the shift be 28"),
        (bytes([128, 2]), (2, 2), "the period 3 to 4096"),
        (bytes([32]) + bytes([255] * 9 + [127]), (2, 2), "the centre must have 64 bits"),
        (b"\0", (1 << 13, (1 << 11) + 1), "may have 16777216 values"),
        (b"", (2, 2), "lengths must add up"),
    ],
)
def test_bytes_that_cannot_be(data, shape, rule):
    with pytest.raises(FormatError, match=rule):
        Dense.decode(data, "int64", shape)


def test_it_finds_what_columns_say_about_each_other():
    codes = related(np.random.default_rng(1), 500, 120)
    assert len(Dense.encode(codes)) < 0.75 * len(Rans.encode(codes))
    noise = np.rint(np.random.default_rng(2).laplace(0, 1, (500, 120))).astype(np.int64)
    assert len(Dense.encode(noise)) < 1.01 * len(Rans.encode(noise))


def test_an_outlier_does_not_make_the_unit():
    codes = related(np.random.default_rng(5), 80, 60)
    codes[3, 4] = 2**29
    assert len(Dense.encode(codes)) < 1.1 * len(Rans.encode(codes))


def test_it_finds_the_width_of_pictures():
    rng = np.random.default_rng(3)
    picture = np.repeat(np.repeat(rng.normal(0, 1, (60, 7, 7)), 4, 1), 4, 2).reshape(60, 784)
    codes = np.rint(picture + rng.normal(0, 0.3, picture.shape)).astype(np.int64)
    assert dense._period(codes) in (27, 28, 29)
    assert dense._period(rng.integers(-2, 3, (60, 784))) == dense.NEAREST
    assert dense._period(np.ones((1, 5), np.int64)) == dense.NEAREST


def test_auto_asks_for_few_integers():
    few, many = np.zeros(10, np.int8), np.broadcast_to(np.int8(0), (SOON,))
    floats = np.broadcast_to(np.float32(0), (4 * SOON,))
    assert effort_for("auto", [few, floats]) == "dense" and effort_for("auto", [few, many]) == "fast"
    assert effort_for("dense", [few, many]) == "dense" and effort_for("fast", [few]) == "fast"
    with pytest.raises(UsageError, match="'small'"):
        effort_for("small", [])


def test_it_competes_only_where_it_may():
    codes = related(np.random.default_rng(4), 100, 60)
    assert encode_array(codes)[0] == "rans" and encode_array(codes, "dense")[0] == "dense"
    assert encode_array(np.full((9, 9), 4), "dense")[0] == "rans", "what is constant needs no adaptive bits"
