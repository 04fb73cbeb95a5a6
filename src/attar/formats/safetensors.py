"""Tensors of a safetensors file: eight bytes of length, a JSON header, data."""

from __future__ import annotations

import json
from pathlib import Path

from attar.archive.base import MOST_AXES, count
from attar.archive.packed import SpanInfo, is_safe
from attar.coding import known_dtype
from attar.errors import UsageError
from attar.formats.source import Bytes, Found, apart
from attar.types import Json

LONGEST = 100_000_000
"""Bytes of header that the format allows."""
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "C64": "complex64",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip

INDEX = ".safetensors.index.json"
"""How the name of an index ends."""


def indexed(index: Path) -> list[Path]:
    """An index and the shards that it names; raises UsageError where one is missing."""
    try:
        shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        files = [index, *(index.with_name(name) for name in shards if "/" not in name and is_safe(name))]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(
            f"index {index.name!r}: it must be JSON with a weight_map. Received another ({error}). Check the file."
        ) from error
    missing = [file.name for file in files if not file.is_file()] + shards[len(files) - 1 :]
    if missing:
        raise UsageError(
            f"index {index.name!r}: its shards must lie beside it. Received none called {missing[0]!r}. Fetch them."
        )
    return files


def accepts(source: Bytes) -> bool:
    """Whether a file begins like one."""
    if source.size < 10:
        return False
    head = source.read(0, 9)
    return 2 <= int.from_bytes(head[:8], "little") <= min(source.size - 8, LONGEST) and head[8:] == b"{"


def find(source: Bytes) -> Found:
    """Its tensors; raises FormatError where the header is none."""
    length = int.from_bytes(source.read(0, 8), "little")
    try:
        header = json.loads(source.read(8, length))
    except (ValueError, RecursionError) as error:
        raise source.broken("its header must be JSON", str(error)[:100]) from error
    metadata = header.pop("__metadata__", None)
    if isinstance(metadata, dict) and "attar" in metadata:
        raise source.broken("a file is packed once", "a .attar file")
    return Found("safetensors", apart([_span(source, 8 + length, name, entry) for name, entry in header.items()]))


def _span(source: Bytes, data: int, name: str, entry: Json) -> SpanInfo:
    """One tensor; bytes where the dtype is not one of whole bytes that are known."""
    offsets: Json = entry.get("data_offsets") if isinstance(entry, dict) else None
    axes: Json = entry.get("shape") if isinstance(entry, dict) else None
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1] or not _are_sizes(axes):
        raise source.broken(f"tensor {name!r} must have a shape and data_offsets", repr(entry)[:100])
    start, stop = offsets
    if stop > source.size - data:
        raise source.broken(f"tensor {name!r} must lie in the file", f"bytes {start} to {stop}")
    dtype, shape = DTYPES.get(entry.get("dtype"), ""), tuple(axes)
    if not dtype or count(shape) * known_dtype(dtype).itemsize != stop - start:
        dtype, shape = "uint8", (stop - start,)
    return SpanInfo(name, dtype, shape, data + start)


def _are_sizes(value: Json) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MOST_AXES
        and all(type(x) is int and 0 <= x < 1 << 40 for x in value)
    )  # fmt: skip
