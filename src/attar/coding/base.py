"""What a coder is: lossless, self-describing but for dtype and shape, and deaf to nothing but FormatError.

The laws (tests/kits/coder_laws.py, run over every registered coder): round trip of empty, one-symbol, constant and
full-range input; truncated or altered bytes raise FormatError or give a wrong array, never a crash, a hang or an
allocation beyond the stated shape; the native kernel and its numpy twin write the same bytes.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from attar.types import Array


class Coder(Protocol):
    """Arrays to bytes and back."""

    name: ClassVar[str]
    slow: ClassVar[bool]
    """Whether it decodes some million values a second, where others decode some hundred million."""

    @staticmethod
    def accepts(array: Array) -> bool:
        """Whether `encode` takes this dtype and shape."""
        ...

    @staticmethod
    def encode(array: Array) -> bytes:
        """The array's values, without its dtype and shape."""
        ...

    @staticmethod
    def decode(data: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
        """The exact array; raises FormatError where the bytes cannot be it."""
        ...
