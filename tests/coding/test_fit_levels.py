"""The choice of levels and of ranges of classes: native equals its twin, and the levels are worth their bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import _native as native
from attar.coding import fixed, levels, twin

MODULES = pytest.mark.parametrize("module", [native, twin], ids=["native", "twin"])


def random_symbols(seed, rows, cols, spread=0.7):
    """Around symbol 20, with a scale for every row and column; some of them empty."""
    rng = np.random.default_rng(seed)
    row, col = np.exp(rng.normal(0, spread, (rows, 1))), np.exp(rng.normal(0, spread, (1, cols)))
    row[rng.random(rows) < 0.05], col[:, rng.random(cols) < 0.05] = 0, 0
    return np.clip(np.rint(rng.laplace(0, 1, (rows, cols)) * row * col) + 20, 0, 255).astype(np.uint8)


def fit(module, symbols, by_row=True, by_column=True, rounds=8):
    rows, cols = (np.zeros(n, np.uint8) for n in symbols.shape)
    bits = module.fit_levels(symbols, 20, 256, by_row, by_column, rounds, rows, cols)
    return rows, cols, bits


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 2**32), st.integers(1, 120), st.integers(1, 120), st.floats(0, 3), st.booleans(), st.booleans(),
    st.integers(0, 9),
)  # fmt: skip
def test_native_equals_twin(seed, rows, cols, spread, by_row, by_column, rounds):
    symbols = random_symbols(seed, rows, cols, spread)
    results = [fit(module, symbols, by_row, by_column, rounds) for module in (native, twin)]
    for one, other in zip(*results, strict=True):
        assert (np.asarray(one) == np.asarray(other)).all()
    row, col, bits = results[0]
    assert row.max() <= levels.HIGHEST and col.max() <= levels.HIGHEST
    assert (by_row or (row == 1).all()) and (by_column or (col == 1).all())
    # Log2 is interpolated: the last digits may be in disorder.
    assert bits[3] <= bits[1] * 1.001 + 65536 <= bits[0] * 1.002 + 2 * 65536


@pytest.mark.parametrize("shape", [(3, 40_000), (40_000, 3)])
def test_long_lines_are_sampled_alike(shape):
    symbols = random_symbols(1, *shape)
    results = [fit(module, symbols) for module in (native, twin)]
    for one, other in zip(*results, strict=True):
        assert (np.asarray(one) == np.asarray(other)).all()


def test_levels_follow_the_scales():
    symbols = random_symbols(2, 300, 400)
    rows, cols, bits = fit(native, symbols)
    magnitude = np.abs(symbols.astype(int) - 20)
    for side, axis in ((rows, 1), (cols, 0)):
        mean = magnitude.mean(axis)
        assert (side[mean == 0] == 0).all() and (side[mean > 0] > 0).all()
        assert np.corrcoef(side[mean > 0], np.log(mean[mean > 0]))[0, 1] > 0.9
    assert bits[3] < 0.97 * min(bits[:3])


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32), st.integers(1, 57), st.integers(1, 200), st.sampled_from([0, 1, 50, 10**6]))
def test_merging_native_equals_twin(seed, classes, alphabet, most):
    counts = np.random.default_rng(seed).integers(0, most + 1, (classes, alphabet))
    tables = [np.zeros(classes, np.uint8) for _ in range(2)]
    numbers = [module.merge_classes(counts, of) for module, of in zip((native, twin), tables, strict=True)]
    assert numbers[0] == numbers[1] == tables[0].max() + 1
    assert (tables[0] == tables[1]).all() and (np.diff(tables[0].astype(int)) >= 0).all()


def test_fixed_logarithms_are_near():
    numbers = np.unique(np.concatenate([np.arange(1, 10_000), 2 ** np.arange(52), 3 * 5 ** np.arange(20)]))
    assert np.abs(fixed.log2_fixed(numbers) / fixed.ONE - np.log2(numbers)).max() < 2e-5


@MODULES
def test_histograms(module):
    # Those of small numbers around zero, as bytes, are at both ends; few or many lie outside of where most are.
    rng = np.random.default_rng(0)
    for count in (1, 10_007, 70_001):
        for spread in (0.2, 3, 12, 60):
            symbols = np.rint(rng.laplace(0, spread, count)).astype(np.int64).astype(np.uint8)
            counts = np.ones(256, np.int64)
            module.histogram(symbols, counts)
            assert (counts == 1 + np.bincount(symbols, minlength=256)).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 700), st.integers(0, 255), st.integers(1, 255))
def test_window_native_equals_twin(seed, count, low, width):
    values = np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)
    results = []
    for module in (native, twin):
        symbols = np.zeros(count, np.uint8)
        results.append((module.window(values, low, width, symbols), symbols.tolist()))
    assert results[0] == results[1]
    inside = (values.astype(int) - low) % 256 < width
    assert results[0][0] == (~inside).sum()
    assert (np.array(results[0][1])[inside] == (values[inside].astype(int) - low) % 256).all()


def test_what_does_not_fit_is_refused():
    symbols, rows, cols = np.zeros((3, 4), np.uint8), np.zeros(3, np.uint8), np.zeros(4, np.uint8)
    for change in ({"rows": cols}, {"zero": 256}, {"zero": -1}, {"size": 257}, {"symbols": symbols[:0]}):
        case = {"symbols": symbols, "zero": 0, "size": 256, "by_row": True, "by_column": True, "rounds": 1}
        case |= {"rows": rows, "cols": cols} | change
        with pytest.raises(ValueError, match="must fit"):
            native.fit_levels(**case)
    with pytest.raises(ValueError, match="negative"):
        native.merge_classes(np.full((2, 3), -1), np.zeros(2, np.uint8))
    for shape, mode in (((1, 3), 3), ((1, 3), -1), ((2, 3), 0)):
        with pytest.raises(ValueError, match="must"):
            native.fit_tables(
                np.ones((1, 3), np.int64), mode, False, np.zeros(shape, np.int32), np.zeros((1, 3), np.uint16)
            )
