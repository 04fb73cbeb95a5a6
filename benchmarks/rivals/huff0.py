"""huff0, zstd's Huffman coder alone: no package exposes it, so it is compiled from the sources of the package zstd."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from attar.types import Array
from rivals.building import compiled, source_of

PACKAGE = "zstd==1.5.7.2"
NAME = "huff0 1.5.7"
PARTS = (
    "common/entropy_common.c", "common/error_private.c", "common/fse_decompress.c", "common/debug.c",
    "compress/fse_compress.c", "compress/hist.c", "compress/huf_compress.c", "decompress/huf_decompress.c",
    "decompress/huf_decompress_amd64.S",
)  # fmt: skip


def _load() -> ctypes.CDLL:
    root = source_of(PACKAGE) / "zstd" / "lib"
    sources = [Path(__file__).with_suffix(".c"), *(root / part for part in PARTS)]
    library = compiled("huff0", sources, [f"-I{root}", f"-I{root / 'common'}", "-DDEBUGLEVEL=0"])
    for name in ("bound", "encode"):
        getattr(library, f"attar_huff0_{name}").restype = ctypes.c_size_t
    library.attar_huff0_bound.argtypes = [ctypes.c_size_t]
    library.attar_huff0_encode.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    library.attar_huff0_decode.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int,
    ]  # fmt: skip
    return library


_LIBRARY = _load()


def encode(codes: Array) -> bytes:
    """Blocks of 128 KiB with a table each."""
    out = np.empty(_LIBRARY.attar_huff0_bound(codes.size), np.uint8)
    return out[: _LIBRARY.attar_huff0_encode(out.ctypes.data, codes.ctypes.data, codes.size)].tobytes()


def decode(data: bytes, shape: tuple[int, int], mode: int = 0) -> Array:
    """By single-symbol tables (mode 1), double-symbol tables (2), or as zstd would choose for each block (0)."""
    out = np.empty(shape, np.int8)
    if _LIBRARY.attar_huff0_decode(out.ctypes.data, out.size, data, len(data), mode):
        raise ValueError("huff0 does not decode its own bytes")
    return out
