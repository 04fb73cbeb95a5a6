"""huff0 with double-symbol tables (X2) for every block."""

from __future__ import annotations

from attar.types import Array
from rivals import huff0
from rivals.huff0 import encode

__all__ = ["NAME", "decode", "encode"]

NAME = f"{huff0.NAME} X2"


def decode(data: bytes, shape: tuple[int, int]) -> Array:
    """See huff0.decode."""
    return huff0.decode(data, shape, 2)
