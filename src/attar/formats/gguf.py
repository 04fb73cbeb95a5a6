"""Tensors of a GGUF file: key-value header, tensor records, aligned data (the format's specification in ggml)."""

from __future__ import annotations

from attar.archive.base import count
from attar.archive.packed import SpanInfo
from attar.coding import known_dtype
from attar.formats.source import Bytes, Found, apart

MAGIC = b"GGUF"
LONGEST = 1 << 28
"""Bytes of header that are read."""
DTYPES = {0: "float32", 1: "float16", 24: "int8", 25: "int16", 26: "int32", 27: "int64", 28: "float64", 30: "bfloat16"}
BLOCKS = {
    2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84), 11: (256, 110),
    12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98),
    19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 29: (256, 56), 34: (256, 54),
    35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""Elements and bytes of a block, by the number of a quantised type."""
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9


def accepts(source: Bytes) -> bool:
    """Whether a file begins like one."""
    return source.read(0, min(source.size, 4)) == MAGIC


def find(source: Bytes) -> Found:
    """Its tensors, quantised ones as bytes [blocks, bytes of a block]; raises FormatError where the header is none."""
    head = _Header(source)
    version = head.number(4)
    if not 2 <= version <= 3:
        raise source.broken("its version must be 2 or 3", str(version))
    tensors, pairs = head.number(8), head.number(8)
    alignment = 32
    for _ in range(pairs):
        key, kind = head.text(), head.number(4)
        value = head.value(kind)
        if key == b"general.alignment" and kind == 4:
            alignment = int.from_bytes(value, "little")
    if not 0 < alignment < 1 << 20:
        raise source.broken("its alignment must be 1 to 2**20", str(alignment))
    records = []
    for _ in range(tensors):
        name = head.text().decode("utf-8", "replace")
        axes = [head.number(8) for _ in range(head.number(4))][::-1]
        records.append((name, axes, head.number(4), head.number(8)))
    data = -(-head.at // alignment) * alignment
    spans = [_span(source, data, record) for record in records]
    return Found("gguf", apart([span for span in spans if span is not None]))


def _span(source: Bytes, data: int, record: tuple[str, list[int], int, int]) -> SpanInfo | None:
    """One tensor; None where its type is not known."""
    name, axes, kind, offset = record
    size = count(tuple(axes))
    if kind in DTYPES:
        span = SpanInfo(name, DTYPES[kind], tuple(axes), data + offset)
    elif kind in BLOCKS and size % BLOCKS[kind][0] == 0:
        elements, width = BLOCKS[kind]
        span = SpanInfo(name, "uint8", (size // elements, width), data + offset)
    else:
        return None
    if span.offset + count(span.shape) * known_dtype(span.dtype).itemsize > source.size:
        raise source.broken(f"tensor {name!r} must lie in the file", f"{axes} at {span.offset}")
    return span


class _Header:
    """The header from front to back."""

    def __init__(self, source: Bytes) -> None:
        self.source, self.at = source, 4
        self.data = source.read(0, min(source.size, LONGEST))

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > len(self.data) - self.at:
            raise self.source.broken("its header must fit the file", f"a length of {size} at byte {self.at}")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        """Unsigned."""
        return int.from_bytes(self.take(size), "little")

    def text(self) -> bytes:
        """A length and as many bytes."""
        return self.take(self.number(8))

    def value(self, kind: int, depth: int = 0) -> bytes:
        """One value; of an array nothing is kept."""
        if kind in SCALARS:
            return self.take(SCALARS[kind])
        if kind == STRING:
            return self.text()
        if kind != ARRAY or depth > 4:
            raise self.source.broken("its values must be of a known type", str(kind))
        inner, size = self.number(4), self.number(8)
        if inner in SCALARS:
            self.take(SCALARS[inner] * size)
        else:
            for _ in range(size):
                self.value(inner, depth + 1)
        return b""
