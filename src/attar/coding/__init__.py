"""Arrays to bytes and back, lossless: `encode_array` takes the coder with the smallest result.

Slow coders compete only where `effort_for` lets them: dense always, fast never, auto where a file holds so few integers
that it is decoded within a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import ml_dtypes
import numpy as np

from attar import registry
from attar.coding.base import Coder
from attar.coding.kernel import simd_path
from attar.coding.many import planes_of_many
from attar.coding.scaled import F32, fused, scaled
from attar.errors import FormatError, UsageError
from attar.types import Array

__all__ = [
    "EFFORTS",
    "decode_array",
    "decode_arrays",
    "decode_scaled",
    "effort_for",
    "effort_of",
    "encode_array",
    "known_dtype",
    "simd_path",
]

EFFORTS = ("auto", "fast", "dense")
SOON = 1 << 22
"""Integers that a slow coder decodes within a second."""

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "complex64", "complex128", "bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn",
    "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip
"""Names that a file may hold; numpy's own and those of ml_dtypes."""
Coded = tuple[str, bytes | memoryview, str, tuple[int, ...]]
"""An array's coder, bytes, dtype and shape."""
_KNOWN = {name: np.dtype(getattr(ml_dtypes, name, name)) for name in DTYPES}


def known_dtype(name: str) -> np.dtype[np.generic]:
    """The dtype of a name in a file; raises FormatError for others."""
    if name not in _KNOWN:
        raise FormatError(f"array: the dtype must be one of {', '.join(DTYPES)}. Received {name!r}. Upgrade attar.")
    return _KNOWN[name]


def effort_for(wish: str, arrays: Iterable[Array]) -> str:
    """What `auto` comes to for the arrays of one file: dense or fast; raises UsageError for what is no effort."""
    return effort_of(wish, sum(array.size for array in arrays if array.dtype.kind in "biu"))


def effort_of(wish: str, integers: int) -> str:
    """The same for a number of integers."""
    if wish not in EFFORTS:
        raise UsageError(f"coder: it must be one of {', '.join(EFFORTS)}. Received {wish!r}. Choose one of these.")
    if wish != "auto":
        return wish
    return "dense" if integers <= SOON else "fast"


def encode_array(array: Array, effort: str = "fast") -> tuple[str, bytes]:
    """The shortest coding of an array, (coder's name, bytes); the first registered coder among equals.

    effort is fast or dense. Raises UsageError for dtypes that no file may hold.
    """
    if array.dtype.name not in _KNOWN:
        raise UsageError(
            f"array: the dtype must be one of {', '.join(DTYPES)}. Received {array.dtype}. Convert the tensor first."
        )
    best: tuple[str, bytes] | None = None
    for name in registry.names("coder"):
        coder = registry.get("coder", name)
        if name != "raw" and coder.accepts(array) and (effort == "dense" or not coder.slow):
            data = coder.encode(array)
            best = (name, data) if best is None or len(data) < len(best[1]) else best
    # Raw bytes are copied only where nothing is shorter.
    if best is None or len(best[1]) >= array.nbytes:
        return "raw", registry.get("coder", "raw").encode(array)
    return best


def decode_array(coder: str, data: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
    """The exact array; raises FormatError where the bytes cannot be it, or where the coder is unknown."""
    array: Array = _decoder(coder, dtype).decode(data, dtype, shape)
    return array


def decode_arrays(coded: Sequence[Coded]) -> list[Array]:
    """The exact arrays of (coder, bytes, dtype, shape), in order; raises FormatError as `decode_array` does.

    Floats of less than 4 MiB share one block of memory, which lasts as long as one of them.
    """
    found: list[Array | None] = [None] * len(coded)
    together = [k for k, (coder, _, dtype, _) in enumerate(coded) if coder == "planes" and _decoder(coder, dtype)]
    chosen = [coded[k] for k in together]
    arrays = planes_of_many([c[1] for c in chosen], [_KNOWN[c[2]] for c in chosen], [c[3] for c in chosen])
    for k, array in zip(together, arrays, strict=True):
        found[k] = array
    return [decode_array(*one) if array is None else array for one, array in zip(coded, found, strict=True)]


@cache
def _decoder(coder: str, dtype: str) -> Coder:
    """The coder of a name, where it codes this dtype; raises FormatError. Small arrays take less time than to look."""
    kind = known_dtype(dtype)
    if coder not in registry.REGISTRY["coder"]:
        raise FormatError(
            f"array: the coder must be one of {', '.join(registry.names('coder'))}. Received {coder!r}. "
            "Upgrade attar: pip install --upgrade attar."
        )
    found: Coder = registry.get("coder", coder)
    if not found.accepts(np.empty(0, kind)):
        raise FormatError(f"array: {coder} does not code {dtype}. Received such an array. Fetch the file again.")
    return found


def decode_scaled(
    coder: str,
    data: bytes | memoryview,
    dtype: str,
    shape: tuple[int, ...],
    row: F32,
    column: F32,
    format: str = "float32",
) -> Array:
    """An integer matrix times its scales, code * column * row, without the integers being stored between.

    row [rows] and column [groups, cols] (or [groups, 1]) are float32; the rows divide evenly into groups.
    The result [rows, cols] is float32, float16 or bfloat16 (`format`), rounded to nearest, ties to even. Raises
    FormatError where the bytes cannot be such a matrix.
    """
    kind = known_dtype(dtype)
    if kind.kind not in "biu" or len(shape) != 2 or row.shape != shape[:1] or column.shape[1:] not in (shape[1:], (1,)):
        raise FormatError(
            f"array: scales [rows] and [groups, cols] go with an integer matrix. Received {dtype} {list(shape)} with "
            f"{list(row.shape)} and {list(column.shape)}. Fetch the file again."
        )
    if not len(column) or shape[0] % len(column):
        raise FormatError(
            f"array: the rows must divide into the groups. Received {shape[0]} and {len(column)}. Fetch the file again."
        )
    row = np.ascontiguousarray(row, np.float32)
    if column.shape[1] != shape[1]:
        column = np.broadcast_to(column, (len(column), shape[1]))
    column = np.ascontiguousarray(column, np.float32)
    if coder == "rans":
        return fused(data, dtype, shape, row, column, format)
    return scaled(decode_array(coder, data, dtype, shape), row, column, format)
