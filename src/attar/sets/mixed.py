"""Bytes one by one under mixed contexts, and plain bytes by whichever codec makes them smallest."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from attar.archive import blobs
from attar.archive.base import SkeletonInfo, broken
from attar.coding import kernel
from attar.types import Array

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
CONTEXTS, REACH, WORD = 6, 6, -1
"""Contexts of a symbol, bytes that each looks at, and the distance that stands for the word so far."""
MOST = 1 << 24
"""Symbols that are coded in one go."""
FREE = 1 << 16
"""Symbols that may take no bytes at all. Each takes about a microsecond, however few its bytes: so that a file cannot
ask for hours, more of them need their share of bytes, and what would take fewer is written in another way.
"""
BYTES_A_BYTE, CODES_A_BYTE = 8, 12
"""Bytes of text, and codes of a table, for each byte that they take, at most: exponents of 2."""
STEADY, HASTY = 1023, 127
"""Uses that counters remember: of tables, whose columns stay as they are, and of text."""
ORDERS: I32 = np.array(
    [[[1, 0, 0, 0, 0, 0], [1, 2, 0, 0, 0, 0], [1, 2, 3, 0, 0, 0], [1, 2, 3, 4, 0, 0], [1, 2, 3, 4, 5, 6],
      [WORD, 0, 0, 0, 0, 0]]], np.int32,
)  # fmt: skip
"""The contexts of text [1, contexts, reach]: the last bytes, and the word."""
TEXT_BITS: U8 = np.array([8], np.uint8)
WORTHWHILE = 0.9
"""Share to which fast deflate has to bring bytes so that contexts are tried: they take a microsecond a byte."""


def mixed_kernel() -> ModuleType:
    """The native code, or its twin."""
    found = kernel.kernel()
    return found if hasattr(found, "mixed_encode") else import_module("attar.sets.mixed_twin")


def allowed(nbytes: int, a_byte: int = BYTES_A_BYTE) -> int:
    """Symbols that so many bytes may stand for."""
    return FREE + (nbytes << a_byte)


def encode(symbols: U8, distances: I32, bits: U8, limit: int) -> bytes:
    """Symbols [n], symbol i of column i mod columns; distances [columns, 6, 6], bits [columns]: native/mixed.hpp."""
    data: bytes = mixed_kernel().mixed_encode(distances, bits, limit, np.ascontiguousarray(symbols))
    return data


def decode(data: U8, distances: I32, bits: U8, limit: int, count: int, a_byte: int = BYTES_A_BYTE) -> U8:
    """Inverse of encode; raises FormatError, and for more symbols than the bytes may stand for, too."""
    most = min(MOST, allowed(data.size, a_byte))
    if count > most:
        raise broken("symbols", f"there may be {most} in a run of {data.size} bytes", str(count))
    out = np.zeros(count, np.uint8)
    with kernel.refused(f"{count} symbols under mixed contexts", data.size):
        mixed_kernel().mixed_decode(distances, bits, limit, np.ascontiguousarray(data), out)
    return out


def code_bytes(data: bytes) -> tuple[str, U8]:
    """The codec that makes bytes smallest, `mixed` or one of the skeleton's, and what they are under it."""
    form, _, blob = blobs.code_skeleton(data)
    codec = form.codec
    if data and len(data) <= MOST and len(zlib.compress(data, 1)) < WORTHWHILE * len(data):
        mixed = encode(np.frombuffer(data, np.uint8), ORDERS, TEXT_BITS, HASTY)
        if len(mixed) < len(blob) and len(data) <= allowed(len(mixed)):
            codec, blob = "mixed", mixed
    return codec, np.frombuffer(blob, np.uint8)


def bytes_of(codec: str, data: U8, length: int) -> bytes:
    """Inverse of code_bytes; raises FormatError."""
    if codec == "mixed":
        return decode(data, ORDERS, TEXT_BITS, HASTY, length).tobytes()
    return blobs.decode_skeleton(SkeletonInfo(codec, length), data.tobytes())


def only(arrays: Mapping[str, Array], place: str) -> tuple[str, U8]:
    """The one array of a part, bytes under the codec that it is called by; raises FormatError."""
    if len(arrays) == 1:
        for codec, data in arrays.items():
            if data.dtype == np.uint8 and data.ndim == 1:
                return codec, data
    raise broken(place, "it must have one array, of bytes", repr(sorted(arrays))[:200])
