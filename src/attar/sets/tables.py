"""Tables as text (.csv, .tsv, .jsonl) without loss: column by column, in blocks of some thousand rows."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from attar.archive.base import broken, strict_json
from attar.archive.records import row
from attar.sets import columns, grids, mixed
from attar.sets.grids import Grid
from attar.types import Array, Json

SUFFIXES = (*grids.DELIMITERS, *grids.LINES)
BLOCK = 1 << 23
"""Bytes of a block at most; part of the file format."""
Arrays = Mapping[str, Array]


def encode(data: bytes, suffix: str) -> list[dict[str, Array]] | None:
    """The arrays of each block's part; None for text that is no grid, or does not come back as it was."""
    blocks = _blocks(data)
    parts = []
    for number, block in enumerate(blocks or []):
        grid = grids.split(block, suffix, head=number == 0)
        if grid is None or grids.join(grid) != block:
            return None
        arrays = _encoded(grid, len(block))
        if arrays is None:
            return None
        parts.append(arrays)
    return parts or None


def _blocks(data: bytes) -> list[bytes] | None:
    """Cut behind line feeds that are not within quotes; None where a line is longer than a block."""
    out, at = [], 0
    while len(data) - at > BLOCK:
        values = np.frombuffer(data, np.uint8, BLOCK, at)
        ends = (values == ord("\n")) & (np.cumsum(values == ord('"')) % 2 == 0)
        if not ends.any():
            return None
        end = at + int(np.flatnonzero(ends)[-1]) + 1
        out.append(data[at:end])
        at = end
    return [*out, data[at:]]


def _encoded(grid: Grid, length: int) -> dict[str, Array] | None:
    coded = columns.encode(grid.columns)
    if coded is None:
        return None
    words = b"\n".join(coded.words)
    codec, kept = mixed.code_bytes(words)
    between = [part.decode("latin-1") for part in grid.between]
    if len(set(between[1:-1])) == 1:
        between = [between[0], between[1], between[-1]]
    fields: list[Json] = [
        length, grid.rows, int(grid.ended), grid.head.decode("latin-1"), between, [list(pair) for pair in grid.quoted],
        coded.specs, codec, len(words),
    ]  # fmt: skip
    schema = zlib.compress(json.dumps(fields, separators=(",", ":")).encode(), 9)
    return {"schema": np.frombuffer(schema, np.uint8), "words": kept, **coded.arrays}


def decode(parts: Sequence[Callable[[], Arrays]], length: int, place: str) -> bytes:
    """The file of `length` bytes from its blocks; raises FormatError."""
    out, left = [], length
    for number, part in enumerate(parts):
        out.append(_decoded(dict(part()), left, f"{place}, block {number}"))
        left -= len(out[-1])
    if left:
        raise broken(place, f"its blocks must have {length} bytes", str(length - left))
    return b"".join(out)


def _decoded(arrays: dict[str, Array], most: int, place: str) -> bytes:
    """A block, of `most` bytes at most: what is left of its file."""
    for name in ("schema", "words"):
        if name not in arrays or arrays[name].dtype != np.uint8 or arrays[name].ndim != 1:
            raise broken(place, f"it must have {name}, of bytes", repr(sorted(arrays))[:200])
    fields = _fields(arrays.pop("schema").tobytes(), place)
    length, rows, ended, head, between, quoted, specs, codec, size = fields
    if not 0 < length <= min(BLOCK, most) or size > length or not 0 < len(specs) <= grids.MOST_COLUMNS:
        raise broken(place, f"its rows must be of {min(BLOCK, most)} bytes at most", f"{length}, {len(specs)} columns")
    if len(between) == 3 and len(specs) != 2:
        between = [between[0], *between[1:2] * (len(specs) - 1), between[2]]
    # Each cell has at least a byte beside it, so that these are all that there can be; a last line end may be missing.
    beside = sum(map(len, between))
    if len(between) != len(specs) + 1 or beside < len(specs) or not 0 < rows * beside <= length + 2:
        raise broken(place, f"its cells must be of {length} bytes", f"{rows} rows of {len(specs)}")
    words = mixed.bytes_of(codec, arrays.pop("words"), size)
    each = words.split(b"\n") if _wanted(specs) else []
    cells = columns.decode(specs, arrays, each, rows, length, place)
    grid = Grid(_latin(head, place), tuple(_latin(one, place) for one in between), tuple(cells), quoted, bool(ended))
    if grids.length_of(grid, sum(len(cell) for column in cells for cell in column)) != length:
        raise broken(place, f"its rows must have {length} bytes", "others")
    return grids.join(grid)


def _wanted(specs: Sequence[Json]) -> bool:
    """Whether there are words at all: none and one that is empty are the same text."""
    return any(isinstance(spec, list) and len(spec) > 1 and spec[0] != "text" and spec[-1] for spec in specs)


def _fields(schema: bytes, place: str) -> list[Json]:
    """The block's record, every field but the columns' checked."""
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(schema, BLOCK)
        if not inflate.eof or inflate.unused_data:
            raise ValueError("it does not end")
        fields = row(strict_json(text.decode()), (int, int, int, str, list, list, list, str, int), place)
    except (zlib.error, ValueError, RecursionError) as error:
        raise broken(place, "its schema must be deflated JSON", str(error)[:200]) from error
    if not all(isinstance(one, str) for one in fields[4]):
        raise broken(place, "what stands between cells is text", repr(fields[4])[:200])
    pairs = [row(pair, (int, int), place) for pair in fields[5]]
    if any(max(pair) > 255 for pair in pairs):
        raise broken(place, "stand-ins are bytes", repr(pairs)[:200])
    fields[5] = tuple((one, other) for one, other in pairs)
    return fields


def _latin(text: str, place: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise broken(place, "its text stands for bytes", repr(text)[:100]) from error
