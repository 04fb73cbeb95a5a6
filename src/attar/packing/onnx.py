"""Tensors of an ONNX file: a walk over the protobuf's wire format to every TensorProto's raw data, without onnx."""

from __future__ import annotations

from collections.abc import Iterator

from attar.archive.base import MOST_AXES, count
from attar.archive.packed import SpanInfo
from attar.coding import known_dtype
from attar.formats.source import Bytes, Found, apart

DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8_e4m3fn",
    18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz",
}  # fmt: skip
MODEL_GRAPH, MODEL_FUNCTIONS = 7, 25
PATHS = {
    "model": {7: "graph", 25: "function"}, "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"}, "node": {5: "attribute"}, "sparse": {1: "tensor", 2: "tensor"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
}  # fmt: skip
"""Which fields of a message lead to tensors (onnx.proto)."""
DIMS, DATA_TYPE, FLOATS, NAME, RAW = 1, 2, 4, 8, 9
SMALL = 256
"""Bytes below which a tensor stays in the shell."""
DEEPEST = 60
Field = tuple[int, int, int, int]
"""Number, wire type, offset and size of the content (the value of a varint as its size)."""


def accepts(source: Bytes) -> bool:
    """Whether a file is a protobuf with a version and a graph."""
    try:
        fields = {number: kind for number, kind, _, _ in _fields(source, 0, source.size)}
    except ValueError:
        return False
    return fields.get(1) == 0 and fields.get(MODEL_GRAPH) == 2 and max(fields) <= MODEL_FUNCTIONS + 5


def find(source: Bytes) -> Found:
    """Its tensors of 256 bytes and more; raises FormatError where the protobuf is cut."""
    try:
        spans = list(_walk(source, "model", 0, source.size, 0))
    except ValueError as error:
        raise source.broken("it must be a whole protobuf", str(error)) from error
    named: list[SpanInfo] = []
    seen: set[str] = set()
    for span in spans:
        name = span.name if span.name and span.name not in seen else f"{span.name or 'tensor'} at {span.offset}"
        seen.add(name)
        named.append(SpanInfo(name, span.dtype, span.shape, span.offset))
    return Found("onnx", apart(named))


def _walk(source: Bytes, kind: str, start: int, size: int, depth: int) -> Iterator[SpanInfo]:
    if depth > DEEPEST:
        raise ValueError(f"messages nested more than {DEEPEST} deep")
    if kind == "tensor":
        span = _tensor(source, start, size)
        if span is not None:
            yield span
        return
    for number, wire, at, length in _fields(source, start, size):
        below = PATHS[kind].get(number)
        if below is not None and wire == 2:
            yield from _walk(source, below, at, length, depth + 1)


def _tensor(source: Bytes, start: int, size: int) -> SpanInfo | None:
    """A tensor with raw_data or float_data of its whole shape; None for others and for small ones."""
    name, dtype, shape, data, floats = "", 0, [], None, []
    for number, wire, at, length in _fields(source, start, size):
        if number == DIMS:
            shape += [length] if wire == 0 else _varints(source.read(at, length))
        elif number == DATA_TYPE and wire == 0:
            dtype = length
        elif number == NAME and wire == 2:
            name = source.read(at, min(length, 4000)).decode("utf-8", "replace")
        elif number == RAW and wire == 2:
            data = (at, length)
        elif number == FLOATS and wire == 2:
            floats.append((at, length))
    if data is None and len(floats) == 1 and dtype == 1:
        data = floats[0]
    known = DTYPES.get(dtype)
    if data is None or known is None or data[1] < SMALL or len(shape) > MOST_AXES:
        return None
    right = count(tuple(shape)) * known_dtype(known).itemsize == data[1]
    return SpanInfo(name, known, tuple(shape), data[0]) if right else None


def _fields(source: Bytes, start: int, size: int) -> Iterator[Field]:
    """The fields of a message; raises ValueError where it is none."""
    at, stop = start, start + size
    while at < stop:
        key, at = _varint(source, at, stop)
        number, wire = key >> 3, key & 7
        length = 0
        if wire == 0:
            length, after = _varint(source, at, stop)
        elif wire == 2:
            length, at = _varint(source, at, stop)
            after = at + length
        elif wire in (1, 5):
            after = at + (8 if wire == 1 else 4)
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if after > stop or number == 0:
            raise ValueError(f"field {number} beyond byte {stop}")
        yield number, wire, at, length
        at = after


def _varint(source: Bytes, at: int, stop: int) -> tuple[int, int]:
    """A number and where it ends."""
    data = source.read(at, min(10, stop - at))
    value = 0
    for k, byte in enumerate(data):
        value |= (byte & 127) << (7 * k)
        if byte < 128:
            return value, at + k + 1
    raise ValueError(f"a number that does not end at byte {at}")


def _varints(data: bytes) -> list[int]:
    """Packed numbers."""
    values, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            values.append(value)
            value = shift = 0
    return values
