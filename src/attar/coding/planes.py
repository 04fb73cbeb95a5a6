"""The `planes` coder: floats by byte planes, so that exponents, which repeat, are coded apart from noise.

The bits are rotated left by one first: the sign joins the mantissa's low end and the exponent's eight bits (bfloat16,
float32) fill the top byte. A plane is coded by `rans`, order-0, where that saves a share of it that is worth the time:
a plane of noise is plain bytes. A constant array is one value. An array whose bytes change their kind on the way (rows
that training never touched, say) is cut into sections of one or the other form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from attar.coding import kernel, symbols
from attar.coding.cutting import BLOCK, U8, sections
from attar.coding.rans import Rans, cheapest
from attar.coding.raw import Raw
from attar.coding.streams import Reader, varint
from attar.errors import FormatError
from attar.types import Array

CONSTANT, SPLIT, CUT = 0, 1, 2
WORDS = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
WORTH = 16
"""A plane is coded where that saves more than 1 in so many of its bytes: plain bytes are read ten times as fast, and
the low bits of floats, half of a checkpoint, have between 1 and 5 in 1,000 to save, in few models 1 in 40.
"""
PRICE = 64
"""Nanoseconds of decoding that a byte less may take: a disk or a network brings it in more than that."""


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
        rotated = _rotate(words, 1)
        planes = [(rotated >> (8 * k)).astype(np.uint8) for k in range(words.itemsize)]
        lengths = sections(planes, WORTH)
        if len(lengths) == 1:
            return _encode_section(words, planes)
        parts, start = [bytes([CUT])], 0
        for length in lengths:
            span = slice(start, start + length * BLOCK)
            parts += [varint(length), _encode_section(words[span], [plane[span] for plane in planes])]
            start = span.stop
        return b"".join(parts)

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
    flat = out.reshape(-1)
    if form != CUT:
        _decode_section(reader, form, flat, width)
    at = 0
    while form == CUT and at < flat.size:
        length = reader.varint()
        if not 0 < length <= -(-(flat.size - at) // BLOCK):
            raise FormatError(f"planes: a section must lie in the array. Received {length}. Fetch the file again.")
        _decode_section(reader, reader.take(1)[0], flat[at : at + length * BLOCK], width)
        at += length * BLOCK
    reader.finish()


def decode_planes_of_many(
    data: Sequence[bytes | memoryview],
    out: Array,
    starts: Sequence[int],
    sizes: Sequence[int],
    widths: Sequence[int],
    threads: int,
) -> None:
    """Fill parts of out, given in bytes by starts [n] and sizes [n], with the words of n arrays; raises FormatError."""
    for one, start, size, width in zip(data, starts, sizes, widths, strict=True):
        decode_planes(one, out[start : start + size].view(WORDS[width]), width, threads)


def _decode_section(reader: Reader, form: int, out: Array, width: int) -> None:
    """Fill words out [n] of one form; raises FormatError."""
    if form == CONSTANT:
        out[...] = Raw.decode(reader.take(width), out.dtype.name, ())
    elif form == SPLIT:
        words = np.zeros(out.size, out.dtype)
        for k in range(width):
            words |= _decode_plane(reader, out.size).astype(out.dtype) << (8 * k)
        out[...] = _rotate(words, 8 * width - 1)
    else:
        raise FormatError(f"planes: the form must be 0, 1 or 2. Received {form}. Upgrade attar.")


def is_float(dtype: np.dtype[np.generic]) -> bool:
    """Whether numpy or ml_dtypes calls it a real float."""
    return dtype.name.startswith(("float", "bfloat"))


def _rotate(words: Array, left: int) -> Array:
    """Bits of unsigned words moved left around the end."""
    return np.asarray((words << left) | (words >> (8 * words.itemsize - left)))


def _encode_section(words: Array, planes: Sequence[U8]) -> bytes:
    """Words [n], given as planes too, in one form."""
    if (words == words[0]).all():
        return bytes([CONSTANT]) + Raw.encode(words[:1])
    return bytes([SPLIT]) + b"".join(_encode_plane(plane) for plane in planes)


def _encode_plane(plane: U8) -> bytes:
    """Length and bytes; the length is that of the plane where they are plain."""
    data = plane.tobytes()
    most = len(data) - len(data) // WORTH
    if _bits(plane) < 8 * most:
        coded, nanoseconds = cheapest(plane[None, :], PRICE)
        if len(coded) < most and nanoseconds < PRICE * (len(data) - len(coded)):
            data = coded
    return varint(len(data)) + data


def _bits(plane: U8) -> float:
    """About what bytes take: their entropy, and half a logarithm for each that occurs."""
    counts = symbols.counted(plane).counts
    return float(-(counts * np.log2(counts / plane.size)).sum() + 0.5 * counts.size * np.log2(plane.size + 1))


def _decode_plane(reader: Reader, count: int) -> Array:
    """One plane of uint8 [count], on the bytes themselves where they are plain; raises FormatError."""
    data = reader.sized()
    if len(data) == count:
        return np.frombuffer(data, np.uint8)
    if len(data) > count:
        raise FormatError(f"planes: a plane has {count} bytes at most. Received {len(data)}. Fetch the file again.")
    return Rans.decode(data, "uint8", (count,))
