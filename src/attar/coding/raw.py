"""The `raw` coder: little-endian bytes, for what does not compress."""

from __future__ import annotations

import sys
from math import prod
from typing import ClassVar

import numpy as np

from attar.errors import FormatError
from attar.types import Array


class Raw:
    """Any dtype without objects in it."""

    name: ClassVar[str] = "raw"
    slow: ClassVar[bool] = False

    @staticmethod
    def accepts(array: Array) -> bool:
        """Everything but Python objects, strings and records."""
        return not array.dtype.hasobject and array.dtype.kind not in "SUMm" and array.dtype.names is None

    @staticmethod
    def encode(array: Array) -> bytes:
        """The array's values in C order."""
        return _little(np.ascontiguousarray(array)).tobytes()

    @staticmethod
    def decode(data: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
        """The exact array; raises FormatError where the number of bytes is another."""
        kind = np.dtype(dtype)
        size = prod(shape) * kind.itemsize
        if len(data) != size:
            raise FormatError(
                f"raw: {dtype} {list(shape)} takes {size} bytes. Received {len(data)}. Fetch the file again."
            )
        array = np.frombuffer(data, kind).reshape(shape).copy()
        if kind.kind == "b" and (array.view(np.uint8) > 1).any():
            raise FormatError("raw: booleans are bytes 0 and 1. Received another. Fetch the file again.")
        return _little(array)


def _little(array: Array) -> Array:
    """Bytes swapped where this machine or the array is big-endian."""
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native.byteswap() if sys.byteorder == "big" else native
