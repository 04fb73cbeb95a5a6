"""Frequency tables: integer, summing to 4096, near the counts, and the same after their description."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import _native as native
from attar.coding import fit_tables, static, tables, twin
from attar.coding.levels import Levels
from attar.coding.streams import SideDecoder, SideEncoder
from attar.coding.symbols import Alphabet
from attar.errors import FormatError


@pytest.mark.parametrize("fineness", [1, 2, 3, 4])
def test_ladder_grows_by_its_ratio(fineness):
    rungs = np.array(tables.ladder(fineness))
    assert rungs[0] == 0 and rungs[-1] == 4096 and (np.diff(rungs) > 0).all()
    ratio = rungs[2:-1] / rungs[1:-2]
    assert ratio[rungs[1:-2] > 2**fineness].max() <= 1 + 2.0**-fineness


def random_counts(seed, count, width, escape, size):
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.1, width / 3 + 0.2, count)
    values = np.rint(rng.laplace(0, scale[:, None], (count, size))).astype(int) + rng.integers(0, width)
    values = np.clip(values, 0, width - 1)
    counts = np.stack([np.bincount(row, minlength=width + escape) for row in values])
    if escape:
        counts[:, -1] = rng.integers(0, 3, count)
    return counts


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 60), st.booleans(), st.sampled_from([1, 5, 100, 5000]),
    st.sampled_from(list(tables.KINDS)),
)  # fmt: skip
def test_description_is_exact(seed, count, width, escape, size, kind):
    counts = random_counts(seed, count, width, escape, size)
    form = tables.Form(width + escape, int(counts[:, :width].sum(0).argmax()), escape, kind)
    specs = fit_tables.fit(counts, form)
    if specs is None:
        assert kind == tables.GEOMETRIC
        return
    encoder = SideEncoder()
    _, table = tables.describe(encoder, count, form, specs)
    decoder = SideDecoder(encoder.finish())
    again, read = tables.describe(decoder, count, form)
    decoder.finish()
    assert again == specs
    assert (read == table).all() and (table.sum(1) == 4096).all()
    assert (table[counts > 0] > 0).all()


def best(counts, mode, escape, module=native):
    """Kind, bits of code and tables, specs, frequencies."""
    specs = np.zeros((len(counts), max(counts.shape[1], 2)), np.int32)
    frequencies = np.zeros(counts.shape, np.uint16)
    kind, code, nbytes = module.fit_tables(counts.astype(np.int64), mode, escape, specs, frequencies)
    return kind, code / 65536 + 8 * nbytes, specs, frequencies


def test_wide_flat_tables_fit():
    _, bits, _, frequencies = best(np.ones((1, 256), int), 0, True)
    assert frequencies.sum() == 4096
    assert bits < 256 * 8.1 + 8 * 40


@pytest.mark.parametrize("size", [200, 5000, 200_000])
def test_best_is_near_the_entropy(size):
    counts = random_counts(1, 4, 21, False, size)
    share = counts / counts.sum(1, keepdims=True)
    entropy = -(counts[counts > 0] * np.log2(share[counts > 0])).sum()
    _, bits, _, _ = best(counts, int(counts.sum(0).argmax()), False)
    # Never beyond what plain 12-bit frequencies would take, and within 0.1 % once the data are many.
    assert bits <= entropy + 12 * np.count_nonzero(counts)
    if size == 200_000:
        assert bits <= entropy * 1.001


def test_few_symbols_take_the_geometric_table():
    counts = random_counts(2, 1, 15, False, 60)
    mode = int(counts.sum(0).argmax())
    kind, _, specs, _ = best(counts, mode, False)
    encoder = SideEncoder()
    tables.write_tables(encoder, 15, mode, False, kind, specs)
    assert kind == tables.GEOMETRIC
    assert len(encoder.finish()) <= 2


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 200), st.booleans(), st.sampled_from([1, 30, 5000, 10**6])
)
def test_native_fits_and_writes_what_the_twin_does(seed, count, width, escape, size):
    counts = random_counts(seed, count, width, escape, min(size, 5000)) * max(1, size // 5000)
    mode = int(counts[:, :width].sum(0).argmax())
    results = [best(counts, mode, escape, module) for module in (native, twin)]
    assert results[0][:2] == results[1][:2]
    kind, _, specs, frequencies = results[0]
    assert (specs == results[1][2]).all() and (frequencies == results[1][3]).all()
    texts = []
    for module in (native, twin):
        coder = module.SideEncoder()
        module.write_tables(coder, counts.shape[1], mode, escape, kind, specs)
        texts.append(coder.finish())
    assert texts[0] == texts[1]
    form = tables.Form(counts.shape[1], mode, escape, kind)
    assert (tables.describe(SideDecoder(texts[0]), count, form)[1] == frequencies).all()


@settings(deadline=None, max_examples=150)
@given(
    st.binary(max_size=60), st.integers(1, 6), st.integers(1, 256), st.integers(0, 255), st.booleans(),
    st.sampled_from(list(tables.KINDS)),
)  # fmt: skip
def test_any_bytes_give_a_table_or_a_format_error(data, count, alphabet, mode, escape, kind):
    inner = max(alphabet - escape, 1)
    form = tables.Form(inner + escape, mode % inner, escape, kind)
    try:
        _, table = tables.describe(SideDecoder(data), count, form)
    except (FormatError, ValueError) as error:
        assert "probability table" in str(error) or "pass its limit" in str(error)
        return
    assert table.shape == (count, form.alphabet) and (table.sum(1) == 4096).all()


def drawn(rng, plan):
    """The chunk of a matrix whose symbols follow the plan's tables."""
    (chunk,) = plan.chunks()
    parts = [
        rng.choice(plan.form.alphabet, rows * width, p=plan.frequencies[table] / 4096)
        for rows, width, table in chunk.runs
    ]
    symbols = np.concatenate(parts).astype(np.uint8)
    return symbols, native.encode(symbols, chunk.runs, native.EncodeTables(plan.frequencies), 1)


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**32), st.integers(2, 6), st.integers(1, 60), st.booleans(), st.sampled_from([1, 100, 5000]),
    st.sampled_from(list(tables.KINDS)), st.booleans(), st.binary(max_size=4),
)  # fmt: skip
def test_native_reads_what_the_twin_reads(seed, count, width, escape, size, kind, streamed, noise):
    rng = np.random.default_rng(seed)
    counts = random_counts(seed, count, width, escape, size)
    form = tables.Form(width + escape, int(counts[:, :width].sum(0).argmax()), escape, kind)
    specs = fit_tables.fit(counts, form)
    if specs is None:
        return
    rows, cols = rng.permutation(count + 3).astype(np.uint8), np.ones(9, np.uint8)
    table_of = np.sort(np.append(np.arange(count), rng.integers(0, count, 4))).astype(np.uint8)
    frequencies = np.array([form.frequencies(spec) for spec in specs], np.uint16)
    alphabet = Alphabet(-3, width, escape)
    padded = np.zeros((count, max(form.alphabet, 2)), np.int32)
    padded[:, : len(specs[0])] = specs
    plan = static.Plan(alphabet, True, False, streamed, Levels(rows, cols), table_of, form, padded, frequencies)
    symbols, chunk = drawn(rng, plan)
    side = bytearray(static.write_plan(plan))
    for byte in noise:
        side[int(rng.integers(len(side) // 2, len(side)))] = byte
    results = []
    for module in (native, twin):
        out, places = np.zeros((len(rows), 9), np.int16), np.zeros(int((symbols == width).sum()), np.int64)
        try:
            module.StaticPlan(memoryview(side), *out.shape, True, False, streamed).decode(
                memoryview(chunk), out.view(np.uint8), places, 1
            )
            results.append(out.tobytes() + places.tobytes())
        except (FormatError, ValueError):
            results.append(b"refused")
    assert results[0] == results[1] and (noise or results[0] != b"refused")
