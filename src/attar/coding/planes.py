"""The `planes` coder: floats by byte planes, so that exponents, which repeat, are coded apart from noise.

The bits are rotated left by one first: the sign joins the mantissa's low end and the exponent's eight bits (bfloat16,
float32) fill the top byte. A plane is coded by `rans`, order-0, where that saves a share of it that is worth the time:
a plane of noise is plain bytes. A constant array is one value.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from attar.coding import kernel
from attar.coding.levels import run_bits
from attar.coding.rans import Rans
from attar.coding.raw import Raw
from attar.coding.streams import Reader, varint
from attar.errors import FormatError
from attar.types import Array

CONSTANT, SPLIT = 0, 1
WORDS = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
WORTH = 128
"""A plane is coded where that saves more than 1 in so many of its bytes: plain bytes are read ten times as fast, and
the low bits of floats, half of a checkpoint, have between 1 and 5 in 1,000 to save.
"""


class Planes:
    """See the module's docstring."""

    name: ClassVar[str] = "planes"
    slow: ClassVar[bool] = False

    @staticmethod
    def accepts(array: Array) -> bool:
        """Real floats of 1, 2, 4 or 8 bytes, ml_dtypes' bfloat16 and float8 among them."""
        return is_float(array.dtype) and array.dtype.itemsize in (1, 2, 4, 8)

    @staticmethod
    def encode(array: Array) -> bytes:
        """Every bit of the array, NaN payloads too; an empty array is no bytes."""
        if not array.size:
            return b""
        words = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(-1).view(f"u{array.dtype.itemsize}")
        if (words == words[0]).all():
            return bytes([CONSTANT]) + Raw.encode(words[:1])
        rotated = _rotate(words, 1)
        planes = [_encode_plane((rotated >> (8 * k)).astype(np.uint8)) for k in range(words.itemsize)]
        return bytes([SPLIT]) + b"".join(planes)

    @staticmethod
    def decode(data: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
        """The exact array; raises FormatError where the bytes cannot be it."""
        kind = np.dtype(dtype)
        words = np.empty(shape, WORDS[kind.itemsize])
        if not words.size:
            Reader(data).finish()
            return words.view(kind)
        try:
            kernel.kernel().decode_planes(data, words, kind.itemsize, kernel.threads_for(words.size))
        except ValueError as error:
            raise FormatError(
                f"planes: the bytes must be an array of {words.size} {kind}. Received {len(data)} bytes ({error}). "
                "Fetch the file again."
            ) from error
        return words.view(kind)


def decode_planes(data: bytes | memoryview, out: Array, width: int, threads: int) -> None:
    """Fill out, words of `width` bytes: native/planes.hpp in numpy; raises FormatError."""
    del threads
    reader = Reader(data)
    form = reader.take(1)[0]
    if form == CONSTANT:
        out[...] = Raw.decode(reader.take(width), out.dtype.name, ())
    elif form == SPLIT:
        words = np.zeros(out.shape, out.dtype)
        for k in range(width):
            words |= _decode_plane(reader, out.size).reshape(out.shape).astype(out.dtype) << (8 * k)
        out[...] = _rotate(words, 8 * width - 1)
    else:
        raise FormatError(f"planes: the form must be 0 or 1. Received {form}. Upgrade attar.")
    reader.finish()


def is_float(dtype: np.dtype[np.generic]) -> bool:
    """Whether numpy or ml_dtypes calls it a real float."""
    return dtype.name.startswith(("float", "bfloat"))


def _rotate(words: Array, left: int) -> Array:
    """Bits of unsigned words moved left around the end."""
    return np.asarray((words << left) | (words >> (8 * words.itemsize - left)))


def _encode_plane(plane: Array) -> bytes:
    """Length and bytes; the length is that of the plane where they are plain."""
    data = plane.tobytes()
    most = len(data) - len(data) // WORTH
    if run_bits(plane) < 8 * most:
        coded = Rans.encode(plane)
        data = coded if len(coded) < most else data
    return varint(len(data)) + data


def _decode_plane(reader: Reader, count: int) -> Array:
    """One plane of uint8 [count], on the bytes themselves where they are plain; raises FormatError."""
    data = reader.sized()
    if len(data) == count:
        return np.frombuffer(data, np.uint8)
    if len(data) > count:
        raise FormatError(f"planes: a plane has {count} bytes at most. Received {len(data)}. Fetch the file again.")
    return Rans.decode(data, "uint8", (count,))
