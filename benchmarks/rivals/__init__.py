"""The coders that attar is measured against, each in one file with the same two functions.

`encode(codes)` takes int8 codes [rows, cols] and gives bytes; `decode(data, shape)` gives the codes back. Importing a
rival's module builds or loads it, and raises ImportError where that fails: `load` turns this into a reason to print.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from attar.types import Array

CODERS = ("zstd", "huff0", "huff0_x1", "huff0_x2", "rans32x16", "ans", "cabac")


class Rival(Protocol):
    """What each module of this package offers."""

    NAME: str
    """As printed, with the version."""

    def encode(self, codes: Array) -> bytes:
        """Bytes of int8 codes [rows, cols]."""
        ...

    def decode(self, data: bytes, shape: tuple[int, int]) -> Array:
        """The codes."""
        ...


def load(name: str) -> Rival | str:
    """The rival's module, or why it cannot be used here."""
    try:
        return cast(Rival, import_module(f"rivals.{name}"))
    except (ImportError, OSError) as error:
        return f"{name} is not measured: {error}"
