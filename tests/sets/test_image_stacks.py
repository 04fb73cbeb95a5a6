"""Stacks of images: exact, the same bytes from every kernel and any number of threads, smaller than LZMA makes them."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attar.archive.blobs import code_arrays
from attar.coding import kernel
from attar.data.idx import read_idx
from attar.errors import FormatError
from attar.sets import fit, images, twin
from attar.sets.geometry import geometry
from attar.sets.model import model_from
from sets.image_cases import CASES


def decoded(stack, model, parts):
    return images.decode(model, [np.frombuffer(part, np.uint8) for part in parts], stack.shape)


@pytest.mark.parametrize("name", CASES)
def test_pixels_come_back(name, monkeypatch):
    monkeypatch.setattr(fit, "EACH", 1000)
    stack = CASES[name]
    model, parts = images.encode(stack)
    assert np.array_equal(decoded(stack, model, parts), stack)


@settings(deadline=None, max_examples=30)
@given(arrays(np.uint8, st.tuples(st.integers(1, 70), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))))
def test_any_pixels_come_back(stack):
    model, parts = images.encode(stack)
    assert np.array_equal(decoded(stack, model, parts), stack)


@pytest.mark.parametrize("name", ["grey", "colour", "one", "noise", "extremes", "regimes"])
def test_the_twin_writes_and_reads_the_same_bytes(name, monkeypatch):
    monkeypatch.setattr(fit, "EACH", 10_000)
    stack = CASES[name]
    native = kernel.kernel()
    assert hasattr(native, "SiteModel"), "the native extension is not built"
    model, parts = images.encode(stack)
    for module in (fit, images):
        monkeypatch.setattr(module, "sites_kernel", lambda: twin)
    monkeypatch.setattr("attar.sets.model.sites_kernel", lambda: twin)
    again, same = images.encode(stack)
    assert same == parts and all(np.array_equal(model[key], again[key]) for key in model)
    assert np.array_equal(decoded(stack, model, parts), stack)


def test_threads_do_not_change_the_bytes(monkeypatch):
    monkeypatch.setattr(images, "PART", 1 << 12)
    stack = CASES["grey"]
    monkeypatch.setenv("ATTAR_THREADS", "1")
    alone = images.encode(stack)
    monkeypatch.setenv("ATTAR_THREADS", "3")
    model, parts = images.encode(stack)
    assert len(parts) == 9 and parts == alone[1]
    assert all(np.array_equal(model[key], alone[0][key]) for key in model)
    assert np.array_equal(decoded(stack, model, parts), stack)


def test_sums_that_wrap_are_the_same_in_both_kernels(monkeypatch):
    """Weights that no fit makes: every intermediate passes 16 bits."""
    rng = np.random.default_rng(3)
    stack = CASES["noise"]
    place = geometry(*stack.shape[1:])
    monkeypatch.setattr(fit, "EACH", len(stack))
    model, _ = images.encode(stack)
    model["weight"] = rng.integers(-32768, 32768, (place.sites, 16 * (place.tap.shape[1] + 1))).astype(np.int16)
    model["spread"] = rng.integers(-32768, 32768, (place.sites, model["spread"].shape[1])).astype(np.int16)
    found = model_from(model, place)
    planes = np.ascontiguousarray(stack.reshape(len(stack), -1).T)
    residuals, contexts = fit.scan(found, planes, place)
    parts = (found.spread, found.regime, found.mean, found.energy, found.side, found.table)
    other = twin.SiteModel(place.tap, place.error, np.arange(place.sites), found.weight, *parts)
    mine, theirs = np.empty_like(residuals), np.empty_like(contexts)
    twin.scan_sites(other, planes, mine, theirs)
    assert np.array_equal(mine, residuals) and np.array_equal(theirs, contexts)


def test_parts_cover_the_images():
    for n, sites in ((1, 1), (7, images.PART), (60_000, 784), (5, 3 * images.PART)):
        sizes = images.part_sizes(n, sites)
        assert sum(sizes) == n and min(sizes) > 0 and max(sizes) * sites <= max(images.PART, sites)


def test_what_images_share_is_told_once():
    """Real images: with the model, a twentieth smaller than LZMA with all of them in its window."""
    pixels = read_idx(Path("examples/fashion-mnist/train-images-idx3-ubyte.gz"))[:2000]
    model, parts = images.encode(pixels[..., None])
    section, _ = code_arrays("model", "part", model)
    coded = section.nbytes + sum(map(len, parts))
    assert coded < 0.95 * len(lzma.compress(pixels.tobytes(), preset=9))


@pytest.mark.parametrize("place", range(12))
def test_altered_bytes_are_refused_or_other_pixels(place):
    """Without checksums: an end state, or the number of words, is wrong nearly always."""
    stack = CASES["grey"]
    model, parts = images.encode(stack)
    wrong = bytearray(parts[0])
    wrong[place * len(wrong) // 12] ^= 1 << (place % 8)
    with pytest.raises(FormatError, match="bytes must be what attar writes"):
        decoded(stack, model, [bytes(wrong)])


@pytest.mark.parametrize("cut", [0, 1, 3, 100, 255, 256, 257, 400, -2, -1])
def test_cut_or_longer_bytes_are_refused(cut):
    stack = CASES["grey"]
    model, parts = images.encode(stack)
    for wrong in (parts[0][:cut], parts[0] + bytes(2), parts[0] + b"\0"):
        with pytest.raises(FormatError):
            decoded(stack, model, [wrong])


def mutations():
    yield "weight", lambda x: x[:, :-1]
    yield "weight", lambda x: x[:0]
    yield "weight", lambda x: x.astype(np.int32)
    yield "spread", lambda x: x[:, :-1]
    yield "regime", lambda x: x[:2]
    yield "mean", lambda x: x[::-1]
    yield "energy", lambda x: np.arange(200, dtype=np.int16)
    yield "side", lambda x: np.append(x, x[-1:])
    yield "table", lambda x: np.full_like(x, 254)
    yield "table", lambda x: x[:-1]
    yield "table", lambda x: x.T
    yield "frequency", lambda x: x * 0
    yield "frequency", lambda x: x[:, :-1]
    yield "frequency", lambda x: x[:0]
    yield "frequency", lambda x: np.roll(x, 1, 1)


@pytest.mark.parametrize(("name", "change"), mutations())
def test_a_model_that_lies_is_refused(name, change):
    stack = CASES["grey"]
    model, parts = images.encode(stack)
    with pytest.raises(FormatError, match="Received"):
        decoded(stack, {**model, name: change(model[name])}, parts)
    with pytest.raises(FormatError, match="its arrays must be"):
        decoded(stack, {key: array for key, array in model.items() if key != name}, parts)


def test_another_shape_is_refused():
    stack = CASES["grey"]
    model, parts = images.encode(stack)
    for shape in (
        (299, 12, 10, 1),
        (300, 10, 12, 1),
        (300, 12, 10, 2),
        (300, 0, 10, 1),
        (1, 512, 512, 1),
        (10**6, 12, 10, 1),
    ):
        with pytest.raises(FormatError):
            images.decode(model, [np.frombuffer(part, np.uint8) for part in parts], shape)
