"""Frequency tables: integer, summing to 4096, near the counts, and the same after their description."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import _native as native
from attar.coding import fit_tables, tables, twin
from attar.coding.streams import SideDecoder, SideEncoder
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
    read = np.zeros_like(frequencies)
    native.read_tables(native.SideDecoder(texts[0]), mode, escape, kind, read)
    assert (read == frequencies).all()


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


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 60), st.booleans(), st.sampled_from([1, 100, 5000]),
    st.sampled_from(list(tables.KINDS)), st.binary(max_size=40), st.booleans(),
)  # fmt: skip
def test_native_reads_what_the_twin_reads(seed, count, width, escape, size, kind, noise, honest):
    counts = random_counts(seed, count, width, escape, size)
    form = tables.Form(width + escape, int(counts[:, :width].sum(0).argmax()), escape, kind)
    specs = fit_tables.fit(counts, form)
    data = noise
    if honest and specs is not None:
        encoder = SideEncoder()
        tables.describe(encoder, count, form, specs)
        data = encoder.finish()
    results = []
    for module in (native, twin):
        out = np.zeros((count, form.alphabet), np.uint16)
        try:
            module.read_tables(module.SideDecoder(data), form.mode, escape, kind, out)
            results.append(out.tobytes())
        except (FormatError, ValueError):
            results.append(b"refused")
    assert results[0] == results[1]
