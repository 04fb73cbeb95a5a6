"""A static array from its bytes: the kernel equals its twin, whatever the bytes, the dtype and the threads."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import _native as native
from attar.coding import order, twin
from attar.coding.rans import static_code
from attar.errors import FormatError

MODULES = pytest.mark.parametrize("module", [native, twin], ids=["native", "twin"])
INTEGERS = st.sampled_from([np.int8, np.uint16, np.int32, np.int64])


def matrix(seed, shape, scale=0.7, outliers=0):
    """Codes with a scale for every row and column, some of them empty, and a few far outside."""
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.normal(0, 0.8, (shape[0], 1)) + rng.normal(0, 0.8, (1, shape[1])))
    codes = np.rint(rng.laplace(0, scale, shape) * spread * (rng.random((shape[0], 1)) < 0.9)).astype(np.int64)
    codes.ravel()[rng.integers(0, codes.size, outliers)] = 3000
    return codes


def written(codes):
    """Side information, chunks, both sides' use, the alphabet and the number of escapes."""
    alphabet, code = static_code(codes)
    return code.side, code.join(b""), tuple(bool(code.sides & bit) for bit in (1, 2, 4)), alphabet, code.escapes


def array(data):
    return memoryview(data).cast("B")


def read(module, codes, text, dtype=np.int64, threads=1):
    """The matrix with the escape's symbol where it was escaped, and the places of the escapes."""
    side, chunks, sides, _, escapes = text
    plan = module.StaticPlan(array(side), *codes.shape, *sides)
    out = np.full(codes.shape, 77, dtype)
    places = np.full(escapes, -1, np.int64)
    plan.decode(array(chunks), out.view(np.uint8), places, threads)
    return out, places


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 2**32), st.integers(1, 90), st.integers(1, 200), st.sampled_from([0.05, 0.7, 30]), st.integers(0, 4),
    INTEGERS, st.integers(1, 3),
)  # fmt: skip
def test_native_equals_twin(seed, rows, cols, scale, outliers, dtype, threads):
    codes = matrix(seed, (rows, cols), scale, outliers)
    text = written(codes)
    results = [read(module, codes, text, dtype, threads) for module in (native, twin)]
    for out, places in results:
        inside = np.ones(codes.size, bool)
        inside[places] = False
        assert (out.ravel()[inside] == codes.ravel()[inside].astype(dtype)).all()
        assert np.unique(places).size == places.size == text[4]
    assert (results[0][0] == results[1][0]).all() and (results[0][1] == results[1][1]).all()


@pytest.mark.parametrize("chunks", [2, 3, 4, 5])
def test_chunks_two_at_a_time(chunks):
    """Their runs differ: rows of zeros have a table of one symbol, and rows of some levels are few."""
    shape = (chunks * order.CHUNK // 700 - 9, 700)
    for share in (0.02, 0.6):
        codes = matrix(chunks, shape, 0.7, outliers=30)
        codes[np.random.default_rng(chunks).random(shape[0]) < share] = 0
        text = written(codes)
        results = [read(module, codes, text, np.int8) for module in (native, twin)]
        np.testing.assert_array_equal(results[0][0], results[1][0])
        np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize(
    "shape", [(1, 2 * order.CHUNK + 77), (3000, 400), (2, order.CHUNK + 5), (700, 4500), (520, 1030)]
)
def test_several_chunks_on_several_threads(shape):
    codes = matrix(1, shape, 0.3, 9)
    text = written(codes)
    for dtype in (np.int8, np.int16, np.int32, np.int64):
        results = [read(native, codes, text, dtype, threads) for threads in (1, 3)]
        places = results[0][1]
        expected = codes.astype(dtype)
        assert (places == results[1][1]).all()
        for out, _ in results:
            out.ravel()[places] = expected.ravel()[places]
            assert (out == expected).all()


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 2**32), st.integers(1, 5), st.integers(2, 40), st.sampled_from([2, 63, 64, 129, 300]),
    st.sampled_from(["float32", "float16", "bfloat16"]), st.booleans(),
)  # fmt: skip
def test_scaled_like_numpy(seed, groups, rows, cols, name, permuted):
    codes = matrix(seed, (groups * rows, cols), 0.7 if permuted else 0.01)
    side, chunks, sides, _, escapes = written(codes)
    rng = np.random.default_rng(seed)
    column = np.exp(rng.normal(0, 20, (groups, cols))).astype(np.float32)
    row = (np.exp(rng.normal(0, 20, len(codes))) * rng.choice([-1, 1], len(codes))).astype(np.float32)
    kind = np.dtype(getattr(ml_dtypes, name, name))
    with np.errstate(over="ignore", invalid="ignore"):
        exact = codes.astype(np.float32) * np.repeat(column, rows, 0) * row[:, None]
        expected = exact.astype(kind).view(f"u{kind.itemsize}")
    for module in (native, twin):
        plan = module.StaticPlan(array(side), *codes.shape, *sides)
        out = np.zeros((len(codes), cols * kind.itemsize), np.uint8)
        places = np.zeros(escapes, np.int64)
        plan.decode_scaled(array(chunks), column, row, out, name, places, 2)
        found = out.view(f"u{kind.itemsize}")
        found.ravel()[places] = expected.ravel()[places]
        assert (found == expected).all()


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_rounding(name):
    kind = np.dtype(getattr(ml_dtypes, name, name))
    rng = np.random.default_rng(0)
    bits = np.concatenate([
        rng.integers(0, 2**32, 200_000, dtype=np.uint32), np.arange(0x33000000, 0x33900000, 97, dtype=np.uint32),
        np.arange(0x387FE000, 0x38801000, dtype=np.uint32), np.arange(0x477FE000, 0x47801000, dtype=np.uint32),
    ])  # fmt: skip
    values = bits.view(np.float32)
    values = values[np.isfinite(values)][None]
    codes = np.ones(values.shape, np.int64)
    codes[0, 0] = 0
    side, chunks, sides, _, _ = written(codes)
    out = np.zeros((1, 2 * values.size), np.uint8)
    plan = native.StaticPlan(array(side), *codes.shape, *sides)
    plan.decode_scaled(array(chunks), values, np.ones(1, np.float32), out, name, np.zeros(0, np.int64), 1)
    with np.errstate(over="ignore"):
        expected = values.astype(kind).view(np.uint16)
    assert (out.view(np.uint16)[0, 1:] == expected[0, 1:]).all()


def outcome(module, codes, text):
    """What is read, or that it is refused."""
    try:
        return [part.tobytes() for part in read(module, codes, text)]
    except (ValueError, FormatError):
        return "refused"


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32), st.booleans(), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3))
def test_any_bytes_are_refused_alike(seed, in_side, changes):
    codes = matrix(seed % 5, (30, 40), 0.7, seed % 3)
    text = list(written(codes))
    wrong = bytearray(text[0 if in_side else 1])
    for place, value in changes:
        wrong[int(place * (len(wrong) - 1))] = value
    text[0 if in_side else 1] = bytes(wrong)
    assert outcome(native, codes, text) == outcome(twin, codes, text)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.booleans(), st.booleans())
def test_noise_is_refused_alike(side, rows, cols, by_row, by_column, streams):
    codes = np.zeros((rows, cols), np.int64)
    assert (
        len({str(outcome(m, codes, (side, b"\0", (by_row, by_column, streams), None, 0))) for m in (native, twin)}) == 1
    )


def test_cut_chunks_are_refused():
    codes = matrix(2, (1500, 800))
    side, chunks, *rest = written(codes)
    for module in (native, twin):
        for wrong in (
            b"",
            chunks[:1],
            chunks[:-1],
            chunks[: len(chunks) // 2],
            b"\xff" * 9,
            b"\xff" * 9 + b"\x7f" + chunks,
        ):
            assert outcome(module, codes, (side, wrong, *rest)) == "refused"


@MODULES
@pytest.mark.parametrize("escapes", [0, 1, 3])
def test_escapes_must_have_their_places(module, escapes):
    codes = np.clip(matrix(3, (50, 60)), -4, 4)
    codes[3, 4], codes[20, 30] = 3000, -70_000
    text = written(codes)
    assert text[4] == 2 and sorted(read(module, codes, text)[1].tolist()) == [3 * 60 + 4, 20 * 60 + 30]
    with pytest.raises(ValueError, match="every escape must have its value"):
        read(module, codes, (*text[:4], escapes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": np.zeros((49, 60), np.uint8)}, "out must be the matrix"),
        ({"out": np.zeros((50, 61), np.uint8)}, "out must be the matrix"),
        ({"out": np.zeros((50, 59), np.uint8)}, "1, 2, 4 or 8 bytes"),
        ({"out": np.zeros((50, 180), np.uint8)}, "1, 2, 4 or 8 bytes"),
        ({"out": np.zeros(50 * 120 + 1, np.uint8)[1:].reshape(50, 120)}, "out must be aligned"),
        ({"row": np.zeros(49, np.float32)}, "fit the matrix"), ({"format": "float8"}, "the format must be"),
        ({"column": np.zeros((1, 61), np.float32)}, "fit the matrix"),
        ({"column": np.zeros((3, 60), np.float32)}, "divide into the groups"),
        ({"column": np.zeros((0, 60), np.float32)}, "divide into the groups"),
        ({"scaled": np.zeros((50, 120), np.uint8)}, "out must be the matrix"),
    ],
)  # fmt: skip
def test_the_kernel_checks_sizes(change, message):
    codes = np.clip(matrix(4, (50, 60)), -9, 9)
    side, chunks, sides, *_ = written(codes)
    plan = native.StaticPlan(array(side), 50, 60, *sides)
    case = {
        "out": np.zeros((50, 60), np.uint8), "scaled": np.zeros((50, 240), np.uint8), "row": np.zeros(50, np.float32),
        "column": np.zeros((2, 60), np.float32), "format": "float32", **change,
    }  # fmt: skip
    none = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match=message):
        plan.decode(array(chunks), case["out"], none, 1)
        plan.decode_scaled(array(chunks), case["column"], case["row"], case["scaled"], case["format"], none, 1)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (2**31, 2), (2, 2**31)])
def test_the_kernel_refuses_shapes_it_cannot_index(shape):
    with pytest.raises(ValueError, match="the matrix must"):
        native.StaticPlan(array(b"\1"), *shape, False, False, False)
