"""The rans coder: any integers come back, forms are chosen by size, and matrices stay near their ideal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attar import entropy
from attar.coding import kernel, levels, order, rans, symbols
from attar.coding.rans import Rans
from attar.errors import FormatError
from kits.coder_laws import same


def scaled(seed, rows, cols, rate, spread=0.6):
    """A Laplacian matrix with a scale for every row and column."""
    rng = np.random.default_rng(seed)
    scale = rate * np.exp(rng.normal(0, spread / 2, (rows, 1))) * np.exp(rng.normal(0, spread, (1, cols)))
    return np.rint(rng.laplace(0, 1, (rows, cols)) * scale).astype(np.int32)


def back(array):
    data = Rans.encode(array)
    assert same(Rans.decode(data, array.dtype.name, array.shape), array)
    return data


INTEGERS = hnp.arrays(
    hnp.integer_dtypes(endianness="=") | hnp.unsigned_integer_dtypes(endianness="=") | hnp.boolean_dtypes(),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=30),
)


@settings(deadline=None, max_examples=150)
@given(INTEGERS)
def test_any_integers(array):
    back(array)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 90), st.integers(1, 90), st.floats(0.02, 40), st.integers(0, 5))
def test_peaked_matrices_with_outliers(seed, rows, cols, rate, outliers):
    array = scaled(seed, rows, cols, rate).astype(np.int64)
    rng = np.random.default_rng(seed)
    for _ in range(outliers):
        array[rng.integers(rows), rng.integers(cols)] = rng.integers(-(2**62), 2**62) >> int(rng.integers(0, 60))
    back(array)


EDGES = [
    np.array([-(2**63), 2**63 - 1]), np.array([2**63, 0, 2**64 - 1], np.uint64), np.array([2**64 - 1] * 3, np.uint64),
    np.array([-(2**31), 2**31 - 1] * 2500 + [0], np.int32), np.arange(70_000) * 7_000_003 - 2**38,
    np.repeat([0, 2**63, 5], 3000).astype(np.uint64), np.array([True] * 9000 + [False]),
]  # fmt: skip


@pytest.mark.parametrize("array", EDGES, ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_edges(array):
    back(array)


@pytest.mark.parametrize(
    ("array", "size"),
    [
        (np.zeros(1_000_000, np.int8), 2),
        (np.array([5]), 2),
        (np.full((300, 40), -3, np.int32), 2),
        (np.array([1, 2, 3]), 4),
        (np.array([0, 0, 1, 0, -1, 0, 0, 2, 0, 0]), 7),
        (np.arange(100) // 10, 14),
    ],
)
def test_small_arrays_are_small(array, size):
    assert len(back(array)) <= size


@pytest.mark.parametrize(
    ("rows", "cols", "rate"),
    [(10, 100, 1.5), (100, 300, 0.4), (300, 784, 0.2), (16, 144, 0.6), (64, 576, 0.5), (500, 800, 0.1)],
)
def test_matrices_are_near_their_ideal(rows, cols, rate):
    codes = scaled(0, rows, cols, rate)
    size = len(back(codes))
    row, column = entropy.levels(codes)
    with_levels = entropy.ideal_bits(codes, entropy.classes(row, column)) + sum(
        entropy.ideal_bits(side, None) for side in (row, column)
    )
    order0 = entropy.ideal_bits(codes, None)
    assert 8 * size <= 1.01 * min(with_levels, order0) + 8 * 12


def test_sides_are_used_where_they_help():
    rng = np.random.default_rng(0)
    base = rng.laplace(0, 0.5, (200, 300))
    scale = np.exp(rng.normal(0, 1.2, 200))
    forms = {}
    for name, matrix in {
        "none": base, "rows": base * scale[:, None], "cols": base.T * scale[None, :],
        "both": base * scale[:, None] * np.exp(rng.normal(0, 1.2, 300)),
    }.items():  # fmt: skip
        forms[name] = back(np.rint(matrix).astype(np.int16))[0] - rans.STATIC
    assert forms["none"] == 0 and forms["rows"] & 1 and forms["cols"] & 2 and forms["both"] & 3 == 3


def test_empty_lines_cost_next_to_nothing():
    codes = scaled(1, 200, 300, 0.5)
    dense = len(back(codes))
    wide = np.zeros((400, 600), np.int32)
    wide[::2, ::2] = codes
    assert len(back(wide)) < dense + 110


def test_large_arrays_are_chunked_and_threads_do_not_matter(monkeypatch):
    codes = scaled(2, 1100, 2000, 0.3)
    assert codes.size > 2 * order.CHUNK
    texts = []
    for threads in ("1", "4"):
        monkeypatch.setenv("ATTAR_THREADS", threads)
        assert kernel.threads() == int(threads)
        texts.append(back(codes))
    assert texts[0] == texts[1]


def test_escapes_are_few_and_cheap():
    codes = scaled(3, 100, 300, 0.5)
    plain = len(back(codes))
    codes[3, 4], codes[50, 60] = 100_000, -2_000_000_000
    assert symbols.choose(symbols.counted(codes.astype(np.int64).ravel())).escape
    assert len(back(codes)) < plain + 40


def test_merging_keeps_counts_and_order():
    counts = np.array([[50, 0, 0], [900, 9, 2], [880, 10, 1], [0, 0, 0], [100, 90, 80]])
    table_of, merged = levels.merged(counts)
    assert table_of.tolist() == sorted(table_of.tolist()) and table_of[1] == table_of[2] and table_of[4] > table_of[2]
    for table in range(len(merged)):
        assert (merged[table] == counts[table_of == table].sum(0)).all()


@pytest.mark.parametrize(
    ("data", "dtype", "shape", "message"),
    [
        (b"\x13\x00", "int8", (4,), "form must be"),
        (b"\x00\xff\x7f", "int8", (4,), "an array of 4 int8"),
        (b"\x00\x01", "uint8", (4,), "those of the array's integers"),
        (b"\x00\x04", "bool", (4,), "those of the array's integers"),
        (b"\x01\x00\x00", "int8", (4,), "1 to 64 bits"),
        (b"\x01\x00\x41" + b"\0" * 33, "int64", (4,), "1 to 64 bits"),
        (b"\x02\x00", "int8", (5000,), "up to 4096 values"),
        (b"", "int8", (4,), "lengths must add up"),
        (b"\x00\x00\x00", "int8", (4,), "lengths must add up"),
        (b"\x00", "int8", (0,), "1 too many"),
    ],
)
def test_refusals(data, dtype, shape, message):
    with pytest.raises(FormatError, match=message):
        Rans.decode(data, dtype, shape)


def test_huge_counts_of_levels_are_refused_before_they_are_read():
    data = Rans.encode(scaled(4, 60, 70, 0.5))
    with pytest.raises(FormatError):
        Rans.decode(data, "int32", (60, 71))


def test_fuzz():
    """Thousands of mutations: an array of the stated shape, or a FormatError."""
    rng = np.random.default_rng(7)
    texts = [
        (Rans.encode(a), a)
        for a in (scaled(5, 30, 40, 0.5), scaled(6, 1, 300, 3.0), np.arange(9), scaled(7, 50, 3, 300))
    ]
    refused = 0
    for round_ in range(2500):
        data, array = texts[round_ % len(texts)]
        wrong = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(0, min(len(wrong), 60 if round_ % 2 else len(wrong))))
            action = rng.integers(0, 4)
            if action == 0:
                wrong[place] ^= 1 << int(rng.integers(0, 8))
            elif action == 1:
                wrong[place] = int(rng.integers(0, 256))
            elif action == 2 and len(wrong) > 2:
                del wrong[place]
            else:
                wrong.insert(place, int(rng.integers(0, 256)))
        try:
            assert Rans.decode(bytes(wrong), array.dtype.name, array.shape).shape == array.shape
        except FormatError:
            refused += 1
    assert refused > 1500
