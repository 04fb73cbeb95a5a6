"""Pictures: every shape, every dtype, and bytes that a decoder of our own reads back."""

from __future__ import annotations

import struct
import zlib
from base64 import b64decode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attar.report import picture
from attar.report.picture import LARGEST_SIDE, png


def decoded(data: bytes) -> np.ndarray:
    """Pixels [h, w, channels] of a PNG, with every checksum and length verified."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = {}, 8
    while place < len(data):
        (length,), kind = struct.unpack_from(">I", data, place), data[place + 4 : place + 8]
        chunks[kind] = data[place + 8 : place + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, place + 8 + length)
        assert checksum == zlib.crc32(kind + chunks[kind])
        place += 12 + length
    assert place == len(data) and list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, color, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, rest) == (8, [0, 0, 0])
    channels = {0: 1, 2: 3}[color]
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width * channels)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, channels)


def pixels(array: np.ndarray) -> np.ndarray:
    uri = picture(array)
    assert uri is not None
    head, body = uri.split(",")
    assert head == "data:image/png;base64"
    return decoded(b64decode(body, validate=True))


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))))
def test_png_round_trip(array: np.ndarray) -> None:
    np.testing.assert_array_equal(decoded(png(array)), array)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((28, 28), (28, 28, 1)),
        ((1, 28, 20), (28, 20, 1)),
        ((28, 20, 1), (28, 20, 1)),
        ((28, 20, 3), (28, 20, 3)),
        ((3, 28, 20), (28, 20, 3)),
    ],
)
def test_shapes(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    shown = pixels(array)
    assert shown.shape == expected
    same = np.moveaxis(array, 0, -1) if shape[0] in (1, 3) else array
    np.testing.assert_array_equal(shown, same.reshape(expected))


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4, 5), (0, 0), (28, 28, 2), (3, 200), (4, 128)])
def test_what_is_no_picture(shape: tuple[int, ...]) -> None:
    assert picture(np.zeros(shape, np.float32)) is None


def test_neither_are_words() -> None:
    assert picture(np.full((8, 8), "word")) is None


def test_scales() -> None:
    ramp = np.linspace(0, 1, 64).reshape(8, 8)
    expected = np.rint(255 * ramp).astype(np.uint8)[..., None]
    for array in (ramp, ramp.astype(np.float32), 255 * ramp, (ramp - 0.5) * 4, 1000 * ramp):
        np.testing.assert_allclose(pixels(array), expected, atol=1)
    np.testing.assert_array_equal(pixels(np.eye(8, dtype=bool)), 255 * np.eye(8, dtype=np.uint8)[..., None])
    np.testing.assert_array_equal(pixels(np.eye(8, dtype=np.int64)), np.eye(8, dtype=np.uint8)[..., None])


def test_constant_and_broken_values_do_not_divide_by_zero() -> None:
    assert not pixels(np.full((8, 8), -3.0)).any()
    broken = np.zeros((8, 8))
    broken[0] = np.nan, np.inf, -np.inf, 1, 0, 0, 0, 0
    assert pixels(broken).max() == 255


def test_large_pictures_shrink_to_block_means() -> None:
    array = np.zeros((224, 224), np.uint8)
    array[:, 1::3] = 90
    shown = pixels(array)
    assert max(shown.shape) <= LARGEST_SIDE and set(np.unique(shown)) == {30}


def test_the_input_is_not_changed() -> None:
    array = np.random.default_rng(1).normal(size=(3, 100, 100))
    before = array.copy()
    picture(array)
    np.testing.assert_array_equal(array, before)
