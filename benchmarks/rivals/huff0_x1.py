"""huff0 with single-symbol tables (X1) for every block."""

from __future__ import annotations

from attar.types import Array
from rivals import huff0
from rivals.huff0 import encode

__all__ = ["NAME", "decode", "encode"]

NAME = f"{huff0.NAME} X1"


def decode(data: bytes, shape: tuple[int, int]) -> Array:
    """See huff0.decode."""
    return huff0.decode(data, shape, 1)
