"""The integer network: the pixels of plain 64-bit integers, in any chunks, and nothing odd is taken from a file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import FormatError
from attar.latent import codes
from attar.latent.network import Layer, Network, _kinds, network_from, run, run_slowly
from sets.latent_cases import latents, network


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    channels=st.integers(1, 4),
    size=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)),
    ups=st.permutations((2, 1, 2)),
    largest=st.sampled_from([3, 60, 32767]),
)
def test_it_is_what_plain_integers_give(seed, channels, size, ups, largest):
    made = network(seed, channels=channels, ups=ups, largest=largest)
    found = latents(*size, 5, seed)
    pixels = run(made, found)
    assert pixels.shape == (size[0], 4 * size[1], 4 * size[2], channels)
    assert np.array_equal(pixels, run_slowly(made, found))


def test_sums_beyond_single_floats_are_taken_in_doubles():
    weight = np.full((16, 9 * 100), 32767, np.int16)
    weight[:, ::2] = -32766
    layers = (Layer(3, 2, 22, np.tile(weight, (4, 1))[:64], np.full(64, 2**29 - 1, np.int32)),
              Layer(1, 2, 7, np.full((4, 16), 7, np.int16), np.zeros(4, np.int32)))  # fmt: skip
    made = Network(layers)
    assert _kinds(made) == [np.float64, np.float32]
    found = latents(3, 4, 4, 100)
    pixels = run(made, found)
    assert np.array_equal(pixels, run_slowly(made, found)) and len(np.unique(pixels)) > 1


def test_known_pixels():
    """One latent, one layer each: by hand."""
    first = Layer(1, 2, 1, np.array([[1], [2], [3], [4]], np.int16), np.array([0, 1, 0, -9], np.int32))
    second = Layer(1, 2, 0, np.array([[1], [0], [2], [100]], np.int16), np.array([0, 7, 0, 0], np.int32))
    pixels = run(Network((first, second)), np.array([[[[3]]]], np.int16))[0, ..., 0]
    assert pixels.tolist() == [[1, 7, 3, 7], [2, 100, 6, 255], [4, 7, 1, 7], [8, 255, 2, 100]]


def test_arrays_come_back_and_chunks_do_not_matter(monkeypatch):
    made = network(3, channels=3)
    same = network_from(made.arrays())
    found = latents(23, 3, 2, 5)
    whole = codes.pixels(same, found, 11, 7)
    assert whole.shape == (23, 11, 7, 3)
    for size in (1, 9000, 1 << 20):
        monkeypatch.setattr(codes, "AT_ONCE", size)
        assert np.array_equal(codes.pixels(made, found, 11, 7), whole)


def test_images_that_take_much_room_are_made_one_by_one(monkeypatch):
    made, found, seen_by = network(3, channels=3), latents(6, 3, 2, 5), []
    whole = codes.pixels(made, found, 11, 7)
    monkeypatch.setattr(codes, "AT_ONCE", 1)
    monkeypatch.setattr(codes, "over_chunks", lambda make, starts: seen_by.append(starts))
    assert np.array_equal(codes.pixels(made, found, 11, 7), whole) and not seen_by


def test_latents_are_cut_into_parts_and_joined(monkeypatch):
    made, found = network(0), latents(23, 3, 2, 5)
    monkeypatch.setattr(codes, "PART", 70)
    parts = codes.matrices(found)
    assert [len(part) for part in parts] == codes.part_rows(23, 30) and len(parts) == 12
    assert np.array_equal(codes.latents_of(parts, made, (23, 10, 8, 1)), found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda parts: parts[1:], "latents must be int16"),
        (lambda parts: [part.astype(np.int32) for part in parts], "latents must be int16"),
        (lambda parts: [part[:, 1:] for part in parts], "latents must be int16"),
        (lambda parts: [np.where(part == part.max(), 1024, part) for part in parts], "within 1023"),
    ],
)
def test_other_latents_are_refused(change, said):
    parts = codes.matrices(latents(4, 3, 2, 5))
    with pytest.raises(FormatError, match=said):
        codes.latents_of(change(parts), network(0), (4, 12, 8, 1))


def test_other_channels_are_refused():
    with pytest.raises(FormatError, match="the network makes 1"):
        codes.latents_of(codes.matrices(latents(4, 3, 2, 5)), network(0), (4, 12, 8, 3))


def changed(**arrays):
    return {name: array for name, array in {**network(0).arrays(), **arrays}.items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"form": None}, "'form'"),
        ({"form": np.zeros((0, 3), np.uint8)}, "1 to 8 layers"),
        ({"form": np.zeros((9, 3), np.uint8)}, "1 to 8 layers"),
        ({"form": np.array([[3, 2, 4], [1, 1, 4]], np.uint8)}, "1 to 8 layers"),
        ({"form": np.array([[2, 2, 4], [1, 1, 4], [5, 2, 4]], np.uint8)}, "layer 0: its shapes"),
        ({"form": np.array([[3, 2, 4], [1, 0, 4], [5, 2, 4]], np.uint8)}, "layer 1: its shapes"),
        ({"form": np.array([[3, 2, 4], [1, 1, 25], [5, 2, 4]], np.uint8)}, "layer 1: its shapes"),
        ({"form": np.array([[3, 2, 4], [7, 1, 4], [5, 2, 4]], np.uint8)}, "layer 1: its shapes"),
        ({"form": np.array([[3, 2, 4], [1, 2, 4], [5, 2, 4]], np.uint8)}, "layer 1|4 rows of one"),
        ({"weight 0": np.zeros((8, 45), np.int8)}, "layer 0: its shapes"),
        ({"weight 0": np.zeros((8, 44), np.int16)}, "layer 0: its shapes"),
        ({"weight 0": np.zeros((8, 0), np.int16)}, "layer 0: its shapes"),
        ({"weight 0": np.zeros((0, 45), np.int16), "bias 0": np.zeros(0, np.int32)}, "layer 0: its shapes"),
        ({"bias 1": np.zeros(3, np.int64)}, "layer 1: its shapes"),
        ({"weight 0": np.zeros((1024, 45), np.int16), "bias 0": np.zeros(1024, np.int32)}, "layer 0: it must take"),
        ({"weight 0": np.zeros((400, 45), np.int16), "bias 0": np.zeros(400, np.int32)}, "layer 0|layer 1"),
        ({"more": np.zeros(3, np.int64)}, "1 to 8 layers"),
    ],
)
def test_other_networks_are_refused(arrays, said):
    with pytest.raises(FormatError, match=said):
        network_from(changed(**arrays))


def test_a_network_must_make_four_rows_of_one():
    with pytest.raises(FormatError, match="4 rows of one"):
        network_from(network(0, kernels=(3, 3), ups=(2, 1)).arrays())
    with pytest.raises(FormatError, match="65536 products"):
        sizes = [(5, 256, 2), (64, 256, 2), (64, 256, 1), (256, 256, 1), (256, 256, 1), (256, 1, 1)]
        layers = (Layer(1, up, 0, np.zeros((b, a), np.int16), np.zeros(b, np.int32)) for a, b, up in sizes)
        network_from(Network(tuple(layers)).arrays())
    with pytest.raises(FormatError, match="1 to 4 channels"):
        network_from(network(0, channels=5).arrays())
