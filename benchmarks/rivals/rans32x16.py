"""htscodecs' order-0 rANS of 32 lanes (CRAM 3.1), from Debian's library, which chooses AVX-512, AVX2 or SSE4 itself."""

from __future__ import annotations

import ctypes

import numpy as np

from attar.types import Array
from rivals.building import debian_library

ORDER_0_OF_32 = 4
"""RANS_ORDER_X32 in rANS_static4x16.h."""


def _load() -> ctypes.CDLL:
    library = debian_library("libhtscodecs2", "libhtscodecs.so.2.*")
    library.htscodecs_version.restype = ctypes.c_char_p
    size = ctypes.POINTER(ctypes.c_uint)
    library.rans_compress_bound_4x16.restype = ctypes.c_uint
    library.rans_compress_bound_4x16.argtypes = [ctypes.c_uint, ctypes.c_int]
    library.rans_compress_to_4x16.restype = ctypes.c_void_p
    library.rans_compress_to_4x16.argtypes = [
        ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, size, ctypes.c_int,
    ]  # fmt: skip
    library.rans_uncompress_to_4x16.restype = ctypes.c_void_p
    library.rans_uncompress_to_4x16.argtypes = [ctypes.c_char_p, ctypes.c_uint, ctypes.c_void_p, size]
    return library


_LIBRARY = _load()
NAME = f"htscodecs rANS 32x16 {_LIBRARY.htscodecs_version().decode()}"


def encode(codes: Array) -> bytes:
    """One stream."""
    size = ctypes.c_uint(_LIBRARY.rans_compress_bound_4x16(codes.size, ORDER_0_OF_32))
    out = np.empty(size.value, np.uint8)
    done = _LIBRARY.rans_compress_to_4x16(
        codes.ctypes.data, codes.size, out.ctypes.data, ctypes.byref(size), ORDER_0_OF_32
    )
    if not done:
        raise ValueError("htscodecs does not encode the codes")
    return out[: size.value].tobytes()


def decode(data: bytes, shape: tuple[int, int]) -> Array:
    """Into a new array."""
    out = np.empty(shape, np.int8)
    size = ctypes.c_uint(out.size)
    if not _LIBRARY.rans_uncompress_to_4x16(data, len(data), out.ctypes.data, ctypes.byref(size)):
        raise ValueError("htscodecs does not decode its own bytes")
    return out
