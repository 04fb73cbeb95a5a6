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

from attar import _native as native
from attar.coding import kernel, layout, twin
from coding.cases import random_case

LANES = [1, 32, 64, 128]
MODULES = pytest.mark.parametrize("module", [native, twin], ids=["native", "twin"])


def decoded(module, data, count, runs, frequencies, wide=False):
    out = np.empty(count, np.uint8)
    module.decode(np.frombuffer(data, np.uint8), out, runs, module.DecodeTables(frequencies, wide))
    return out


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 2**32), st.integers(0, 2500), st.integers(1, 5), st.integers(1, 256), st.sampled_from(LANES),
    st.sampled_from([0.9, 0.4, 0.05]), st.booleans(),
)  # fmt: skip
def test_native_equals_twin(seed, count, tables, alphabet, lanes, share, wide):
    wide = wide and layout.may_be_wide(alphabet)
    symbols, runs, frequencies = random_case(seed, count, tables, alphabet, share)
    data = native.encode(symbols, runs, native.EncodeTables(frequencies, wide), lanes)
    assert data == twin.encode(symbols, runs, twin.EncodeTables(frequencies, wide), lanes)
    for module in (native, twin):
        assert (decoded(module, data, count, runs, frequencies, wide) == symbols).all()


ALPHABETS = [(2, False), (20, False), (64, False), (65, False), (256, False), (65, True), (100, True), (128, True)]


@pytest.mark.parametrize(("alphabet", "wide"), ALPHABETS)
@pytest.mark.parametrize("lanes", LANES)
def test_long_chunks(lanes, alphabet, wide):
    symbols, runs, frequencies = random_case(1, 200_003, 3, alphabet, 0.05 if wide else 0.4)
    data = native.encode(symbols, runs, native.EncodeTables(frequencies, wide), lanes)
    table = np.repeat(runs[:, 2], runs[:, 0] * runs[:, 1])
    ideal = -np.log2(frequencies[table, symbols] / 4096).sum() / 8
    # A lane costs about a byte: the 16 bits that its state begins with carry symbols.
    assert len(data) <= ideal * 1.0005 + 1.3 * lanes + 8
    assert (decoded(native, data, symbols.size, runs, frequencies, wide) == symbols).all()


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("alphabet", [64, 128])
@pytest.mark.parametrize("place", [0, 1, 30, 63])
def test_a_table_of_one_symbol_among_others(lanes, place, alphabet):
    # Its frequency is the only one of 13 bits.
    wide = alphabet > 64
    frequencies = np.zeros((3, alphabet), np.uint16)
    frequencies[0, place] = 4096
    frequencies[1, place], frequencies[1, 5] = 4095, 1
    frequencies[2] = 4096 // alphabet
    rng = np.random.default_rng(place)
    runs = np.array([[int(rng.integers(1, 9)), int(rng.integers(1, 300)), k % 3] for k in range(40)], np.int32)
    parts = [rng.choice(alphabet, r * w, p=frequencies[t] / 4096) for r, w, t in runs]
    symbols = np.concatenate(parts).astype(np.uint8)
    data = native.encode(symbols, runs, native.EncodeTables(frequencies, wide), lanes)
    assert data == twin.encode(symbols, runs, twin.EncodeTables(frequencies, wide), lanes)
    assert (decoded(native, data, symbols.size, runs, frequencies, wide) == symbols).all()


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("alphabet", [2, 64, 200])
@pytest.mark.parametrize("share", [4096, 4095, 4000])
def test_runs_of_the_likeliest_symbol(lanes, alphabet, share):
    # A single stream goes around a circle in them: how it goes in, and where it comes out.
    rng = np.random.default_rng(share)
    for mode in {0, 1, alphabet // 3, alphabet - 1}:
        frequencies = np.zeros((2, alphabet), np.uint16)
        frequencies[0, mode] = share
        frequencies[0, (mode + 1) % alphabet] += 4096 - share
        frequencies[1, :2] = 2048
        for sizes in ((9001, 0, 0), (700, 30, 20_000), (20_000, 3000, 511), (1, 1, 600)):
            runs = np.array([[1, n, k % 2] for k, n in enumerate(sizes)], np.int32)
            parts = [np.full(n, mode, np.uint8) for n in sizes]
            parts[1] = rng.integers(0, 2, sizes[1]).astype(np.uint8)
            symbols = np.concatenate(parts)
            data = native.encode(symbols, runs, native.EncodeTables(frequencies), lanes)
            assert (decoded(native, data, symbols.size, runs, frequencies) == symbols).all()


@pytest.mark.parametrize("alphabet", [5, 70])
def test_a_state_from_nowhere_goes_around_as_in_the_twin(alphabet):
    # Whether it comes back to where it was or not; in the end it is refused unless it is zero.
    frequencies = np.zeros((2, alphabet), np.uint16)
    frequencies[:, 3], frequencies[1, 4] = (4096, 4000), 96
    for table in (0, 1):
        runs = np.array([[1, 1300, table], [1, 3, 0], [1, 640 - table, table]], np.int32)
        ends = set()
        for state in (0, 1, 64, 128, 192, 255, 256, 3999, 4095, 4096, 65_536):
            data = b"\0" + state.to_bytes(4, "little").rstrip(b"\0")
            ends |= {outcome(data, runs, frequencies)}
        assert table == 1 or len(ends) > 1


def outcome(data, runs, frequencies):
    """What both read, or that both refuse it."""
    found = []
    for module in (native, twin):
        try:
            found.append(decoded(module, data, int(runs[:, 1].sum()), runs, frequencies).tobytes())
        except ValueError:
            found.append(b"refused")
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 10])
def test_one_lane_costs_three_bytes_at_most(count):
    frequencies = np.array([[2048, 1024, 1024]], np.uint16)
    runs = np.array([[1, count, 0]], np.int32)
    data = native.encode(np.full(count, 1, np.uint8), runs, native.EncodeTables(frequencies), 1)
    assert len(data) <= 2 * count / 8 + 3


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 128))
def test_alias_layout_shares_out_all_slots(seed, alphabet):
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, 4097, alphabet - 1))
    frequency = np.diff(np.concatenate([[0], cuts, [4096]])).astype(np.uint16)
    symbol, share, position = layout.entries_of(frequency[None], layout.may_be_wide(alphabet))
    for s in range(alphabet):
        mine = symbol[0] == s
        assert mine.sum() == frequency[s] and (share[0][mine] == frequency[s]).all()
        assert sorted(position[0][mine].tolist()) == list(range(frequency[s]))


@MODULES
@pytest.mark.parametrize("alphabet", [1, 64, 129, 256])
def test_only_tables_of_65_to_128_symbols_are_wide(module, alphabet):
    frequencies = np.zeros((1, alphabet), np.uint16)
    frequencies[0, 0] = 4096
    for tables in (module.DecodeTables, module.EncodeTables):
        with pytest.raises(ValueError, match="65 to 128"):
            tables(frequencies, True)


@MODULES
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 3}, "lanes"),
        ({"lanes": 256}, "lanes"),
        ({"lanes": 0}, "lanes"),
        ({"frequencies": np.zeros((1, 4), np.uint16)}, "sum to 4096"),
        ({"frequencies": np.zeros((0, 4), np.uint16)}, "1 to 64 tables"),
        ({"frequencies": np.full((65, 1), 4096, np.uint16)}, "1 to 64 tables"),
        ({"frequencies": np.zeros((1, 0), np.uint16)}, "alphabet"),
        ({"frequencies": np.full((1, 512), 8, np.uint16)}, "alphabet"),
        ({"runs": np.array([[1, 3, 0]], np.int32)}, "add up to the symbols"),
        ({"runs": np.array([[2**31 - 1, 2**31 - 1, 0]], np.int32)}, "add up to the symbols"),
        ({"runs": np.array([[1, 4, 1]], np.int32)}, "does not exist"),
        ({"runs": np.array([[1, 4, -1]], np.int32)}, "does not exist"),
        ({"runs": np.array([[-1, -4, 0]], np.int32)}, "negative"),
        ({"symbols": np.array([0, 1, 2, 3], np.uint8)}, "probability zero"),
        ({"symbols": np.array([0, 1, 2, 200], np.uint8)}, "probability zero"),
    ],
)
def test_refusals(module, change, message):
    case = {
        "symbols": np.array([0, 1, 0, 2], np.uint8), "runs": np.array([[2, 2, 0]], np.int32),
        "frequencies": np.array([[2048, 1024, 1024, 0]], np.uint16), "lanes": 1,
    }  # fmt: skip

    def encode(symbols, runs, frequencies, lanes):
        return module.encode(symbols, runs, module.EncodeTables(frequencies), lanes)

    data = encode(**case)
    case.update(change)
    with pytest.raises(ValueError, match=message):
        encode(**case)
    if not {"symbols", "lanes"} & set(change):
        with pytest.raises(ValueError, match=message):
            decoded(module, data, 4, case["runs"], case["frequencies"])


@MODULES
@pytest.mark.parametrize("lanes", LANES)
def test_cut_or_altered_chunks_are_refused(module, lanes):
    symbols, runs, frequencies = random_case(3, 2999, 2, 9)
    data = module.encode(symbols, runs, module.EncodeTables(frequencies), lanes)
    assert (data[0] & 3) == LANES.index(lanes)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 4
    refused = 0
    wrongs = [data[:k] for k in range(0, len(data), 17)] + [data + b"\0", data + b"\0\0", bytes(flipped)]
    for wrong in wrongs:
        try:
            assert (decoded(module, wrong, symbols.size, runs, frequencies) != symbols).any()
        except ValueError as error:
            refused += 1
            assert "cut short" in str(error) or "where they began" in str(error) or "its lanes" in str(error)
    # A text may end by chance where one may end: it is then another text. One lane has fewer places to be wrong in.
    assert refused >= len(wrongs) - (9 if lanes == 1 else 3)


@settings(deadline=None, max_examples=80)
@given(st.binary(max_size=900), st.integers(0, 700), st.sampled_from([0, 1, 2, 3, 6, 9, 4002]))
def test_any_bytes_are_refused_alike(data, count, head):
    _, runs, frequencies = random_case(5, count, 3, 7)
    data = bytes([head & 127 | 128, head >> 7]) + data if head > 127 else bytes([head]) + data
    results = []
    for module in (native, twin):
        try:
            results.append(decoded(module, data, count, runs, frequencies).tobytes())
        except ValueError as error:
            results.append(str(error))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "change",
    [
        {0: np.zeros(4, np.int64)}, {0: np.zeros(4, np.float32)}, {0: np.zeros((2, 2), np.uint8)},
        {0: np.zeros(8, np.uint8)[::2]}, {1: np.zeros((1, 3), np.int64)}, {1: np.zeros(3, np.int32)},
        {1: np.zeros((1, 4), np.int32)}, {2: np.full((1, 1), 4096, np.uint16)},
    ],
)  # fmt: skip
def test_no_silent_conversion(change):
    tables = native.EncodeTables(np.full((1, 1), 4096, np.uint16))
    case = [np.zeros(4, np.uint8), np.array([[1, 4, 0]], np.int32), tables, 1]
    native.encode(*case)
    for place, value in change.items():
        case[place] = value
    with pytest.raises(TypeError):
        native.encode(*case)
    with pytest.raises(TypeError):
        native.EncodeTables(np.full((1, 1), 4096, np.int32))


SCRIPT = """
import hashlib, numpy as np
from attar.coding import decode_scaled, simd_path
from attar.coding.dense import Dense
from attar.coding.rans import Rans
rng = np.random.default_rng(0)
written, read = hashlib.sha256(), hashlib.sha256()
cases = ((30,), 3.0), ((5000,), 1.0), ((300, 500), 0.5), ((400, 700), 1.0), ((200, 300), 40), ((300, 400), 4.5)
for shape, scale in cases:
    array = np.rint(rng.laplace(0, scale, shape) * np.exp(rng.normal(0, 1, shape[-1]))).astype(np.int16)
    data = Rans.encode(array)
    written.update(data)
    assert (Rans.decode(data, "int16", shape) == array).all()
    few = array[..., :40][:30]
    data_of_few = Dense.encode(few)
    written.update(data_of_few)
    assert (Dense.decode(data_of_few, "int16", few.shape) == few).all()
    if len(shape) == 2:
        column, row = (np.exp(rng.normal(0, 9, n)).astype(np.float32) for n in shape[::-1])
        for name in ("float32", "float16", "bfloat16"):
            read.update(decode_scaled("rans", data, "int16", shape, row, column[None], name).tobytes())
print(simd_path(), written.hexdigest(), read.hexdigest(), sep="|")
"""


def run(**environment):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return done.stdout.strip().split("|")


def test_all_paths_write_and_read_the_same():
    scalar, twins = run(ATTAR_SIMD="scalar"), run(ATTAR_NATIVE="0")
    avx2, usual = run(ATTAR_SIMD="avx2", ATTAR_THREADS="4"), run()
    plain = run(ATTAR_SIMD="avx512bw")
    assert scalar[0] == "native scalar" and twins[0] == "numpy"
    assert avx2[0] in ("native avx2", "native neon", "native scalar")
    assert scalar[1:] == twins[1:] == avx2[1:] == plain[1:] == usual[1:]


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


def test_lanes_follow_the_size():
    assert [kernel.lanes_for(n) for n in (0, 4095, 4096, 8191, 8192, 16384, 1e9)] == [1, 1, 32, 32, 64, 128, 128]
