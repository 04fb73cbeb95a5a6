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
    return _PACKER.compress(codes)


def decode(data: bytes, shape: tuple[int, int]) -> Array:
    """A view of the bytes that zstd allocates."""
    return np.frombuffer(_UNPACKER.decompress(data), np.int8).reshape(shape)
