"""Arrays to small PNG pictures inside a data URI, by zlib and struct alone."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode

import numpy as np
from numpy.typing import NDArray

from attar.types import Array

LARGEST_SIDE = 96
"""Pictures with a longer side are averaged down, so that a page of them stays small."""
SMALLEST_SIDE = 4
LONGEST_SHAPE = 4
"""Arrays longer than this many times their width are tables, not pictures."""

_COLOR_TYPE = {1: 0, 3: 2}


def picture(array: Array) -> str | None:
    """An example [h, w], [1, h, w], [3, h, w], [h, w, 1] or [h, w, 3] as a PNG data URI; None for what is no picture.

    uint8 is taken as it is; floats within 0..1 or 0..255 keep their scale, all others (standardised inputs) are
    stretched from their minimum to their maximum.

    >>> picture(np.zeros((8, 8)))[:22]
    'data:image/png;base64,'
    >>> picture(np.zeros(7)) is None
    True
    """
    channels_last = _channels_last(np.asarray(array))
    if channels_last is None or channels_last.dtype.kind not in "buif":
        return None
    short, long = sorted(channels_last.shape[:2])
    if short < SMALLEST_SIDE or long > LONGEST_SHAPE * short:
        return None
    pixels = _shrunk(_as_bytes(channels_last))
    return "data:image/png;base64," + b64encode(png(pixels)).decode("ascii")


def _channels_last(array: Array) -> Array | None:
    """[h, w, 1 or 3], or None where the shape is not a picture's."""
    if array.ndim == 2:
        return array[:, :, None]
    if array.ndim != 3:
        return None
    if array.shape[0] in _COLOR_TYPE:
        return np.moveaxis(array, 0, -1)
    return array if array.shape[-1] in _COLOR_TYPE else None


def _as_bytes(array: Array) -> NDArray[np.uint8]:
    """The same shape as uint8."""
    if array.dtype == np.uint8:
        return array
    values = np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255:
        return np.rint(255 * (values - low) / max(high - low, 1e-300)).astype(np.uint8)
    scale = 255.0 if high <= 1 and array.dtype.kind in "bf" else 1.0
    return np.rint(values * scale).astype(np.uint8)


def _shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Block means, so that no side is longer than LARGEST_SIDE."""
    step = -(-max(pixels.shape[:2]) // LARGEST_SIDE)
    if step == 1:
        return pixels
    height, width = pixels.shape[0] // step, pixels.shape[1] // step
    blocks = pixels[: height * step, : width * step].reshape(height, step, width, step, -1)
    means: NDArray[np.uint8] = np.rint(blocks.mean((1, 3))).astype(np.uint8)
    return means


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of pixels[h, w, 1 or 3] (ISO/IEC 15948; 8 bits, no interlace, filter 0 on every line)."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPE[channels], 0, 0, 0)
    lines = np.zeros((height, 1 + width * channels), np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Length, kind, data, CRC-32 of kind and data."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
