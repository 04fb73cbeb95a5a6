"""Files whose arrays are not what a method writes are refused by name, before they ask for memory."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import opening, registry
from attar.archive import read_archive, to_bytes
from attar.errors import FormatError
from attar.methods.base import declined
from attar.types import Encoded
from kits.method_laws import problem

LAYER, WEIGHT, STATS = problem(12, 18, 3)
LIMIT = 64 << 20


def honest(name: str) -> Encoded:
    method = registry.get("method", name)
    assert declined(method, LAYER, STATS) is None
    *_, point = method.points(LAYER, WEIGHT, STATS, [1e-4], method.Params())
    return point.encoded


ENCODED = {name: honest(name) for name in registry.names("method")}
NUMBERS = (-1, 0, 1, 3, 7, 1 << 20, 1 << 40, -(1 << 62), 0.5, 1e30, 1e308, "x", None, [], True)


def outcome(encoded: Encoded, rows: int = 12, cols: int = 18) -> None:
    """Decoded to the layer's shape, or refused; in little memory either way."""
    layer = replace(LAYER, rows=rows, cols=cols, shape=(rows, cols))
    archive = read_archive(to_bytes(layers=[(layer, encoded)], remainder={}, skeleton=None, meta={}))
    tracemalloc.start()
    try:
        with np.errstate(all="ignore"):
            weight = opening.decode(archive, "layer")
        assert weight.matrix.shape == (rows, cols)
    except FormatError as error:
        assert "section 'layer'" in str(error) or "Received" in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < LIMIT


@pytest.mark.parametrize("name", registry.names("method"))
@given(st.data())
@settings(max_examples=30, deadline=None)
def test_arrays_that_do_not_fit(name, data) -> None:
    encoded = ENCODED[name]
    arrays, meta = dict(encoded.arrays), dict(encoded.meta)
    for _ in range(data.draw(st.integers(1, 2))):
        key = data.draw(st.sampled_from(sorted(arrays) + sorted(meta)))
        if key in meta:
            meta[key] = data.draw(st.sampled_from(NUMBERS))
            continue
        array = arrays[key]
        change = data.draw(st.sampled_from(("drop", "empty", "shape", "size", "values", "dtype", "axis")))
        if change == "drop" and len(arrays) > 1:
            del arrays[key]
        elif change == "values" and array.dtype.kind == "i":
            info = np.iinfo(array.dtype)
            arrays[key] = np.full_like(array, data.draw(st.integers(int(info.min), int(info.max))))
        elif change == "dtype":
            arrays[key] = array.astype(data.draw(st.sampled_from(("int8", "int64", "float32", "float16", "uint8"))))
        elif change == "axis":
            arrays[key] = array[None]
        elif change == "shape":
            arrays[key] = array.reshape(-1)
        elif change == "size":
            shape = [data.draw(st.sampled_from((1, 2, size, 3 * size, 1 << 9))) for size in array.shape]
            arrays[key] = np.ones(shape, array.dtype) if np.prod(shape) <= 1 << 18 else array[:1]
        elif change == "empty":
            arrays[key] = array[:0]
    outcome(Encoded(encoded.method, arrays, meta))


def test_long_thin_factors_are_no_bomb() -> None:
    """16,384 numbers on either side would be 1 GiB: the layer says so, and so do the arrays."""
    encoded = ENCODED["lowrank"]
    long = 1 << 14
    arrays = {
        "left.codes": np.ones((long, 1), np.int8), "left.rows": np.zeros(long, np.int16),
        "left.cols": np.zeros((1, 1), np.int16), "right.codes": np.ones((1, long), np.int8),
        "right.rows": np.zeros(1, np.int16), "right.cols": np.zeros((1, 1), np.int16),
    }  # fmt: skip
    outcome(Encoded("lowrank", arrays, encoded.meta))


def test_hashed_columns_are_no_bomb() -> None:
    encoded = ENCODED["hashed"]
    arrays = {**encoded.arrays, "rows": np.zeros(1 << 14, np.int16)}
    outcome(Encoded("hashed", arrays, {**encoded.meta, "width": 1 << 14}))
