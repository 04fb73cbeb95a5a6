"""From a matrix to the order of coding and back: the kernel equals its twin, and the twin equals plain indexing."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import _native as native
from attar.coding import levels, order, placing, twin
from coding.cases import random_order

MODULES = pytest.mark.parametrize("module", [native, twin], ids=["native", "twin"])
SIZES = st.tuples(st.integers(1, 40), st.sampled_from([1, 2, 17, 63, 64, 65, 127, 128, 129, 300, 1000]))


@settings(deadline=None, max_examples=120)
@given(
    st.integers(0, 2**32), SIZES, st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]), st.integers(-300, 300)
)
def test_there_and_back(seed, size, dtype, low):
    rows, columns, runs = random_order(seed, *size)
    source = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    collected = [np.empty(rows.size * size[1], np.uint8) for _ in range(2)]
    for module, symbols in zip((native, twin), collected, strict=True):
        module.collect(source, rows, columns, runs, symbols)
    assert (collected[0] == collected[1]).all()
    chunk = order.Chunk(rows, columns, runs, slice(0, size[1]))
    assert (source.ravel()[order.places(chunk, np.arange(chunk.size), size[1])] == collected[0]).all()
    out = np.full(size, 77, dtype)
    placing.place(collected[0], rows, columns, runs, low, out)
    expected = (source.astype(np.int64) + low).astype(dtype)
    expected[np.setdiff1d(np.arange(size[0]), rows)] = 77
    assert (out == expected).all()


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32), st.integers(1, 9), SIZES, st.sampled_from(["float32", "float16", "bfloat16"]))
def test_scaled_like_numpy(seed, groups, size, name):
    size = (size[0] * groups, size[1])
    rows, columns, runs = random_order(seed, *size)
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 256, size, dtype=np.uint8)
    symbols = np.empty(rows.size * size[1], np.uint8)
    twin.collect(source, rows, columns, runs, symbols)
    column = np.exp(rng.normal(0, 20, (groups, size[1]))).astype(np.float32)
    row = (np.exp(rng.normal(0, 20, size[0])) * rng.choice([-1, 1], size[0])).astype(np.float32)
    kind = np.dtype(getattr(ml_dtypes, name, name))
    with np.errstate(over="ignore", invalid="ignore"):
        exact = (source.astype(np.float32) - 100) * np.repeat(column, size[0] // groups, 0) * row[:, None]
        expected = exact.astype(kind)
    out = np.zeros((size[0], size[1] * kind.itemsize), np.uint8)
    placing.place_scaled(symbols, rows, columns, runs, -100, column, row, out, name)
    assert (out.view(f"u{kind.itemsize}")[rows] == expected.view(f"u{kind.itemsize}")[rows]).all()


@MODULES
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [0, 5]}, "outside the matrix"),
        ({"rows": [0, -1]}, "outside the matrix"),
        ({"columns": [0, 1, 1]}, "permutation"),
        ({"columns": [0, 1, 3]}, "permutation"),
        ({"runs": [[2, 2, 0]]}, "add up to the columns"),
        ({"runs": [[2, 2, 0], [2, 2, 0]]}, "add up to the columns"),
        ({"runs": [[1, 3, 0]]}, "add up to the rows"),
        ({"runs": [[2, 2, 0], [1, 1, 0]]}, "have its rows"),
        ({"runs": [[2, 3, 0], [0, 3, 0]]}, "have its rows"),
    ],
)
def test_refusals(module, change, message):
    case = {"rows": [0, 2], "columns": [2, 0, 1], "runs": [[2, 3, 0]], **change}
    rows, columns, runs = (np.array(case[name], np.int32) for name in ("rows", "columns", "runs"))
    with pytest.raises(ValueError, match=message):
        module.collect(np.zeros((3, 3), np.uint8), rows, columns, runs, np.zeros(6, np.uint8))
    with pytest.raises(ValueError, match=message):
        placing.place(np.zeros(6, np.uint8), rows, columns, runs, 0, np.zeros((3, 3), np.uint8))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32), st.integers(1, 400), st.integers(1, 200), st.integers(1, 9),
    st.sampled_from([3, 20, 70, 256]), st.floats(0.3, 40),
)  # fmt: skip
def test_counts_native_equals_twin(seed, rows, cols, highest, alphabet, spread):
    # Few rows of an alphabet are counted one by one, many by bins, but for what lies outside of them.
    rng = np.random.default_rng(seed)
    middle = rng.integers(0, alphabet)
    symbols = np.clip(np.rint(rng.laplace(middle, spread, (rows, cols))), 0, alphabet - 1).astype(np.uint8)
    row, col = (rng.integers(0, highest, n).astype(np.uint8) for n in (rows, cols))
    results = []
    for module in (native, twin):
        classes = np.zeros((int(row.max()) + int(col.max()) + 1, alphabet), np.int64)
        module.count_classes(symbols, row, col, classes)
        assert classes.sum() == symbols.size
        results.append(classes)
    assert (results[0] == results[1]).all()


@pytest.mark.parametrize("shape", [(3, 5), (500, 640)])
def test_symbols_beyond_the_counts_are_refused(shape):
    symbols, row, col = np.full(shape, 7, np.uint8), np.ones(shape[0], np.uint8), np.ones(shape[1], np.uint8)
    native.count_classes(symbols, row, col, np.zeros((3, 8), np.int64))
    for place in (0, symbols.size // 2, symbols.size - 1):
        wrong = symbols.copy()
        wrong.ravel()[place] = 8
        with pytest.raises(ValueError, match="beyond the counts"):
            native.count_classes(wrong, row, col, np.zeros((3, 8), np.int64))
    with pytest.raises(ValueError, match="must fit"):
        native.count_classes(symbols, row, col, np.zeros((3, 257), np.int64))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), SIZES, st.sampled_from([1, 32, 128]))
def test_rows_are_encoded_as_collected(seed, size, lanes):
    rows, columns, runs = random_order(seed, *size)
    rng = np.random.default_rng(seed)
    # The last row ends with the matrix: nothing beyond it may be read.
    source = np.minimum(rng.geometric(0.4, size) - 1, 8).astype(np.uint8)
    frequencies = np.full((5, 9), 400, np.uint16)
    frequencies[:, 0] = 4096 - 8 * 400
    symbols = np.empty(rows.size * columns.size, np.uint8)
    twin.collect(source, rows, columns, runs, symbols)
    expected = twin.encode(symbols, runs, twin.EncodeTables(frequencies), lanes)
    for module in (native, twin):
        assert module.encode_rows(source, rows, columns, runs, module.EncodeTables(frequencies), lanes) == expected
        with pytest.raises(ValueError, match="outside the matrix"):
            module.encode_rows(source, rows + size[0], columns, runs, module.EncodeTables(frequencies), lanes)


@pytest.mark.parametrize("even", [False, True])
def test_places_take_their_turns(even):
    rng = np.random.default_rng(0)
    for shape in ((1, 50), (7, 9), (3000, 700), (2, order.CHUNK + 5)):
        given_levels = levels.flat(shape)
        if shape[0] > 1:
            given_levels = levels.Levels(*(rng.integers(0, 6, n).astype(np.uint8) for n in shape))
        table_of = np.sort(rng.integers(0, 4, given_levels.classes)).astype(np.uint8)
        chosen = np.sort(rng.choice(shape[0] * shape[1], 40, replace=False))
        found = [order.places(c, np.arange(c.size), shape[1]) for c in order.chunks(given_levels, table_of, even)]
        coded = np.concatenate(found)
        assert (chosen[order.turns(given_levels, table_of, even, chosen)] == coded[np.isin(coded, chosen)]).all()


@pytest.mark.parametrize("even", [False, True])
def test_chunks_cover_the_matrix_once(even):
    rng = np.random.default_rng(0)
    for shape in ((1, 5), (1, 2 * order.CHUNK + 1), (7, 9), (3000, 700), (2, order.CHUNK + 5)):
        given_levels = levels.flat(shape)
        if shape[0] > 1:
            given_levels = levels.Levels(*(rng.integers(0, 6, n).astype(np.uint8) for n in shape))
        table_of = (
            np.sort(rng.integers(0, 4, given_levels.classes)).astype(np.uint8)
            if shape[0] > 1
            else np.zeros(3, np.uint8)
        )
        seen = np.zeros(shape[0] * shape[1], np.uint8)
        chunks = list(order.chunks(given_levels, table_of, even))
        assert not even or min(shape) == 1 or len(chunks) in (1, 2, 4, 6)
        for chunk in chunks:
            places = order.places(chunk, np.arange(chunk.size), shape[1])
            seen[places] += 1
            table = np.repeat(chunk.runs[:, 2], chunk.runs[:, 0] * chunk.runs[:, 1])
            row, col = np.divmod(places, shape[1])
            level = given_levels.rows[row].astype(int) + given_levels.cols[col]
            level[(given_levels.rows[row] == 0) | (given_levels.cols[col] == 0)] = 0
            assert (table == table_of[level]).all()
        assert (seen == 1).all()
