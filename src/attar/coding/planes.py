"""The `planes` coder: floats by byte planes, so that exponents, which repeat, are coded apart from noise.

The bits are rotated left by one first: the sign joins the mantissa's low end and the exponent's eight bits (bfloat16,
float32) fill the top byte. Each plane is the shorter of `rans` order-0 and its plain bytes; a constant array is one
value.
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
        count = int(np.prod(shape, dtype=object))
        word = np.dtype(f"u{kind.itemsize}")
        reader = Reader(data)
        words = np.empty(count, word)
        if count:
            form = reader.take(1)[0]
            if form == CONSTANT:
                words[:] = Raw.decode(reader.take(word.itemsize), word.name, (1,))
            elif form == SPLIT:
                planes = [_decode_plane(reader, count) for _ in range(word.itemsize)]
                kernel.kernel().join_planes(planes, words.view(np.uint8))
            else:
                raise FormatError(f"planes: the form must be 0 or 1. Received {form}. Upgrade attar.")
        reader.finish()
        return words.view(kind).reshape(shape)


def is_float(dtype: np.dtype[np.generic]) -> bool:
    """Whether numpy or ml_dtypes calls it a real float."""
    return dtype.name.startswith(("float", "bfloat"))


def _rotate(words: Array, left: int) -> Array:
    """Bits of unsigned words moved left around the end."""
    return np.asarray((words << left) | (words >> (8 * words.itemsize - left)))


def _encode_plane(plane: Array) -> bytes:
    """Length and bytes; the length is that of the plane where they are plain."""
    data = plane.tobytes()
    if run_bits(plane) < 8 * plane.size:
        coded = Rans.encode(plane)
        data = coded if len(coded) < len(data) else data
    return varint(len(data)) + data


def _decode_plane(reader: Reader, count: int) -> Array:
    """One plane of uint8 [count], on the bytes themselves where they are plain; raises FormatError."""
    data = reader.sized()
    if len(data) == count:
        return np.frombuffer(data, np.uint8)
    if len(data) > count:
        raise FormatError(f"planes: a plane has {count} bytes at most. Received {len(data)}. Fetch the file again.")
    return Rans.decode(data, "uint8", (count,))
