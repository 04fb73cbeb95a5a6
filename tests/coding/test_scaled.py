"""Decoding straight into floats gives what decoding and then scaling gives."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import opening, registry
from attar.archive import read_archive, to_bytes
from attar.coding import decode_scaled, encode_array
from attar.coding.rans import STATIC, Rans
from attar.errors import FormatError
from attar.types import Layer, Stats, Weight

FORMATS = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def matrix(rng, shape, scale):
    spread = np.exp(rng.normal(0, 1, (shape[0], 1)) + rng.normal(0, 1, (1, shape[1])))
    return np.rint(rng.laplace(0, scale, shape) * spread).astype(np.int32)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 60), st.integers(1, 90), st.sampled_from([0.01, 0.5, 30]),
    st.sampled_from(list(FORMATS)), st.booleans(),
)  # fmt: skip
def test_equal_to_decoding_and_scaling(seed, groups, rows, cols, scale, name, outliers):
    rng = np.random.default_rng(seed)
    codes = matrix(rng, (groups * rows, cols), scale)
    if outliers:
        codes.ravel()[rng.integers(0, codes.size, 3)] = [70_000, -(2**30), 2**31 - 1]
    row = np.exp(rng.normal(0, 3, groups * rows)).astype(np.float32)
    column = np.exp(rng.normal(0, 3, (groups, rng.choice([1, cols])))).astype(np.float32)
    with np.errstate(over="ignore"):
        exact = codes.astype(np.float32) * np.repeat(column, rows, 0) * row[:, None]
        expected = exact.astype(FORMATS[name])
    for coder, data in {("rans", Rans.encode(codes)), encode_array(codes)}:
        found = decode_scaled(coder, data, "int32", codes.shape, row, column, name)
        assert found.dtype == expected.dtype and found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("groups", [1, 2])
def test_large_matrices_in_several_chunks(groups):
    rng = np.random.default_rng(0)
    codes = matrix(rng, (1500, 900), 0.4)
    codes[700, 800] = 5000
    data = Rans.encode(codes)
    assert data[0] in (STATIC + 3, STATIC + 7)
    row, column = np.exp(rng.normal(0, 1, 1500)).astype(np.float32), rng.random((groups, 900)).astype(np.float32)
    found = decode_scaled("rans", data, "int32", codes.shape, row, column)
    assert (found == codes.astype(np.float32) * np.repeat(column, 1500 // groups, 0) * row[:, None]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float32"}, "go with an integer matrix"), ({"shape": (6000,)}, "go with an integer matrix"),
        ({"shape": (50, 120)}, "go with an integer matrix"), ({"row": np.ones(59, np.float32)}, "go with an integer"),
        ({"column": np.ones((7, 100), np.float32)}, "divide into the groups"),
        ({"column": np.ones((0, 100), np.float32)}, "divide into the groups"), ({"coder": "gone"}, "coder must be"),
        ({"data": b"\7"}, "Received"), ({"data": b""}, "Received"),
    ],
)  # fmt: skip
def test_refusals(change, message):
    codes = matrix(np.random.default_rng(0), (60, 100), 0.5)
    case = {
        "coder": "rans", "data": Rans.encode(codes), "dtype": "int32", "shape": (60, 100),
        "row": np.ones(60, np.float32), "column": np.ones((2, 100), np.float32),
    }  # fmt: skip
    decode_scaled(**case)
    with pytest.raises(FormatError, match=message):
        decode_scaled(**{**case, **change})


def test_layers_of_archives_take_it():
    rng = np.random.default_rng(0)
    layer = Layer("fc", "conv", 64, 90, (64, 10, 3, 3), groups=4, has_bias=True)
    weight = Weight(rng.laplace(0, 0.05, (64, 90)).astype(np.float32), rng.normal(size=64).astype(np.float32))
    stats = Stats(np.stack([np.eye(90)] * 4), np.zeros((4, 90)), 4000, 4000, np.ones(64))
    method = registry.get("method", "uniform")
    encoded = method.encode(layer, weight, stats, {"method": "uniform", "slope": 1e-4})
    archive = read_archive(to_bytes(layers=[(layer, encoded)], remainder={}, skeleton=None, meta={}))
    found, expected = opening.decode(archive, "fc"), method.decode(encoded)
    assert found.matrix.tobytes() == expected.matrix.tobytes() and found.bias.tobytes() == expected.bias.tobytes()
    with pytest.raises(FormatError, match="must have an array 'odd'"):
        archive.scaled("fc", "odd", np.ones(64, np.float32), np.ones((4, 90), np.float32))
