"""The code of a static array: the kernel chooses and writes what its twin does, and refuses what is not a matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import _native as native
from attar.coding import choosing, kernel, order, symbols, twin


def matrix(seed, shape, scale, spread):
    """Int8 codes with a scale for every row and column, some of them empty, and those beyond 127 clipped."""
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.normal(0, spread, (shape[0], 1)) + rng.normal(0, spread, (1, shape[1])))
    live = rng.random((shape[0], 1)) < 0.9
    return np.clip(np.rint(rng.laplace(0, scale, shape) * scales * live), -128, 127).astype(np.int8)


def arguments(codes, low, width, escape, laned=False, threads=1):
    """What StaticCode takes: codes, the window's shift, lowest value and width, how often each symbol occurs."""
    counted = symbols.counted(codes.ravel())
    return codes.view(np.uint8), low % 256, low, width, escape, counted.distinct, counted.counts, laned, threads


def written(code):
    """All that comes of a code."""
    places = np.full(code.escapes, -1, np.int64)
    code.places(places)
    return code.sides, code.bits, code.side, places.tolist(), code.join(b"head")


@pytest.fixture
def numpy_only(monkeypatch):
    """The twin over the numpy kernel, whatever the extension is."""
    monkeypatch.setattr(kernel, "kernel", lambda: twin)
    return choosing.StaticCode


CASES = st.tuples(
    st.integers(0, 2**32), st.integers(1, 70), st.integers(1, 90), st.sampled_from([0.05, 0.7, 6, 60]),
    st.sampled_from([0, 0.3, 1]),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(CASES, st.sampled_from([None, (-2, 4), (-1, 3), (-60, 100), (5, 9)]), st.booleans())
def test_native_equals_twin(case, window, laned):
    seed, rows, cols, scale, spread = case
    codes = matrix(seed, (rows, cols), scale, spread)
    low, high = int(codes.min()), int(codes.max())
    escape = window is not None or high - low > 254
    given_ = arguments(codes, *(window or (low, min(high - low + 1, 255))), escape, laned)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "kernel", lambda: twin)
        expected = written(choosing.StaticCode(*given_))
    assert written(native.StaticCode(*given_)) == expected


@pytest.mark.parametrize("shape", [(1, order.CHUNK + 9), (1300, 900), (2, order.CHUNK // 2 + 7)])
def test_chunks_and_threads(shape, numpy_only):
    codes = matrix(3, shape, 1.5, 0.4)
    texts = [written(native.StaticCode(*arguments(codes, -3, 7, True, threads=threads))) for threads in (1, 3)]
    assert texts[0] == texts[1]
    given_ = arguments(codes, -3, 7, True)
    assert texts[0][2:4] == written_head(numpy_only(*given_))
    outside = np.flatnonzero((codes < -3) | (codes > 3))
    assert sorted(texts[0][3]) == outside.tolist() and outside.size > 100


def written_head(code):
    """Side information and places: the numpy kernel takes minutes for the chunks."""
    places = np.empty(code.escapes, np.int64)
    code.places(places)
    return code.side, places.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: np.zeros((0, 5), np.uint8)}, "must not be empty"), ({3: 0}, "1 to 255 values"),
        ({3: 256}, "1 to 255 values"), ({6: np.array([3, 3])}, "must have its count"),
        ({5: np.zeros(0, np.int64), 6: np.zeros(0, np.int64)}, "must have its count"),
        ({5: np.array([1, 0]), 6: np.array([3, 3])}, "must ascend"), ({6: np.array([7])}, "add up"),
        ({6: np.array([0])}, "add up"), ({5: np.array([1])}, "probability zero"),
        ({3: 1, 4: False, 5: np.array([1])}, "those of the window"),
    ],
)  # fmt: skip
def test_refusals(change, message):
    given_ = list(arguments(np.zeros((2, 3), np.int8), 0, 3, True))
    for place, value in change.items():
        given_[place] = value
    with pytest.raises(ValueError, match=message):
        native.StaticCode(*given_)


VALUES = st.lists(
    st.tuples(st.integers(-(2**63), 2**63 - 1) | st.integers(-400, 400), st.sampled_from([1, 2, 9, 700, 10**6])),
    min_size=1, max_size=90, unique_by=lambda one: one[0],
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(VALUES, st.sampled_from([0, 1, 64]))
def test_windows_native_equals_twin(found, price):
    values, counts = (np.array(part) for part in zip(*sorted(found), strict=True))
    low, width, escape = native.choose_window(values, counts, price)
    assert (low, width, escape) == twin.choose_window(values, counts, price)
    assert 1 <= width <= 255 and escape == (int(values[0]) < low or int(values[-1]) >= low + width)


@pytest.mark.parametrize(
    ("values", "counts", "price", "message"),
    [
        ([1, 1], [2, 2], 0, "ascend"), ([], [], 0, "its count"), ([1], [2, 2], 0, "its count"), ([1], [0], 0, "add up"),
        ([1], [2], -1, "price"), ([1], [2], 65, "price"), ([0, 1], [2**36, 1], 0, "add up"),
    ],
)  # fmt: skip
def test_window_refusals(values, counts, price, message):
    with pytest.raises(ValueError, match=message):
        native.choose_window(np.array(values, np.int64), np.array(counts, np.int64), price)


def test_places_must_fit():
    code = native.StaticCode(*arguments(np.array([[0, 0, 7]], np.int8), 0, 2, True))
    assert code.escapes == 1
    with pytest.raises(ValueError, match="every escape"):
        code.places(np.empty(2, np.int64))
