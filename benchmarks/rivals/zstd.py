"""Zstandard at level 19, by the package zstandard."""

from __future__ import annotations

import numpy as np
import zstandard

from attar.types import Array

NAME = f"zstd -19 {'.'.join(map(str, zstandard.ZSTD_VERSION))}"
_PACKER = zstandard.ZstdCompressor(level=19)
_UNPACKER = zstandard.ZstdDecompressor()


def encode(codes: Array) -> bytes:
    """One frame; its header holds the size."""
    return pack(codes)


def decode(data: bytes, shape: tuple[int, int]) -> Array:
    """A view of the bytes that zstd allocates."""
    return np.frombuffer(unpack(data), np.int8).reshape(shape)


def pack(data: bytes | Array) -> bytes:
    """One frame of any bytes."""
    return _PACKER.compress(data)


def unpack(packed: bytes) -> bytes:
    """The same bytes."""
    return _UNPACKER.decompress(packed)
