"""The kernel and its twin: the same bytes, the same refusals, the same result on every path."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.coding import kernel, twin
from attar.errors import FormatError

native = pytest.importorskip("attar._native", reason="the extension is not built")
EMPTY = np.zeros(0, np.uint8)


def tables_for(symbols, contexts, tables, alphabet):
    """Frequencies that give every symbol a share."""
    result = np.ones((tables, alphabet), np.int64)
    index = contexts if contexts.size else np.zeros(symbols.size, np.int64)
    np.add.at(result, (index, symbols), 1)
    result = np.maximum(1, result * 3500 // result.sum(1, keepdims=True))
    result[np.arange(tables), result.argmax(1)] += 4096 - result.sum(1)
    return result.astype(np.uint16)


def random_case(seed, count, tables, alphabet):
    rng = np.random.default_rng(seed)
    symbols = np.minimum(rng.geometric(0.4, count) - 1, alphabet - 1).astype(np.uint8)
    contexts = rng.integers(0, tables, count).astype(np.uint8) if tables > 1 else EMPTY
    return symbols, contexts, tables_for(symbols, contexts, tables, alphabet)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32), st.integers(0, 700), st.integers(1, 5), st.integers(1, 256),
    st.sampled_from([1, 2, 4, 8, 16, 32]),
)  # fmt: skip
def test_native_equals_twin(seed, count, tables, alphabet, lanes):
    symbols, contexts, frequencies = random_case(seed, count, tables, alphabet)
    data = native.encode(symbols, contexts, frequencies, lanes)
    assert data == twin.encode(symbols, contexts, frequencies, lanes)
    for module in (native, twin):
        out = np.empty(count, np.uint8)
        module.decode(np.frombuffer(data, np.uint8), out, contexts, frequencies, lanes)
        assert (out == symbols).all()


@pytest.mark.parametrize("lanes", [1, 8, 16, 32])
def test_long_chunks(lanes):
    symbols, contexts, frequencies = random_case(1, 100_003, 3, 20)
    data = native.encode(symbols, contexts, frequencies, lanes)
    counts = np.zeros(frequencies.shape)
    np.add.at(counts, (contexts, symbols), 1)
    ideal = -(counts * np.log2(frequencies / 4096)).sum() / 8
    assert len(data) <= ideal * 1.0005 + 3.5 * lanes + 4
    out = np.empty_like(symbols)
    native.decode(np.frombuffer(data, np.uint8), out, contexts, frequencies, lanes)
    assert (out == symbols).all()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 10])
def test_one_lane_costs_two_bytes_at_most(count):
    frequencies = np.array([[2048, 1024, 1024]], np.uint16)
    symbols = np.full(count, 1, np.uint8)
    assert len(native.encode(symbols, EMPTY, frequencies, 1)) <= 2 * count / 8 + 2


@pytest.mark.parametrize("module", [native, twin], ids=["native", "twin"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 3}, "lanes"),
        ({"lanes": 64}, "lanes"),
        ({"lanes": 0}, "lanes"),
        ({"frequencies": np.zeros((1, 4), np.uint16)}, "sum to 4096"),
        ({"frequencies": np.zeros((0, 4), np.uint16)}, "1 to 64 tables"),
        ({"frequencies": np.full((65, 1), 4096, np.uint16)}, "1 to 64 tables"),
        ({"frequencies": np.zeros((1, 0), np.uint16)}, "alphabet"),
        ({"frequencies": np.full((1, 512), 8, np.uint16)}, "alphabet"),
        ({"contexts": np.zeros(3, np.uint8)}, "one context for each"),
        ({"contexts": np.full(4, 1, np.uint8)}, "does not exist"),
        ({"symbols": np.array([0, 1, 2, 3], np.uint8)}, "probability zero"),
        ({"symbols": np.array([0, 1, 2, 200], np.uint8)}, "probability zero"),
    ],
)
def test_refusals(module, change, message):
    case = {
        "symbols": np.array([0, 1, 0, 2], np.uint8), "contexts": EMPTY,
        "frequencies": np.array([[2048, 1024, 1024, 0]], np.uint16), "lanes": 1,
    }  # fmt: skip
    data = np.frombuffer(module.encode(*case.values()), np.uint8)
    case.update(change)
    with pytest.raises(ValueError, match=message):
        module.encode(*case.values())
    if "symbols" not in change:
        with pytest.raises(ValueError, match=message):
            module.decode(data, np.empty(4, np.uint8), *list(case.values())[1:])


@pytest.mark.parametrize("module", [native, twin], ids=["native", "twin"])
@pytest.mark.parametrize("lanes", [1, 8, 32])
def test_cut_or_altered_chunks_are_refused(module, lanes):
    symbols, contexts, frequencies = random_case(3, 999, 2, 9)
    data = module.encode(symbols, contexts, frequencies, lanes)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 4
    refused = 0
    wrongs = [data[:k] for k in range(0, len(data), 7)] + [data + b"\0", data + b"\0\0", bytes(flipped)]
    for wrong in wrongs:
        out = np.empty_like(symbols)
        try:
            module.decode(np.frombuffer(wrong, np.uint8), out, contexts, frequencies, lanes)
        except ValueError as error:
            refused += 1
            assert "cut short" in str(error) or "where they began" in str(error)
        else:
            assert lanes == 1 and (out != symbols).any()
    # One lane ends at 0, where some wrong texts arrive by chance; several lanes end at 2**16 all at once.
    assert refused >= len(wrongs) - (3 if lanes == 1 else 0)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300), st.integers(0, 400), st.sampled_from([1, 2, 8, 16, 32]))
def test_any_bytes_are_refused_alike(data, count, lanes):
    _, contexts, frequencies = random_case(5, count, 3, 7)
    results = []
    for module in (native, twin):
        out = np.zeros(count, np.uint8)
        try:
            module.decode(np.frombuffer(data, np.uint8), out, contexts, frequencies, lanes)
            results.append(out.tobytes())
        except ValueError as error:
            results.append(str(error))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "change",
    [
        {0: np.zeros(4, np.int64)}, {0: np.zeros(4, np.float32)}, {2: np.full((1, 1), 4096, np.int32)},
        {0: np.zeros((2, 2), np.uint8)}, {0: np.zeros(8, np.uint8)[::2]}, {1: np.zeros(4, np.int8)},
    ],
)  # fmt: skip
def test_no_silent_conversion(change):
    case = [np.zeros(4, np.uint8), EMPTY, np.full((1, 1), 4096, np.uint16), 1]
    native.encode(*case)
    for place, value in change.items():
        case[place] = value
    with pytest.raises(TypeError):
        native.encode(*case)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.data())
def test_contexts_native_equals_twin(seed, rows, cols, classes, data):
    rng = np.random.default_rng(seed)
    row, col = (rng.integers(-30, 40, n).astype(np.int16) for n in (rows, cols))
    table_of = rng.integers(0, 64, classes).astype(np.uint8)
    start = data.draw(st.integers(0, rows * cols))
    count = data.draw(st.integers(0, rows * cols - start))
    results = [np.empty(count, np.uint8) for _ in range(2)]
    for module, out in zip((native, twin), results, strict=True):
        module.fill_contexts(out, start, row, col, table_of)
    expected = table_of[np.clip(row[:, None].astype(int) + col, 0, classes - 1)].ravel()[start : start + count]
    assert (results[0] == expected).all() and (results[1] == expected).all()


@pytest.mark.parametrize("module", [native, twin], ids=["native", "twin"])
def test_contexts_refuse_places_outside(module):
    rows, cols, table_of = np.zeros(3, np.int16), np.zeros(4, np.int16), np.zeros(1, np.uint8)
    for start, count in ((0, 13), (12, 1), (5, 8)):
        with pytest.raises(ValueError, match="outside the matrix"):
            module.fill_contexts(np.empty(count, np.uint8), start, rows, cols, table_of)
    with pytest.raises(ValueError, match="at least one class"):
        module.fill_contexts(np.empty(1, np.uint8), 0, rows, cols, EMPTY)


SCRIPT = """
import hashlib, numpy as np
from attar.coding import simd_path
from attar.coding.rans import Rans
rng = np.random.default_rng(0)
digest = hashlib.sha256()
for shape, scale in (((30,), 3.0), ((5000,), 1.0), ((300, 500), 0.5), ((400, 700), 1.0)):
    array = np.rint(rng.laplace(0, scale, shape)).astype(np.int16)
    data = Rans.encode(array)
    digest.update(data)
    assert (Rans.decode(data, "int16", shape) == array).all()
print(simd_path(), digest.hexdigest(), sep="|")
"""


def run(**environment):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return done.stdout.strip().split("|")


def test_all_paths_write_the_same():
    scalar, twins = run(ATTAR_SIMD="scalar"), run(ATTAR_NATIVE="0")
    usual = run(ATTAR_SIMD="avx2", ATTAR_THREADS="4")
    assert scalar[0] == "native scalar" and twins[0] == "numpy"
    assert usual[0] in ("native avx2", "native scalar")
    assert scalar[1] == twins[1] == usual[1]


def test_missing_extension_is_said_once(monkeypatch, caplog):
    def missing(name):
        raise ImportError("no such module")

    monkeypatch.setattr(kernel, "import_module", missing)
    kernel.kernel.cache_clear()
    try:
        with caplog.at_level(logging.WARNING, "attar"):
            assert kernel.kernel() is twin and kernel.kernel() is twin
            assert kernel.simd_path() == "numpy"
    finally:
        kernel.kernel.cache_clear()
    assert len(caplog.records) == 1 and "compiler" in caplog.text


def test_chunk_errors_are_format_errors():
    with pytest.raises(FormatError, match="a chunk of 5 symbols"):
        kernel.decode(memoryview(b"\1\2\3\4\5"), 5, EMPTY, np.array([[4095, 1]], np.uint16))
