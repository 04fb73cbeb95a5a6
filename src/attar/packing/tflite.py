"""Tensors of a TFLite file: a walk over the flatbuffer to the values of every stored tensor, without its packages."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from attar.adapters.tflite.reader import DTYPES as NAMES
from attar.adapters.tflite.reader import IDENTIFIER, Walk
from attar.archive.base import MOST_AXES, count
from attar.archive.packed import SpanInfo
from attar.coding import known_dtype
from attar.formats.source import Bytes, Found, apart

NUMBERS = {
    0: "FLOAT32", 1: "FLOAT16", 2: "INT32", 3: "UINT8", 4: "INT64", 6: "BOOL", 7: "INT16", 8: "COMPLEX64", 9: "INT8",
    10: "FLOAT64", 11: "COMPLEX128", 12: "UINT64", 15: "UINT32", 16: "UINT16", 18: "BFLOAT16",
}  # fmt: skip
"""Names of types of tensors by their number (schema.fbs, TensorType)."""
SUBGRAPHS, BUFFERS, TENSORS = 2, 4, 0
SHAPE, TYPE, BUFFER, NAME, SPARSITY = 0, 1, 2, 3, 6
DATA = 0
SMALL = 256
"""Bytes below which a tensor stays in the shell."""


def accepts(source: Bytes) -> bool:
    """Whether a file is marked as one."""
    return source.size > 8 and source.read(4, 4) == IDENTIFIER


def find(source: Bytes) -> Found:
    """Its tensors of 256 bytes and more; raises FormatError where the flatbuffer is damaged."""
    try:
        walk = Walk(source.read(0, source.size))
        root = walk.u32(0)
        walk.table("Model", root)
        spans = list(_spans(walk, root))
    except (ValueError, struct.error) as error:
        raise source.broken("it must be a whole flatbuffer", str(error)) from error
    named: list[SpanInfo] = []
    seen: set[str] = set()
    for span in spans:
        name = span.name if span.name and span.name not in seen else f"{span.name or 'tensor'} at {span.offset}"
        seen.add(name)
        named.append(SpanInfo(name, span.dtype, span.shape, span.offset))
    return Found("tflite", apart(named))


def _tables(walk: Walk, table: int, number: int) -> Iterator[int]:
    start, length = walk.vector(table, number, 4)
    for at in range(start, start + 4 * length, 4):
        yield at + walk.u32(at)


def _spans(walk: Walk, root: int) -> Iterator[SpanInfo]:
    """The values of each buffer, as the first tensor that has them sees them."""
    values = [walk.vector(buffer, DATA, 1) for buffer in _tables(walk, root, BUFFERS)]
    taken: set[int] = set()
    for graph in _tables(walk, root, SUBGRAPHS):
        for tensor in _tables(walk, graph, TENSORS):
            buffer = _number(walk, tensor, BUFFER, 4)
            if buffer in taken or buffer >= len(values) or values[buffer][1] < SMALL:
                continue
            start, length = walk.vector(tensor, SHAPE, 4)
            shape = struct.unpack_from(f"<{length}i", walk.data, start) if length <= MOST_AXES else ()
            kind = NAMES.get(NUMBERS.get(_number(walk, tensor, TYPE, 1), ""))
            if kind is None or walk.field(tensor, SPARSITY) is not None or any(size < 0 for size in shape):
                continue
            if count(shape) * known_dtype(kind).itemsize == values[buffer][1]:
                taken.add(buffer)
                at, size = walk.vector(tensor, NAME, 1)
                name = walk.data[at : at + min(size, 4000)].decode("utf-8", "replace")
                yield SpanInfo(name, kind, shape, values[buffer][0])


def _number(walk: Walk, table: int, field: int, width: int) -> int:
    """A number of a table without a sign; 0 where it is not given."""
    at = walk.field(table, field)
    return 0 if at is None else int.from_bytes(walk.data[at : at + width], "little")
