"""TFLite files read with checks: the flatbuffer's structure first, then every number that points to something.

Flatbuffers are trees of offsets, and a stranger's may point anywhere: behind the end, or a million times to the same
place. The tables are walked once, with every offset and length checked and no more entries than the bytes can hold,
before the generated classes read them. What is written, or handed to the runtime, is packed anew from what was read.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attar.errors import AttarError, FormatError, ModelError
from attar.types import Array

IDENTIFIER = b"TFL3"
LARGEST = 2**31 - 2**16
"""Bytes of a flatbuffer, at most."""
MOST_VALUES = 2**31
"""Elements of one tensor, at most: the runtime counts them in 32 bits."""
LOOKS_LIKE = (
    (b"PK\x03\x04", "a zip archive (a Keras or PyTorch file, perhaps)"),
    (b"\x89HDF", "an HDF5 file (an older Keras model, perhaps)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"version https://git-lfs", "a Git LFS pointer: the model itself was not downloaded"),
    (b"<", "an HTML or XML page"),
)
VECTORS: dict[str, dict[int, str]] = {
    "Model": {1: "OperatorCode", 2: "SubGraph", 4: "Buffer", 6: "Metadata", 7: "SignatureDef", 8: "", 9: ""},
    "SubGraph": {0: "Tensor", 3: "Operator"},
    "SignatureDef": {0: "TensorMap", 1: "TensorMap"},
    "Tensor": {9: ""},
    "SparsityParameters": {2: "DimensionMetadata"},
}
"""Vectors of tables, by table and number of the field in the schema; "" for those that attar does not take."""
TABLES: dict[str, dict[int, str]] = {"Tensor": {4: "QuantizationParameters", 6: "SparsityParameters"}}
TEXTS: dict[str, tuple[int, ...]] = {
    "Model": (3,), "OperatorCode": (1,), "SubGraph": (4,), "Tensor": (3,), "Metadata": (0,), "SignatureDef": (2,),
    "TensorMap": (0,),
}  # fmt: skip
BITS = {"INT4": 4, "UINT4": 4, "INT2": 2}
DTYPES = {
    "FLOAT32": "float32", "FLOAT16": "float16", "FLOAT64": "float64", "BFLOAT16": "bfloat16", "INT8": "int8",
    "UINT8": "uint8", "INT16": "int16", "UINT16": "uint16", "INT32": "int32", "UINT32": "uint32", "INT64": "int64",
    "UINT64": "uint64", "BOOL": "bool", "COMPLEX64": "complex64", "COMPLEX128": "complex128",
}  # fmt: skip
"""numpy's names of the types of tensors that it has."""


class Walk:
    """One pass over the tables; raises ValueError or struct.error where something points outside."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.entries = len(data) // 4
        self.text = 4 * len(data) + 2**16

    def u32(self, at: int) -> int:
        """An unsigned integer; negative places would count from the end."""
        if at < 0:
            raise ValueError("an offset before the start")
        return int(struct.unpack_from("<I", self.data, at)[0])

    def field(self, table: int, number: int) -> int | None:
        """Where a field of a table lies; None where it is not given."""
        vtable = table - int(struct.unpack_from("<i", self.data, table)[0])
        if vtable < 0:
            raise ValueError("a table of fields before the start")
        size, length = struct.unpack_from("<HH", self.data, vtable)
        if vtable + size > len(self.data) or table + length > len(self.data) or size < 4:
            raise ValueError("a table behind the end")
        if 4 + 2 * number + 2 > size:
            return None
        offset = int(struct.unpack_from("<H", self.data, vtable + 4 + 2 * number)[0])
        if offset and not 4 <= offset < length:
            raise ValueError("a field outside of its table")
        return table + offset if offset else None

    def vector(self, table: int, number: int, width: int) -> tuple[int, int]:
        """The first place and the length of a vector of so wide entries; (0, 0) where it is not given."""
        at = self.field(table, number)
        if at is None:
            return 0, 0
        start = at + self.u32(at)
        count = self.u32(start)
        if start + 4 + count * width > len(self.data):
            raise ValueError("a vector behind the end")
        return start + 4, count

    def table(self, kind: str, at: int) -> None:
        """A table and all below it."""
        for number in TEXTS.get(kind, ()):
            self.text -= self.vector(at, number, 1)[1]
        for number, below in TABLES.get(kind, {}).items():
            place = self.field(at, number)
            if place is not None:
                self.table(below, place + self.u32(place))
        for number, below in VECTORS.get(kind, {}).items():
            start, count = self.vector(at, number, 4)
            self.entries -= count
            if self.entries < 0 or self.text < 0 or (count and not below):
                raise ValueError("more entries than its bytes can hold" if below else f"a {kind} of a kind unknown")
            for k in range(count):
                place = start + 4 * k
                self.table(below, place + self.u32(place))


def read_file(path: Path) -> bytes:
    """A file's bytes; raises FormatError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(
            f"model {path.name!r}: it must be a file that can be read. Received: {error.strerror}. "
            "Pass the .tflite file."
        ) from error


def parsed(data: bytes, name: str) -> Any:
    """A ModelT of the schema's object API, checked; raises FormatError, ModelError for what attar does not take."""
    from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]

    _check_start(data, name)
    try:
        Walk(data).table("Model", int(struct.unpack_from("<I", data, 0)[0]))
        model = schema.ModelT.InitFromPackedBuf(data)
        check(model, data, name)
    except AttarError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
        raise FormatError(
            f"model {name!r}: every table must lie within the file. Received {error or type(error).__name__}. "
            "The file is damaged: fetch or convert it again."
        ) from error
    return model


def _check_start(data: bytes, name: str) -> None:
    kind = next((what for start, what in LOOKS_LIKE if data.startswith(start)), None)
    if not data:
        kind = "an empty file"
    elif kind is None and data[4:8] != IDENTIFIER:
        kind = "no TFL3 in its first eight bytes"
    elif kind is None and len(data) > LARGEST:
        kind = f"{len(data)} bytes, more than a flatbuffer holds"
    if kind:
        raise FormatError(f"model {name!r}: the file must be TFLite. Received {kind}. Convert the model again.")


def check(model: Any, data: bytes, name: str) -> None:
    """That all indices are in range and stored values have their tensor's size; texts become str, arrays int32.

    Raises FormatError, ValueError.
    """
    if model.version != 3 or not model.subgraphs or not model.buffers or model.operatorCodes is None:
        raise ValueError(f"version {model.version} with {len(model.subgraphs or ())} graphs")
    for code in model.operatorCodes:
        code.builtinCode = max(int(code.builtinCode), int(code.deprecatedBuiltinCode))
    for buffer in model.buffers:
        _gathered(buffer, data)
    for place, graph in enumerate(model.subgraphs):
        graph.tensors, graph.operators = graph.tensors or [], graph.operators or []
        for field in ("inputs", "outputs"):
            setattr(graph, field, _indices(getattr(graph, field), len(graph.tensors), least=0))
        for tensor in graph.tensors:
            _check_tensor(tensor, model.buffers)
        for operator in graph.operators:
            if not 0 <= operator.opcodeIndex < len(model.operatorCodes):
                raise ValueError("an operator without a code")
            operator.inputs = _indices(operator.inputs, len(graph.tensors), least=-1)
            operator.outputs = _indices(operator.outputs, len(graph.tensors), least=0)
            if operator.intermediates is not None:
                operator.intermediates = _indices(operator.intermediates, len(graph.tensors), least=0)
            _check_called(operator.builtinOptions, len(model.subgraphs))
            if operator.largeCustomOptionsOffset > 1:
                raise ModelError(
                    f"model {name!r}: options of operators must lie inside of the flatbuffer. Received "
                    "some behind its end. Convert the model again without them."
                )
        if not place and not (graph.operators and graph.inputs and graph.outputs):
            raise ValueError("a graph without operators, inputs or outputs")
    for signature in model.signatureDefs or ():
        if not 0 <= signature.subgraphIndex < len(model.subgraphs):
            raise ValueError("a signature of no graph")
        count = len(model.subgraphs[signature.subgraphIndex].tensors)
        _indices([m.tensorIndex for m in [*(signature.inputs or ()), *(signature.outputs or ())]], count, least=0)
    _indices([entry.buffer for entry in model.metadata or ()], len(model.buffers), least=0)


def _gathered(buffer: Any, data: bytes) -> None:
    """The buffer's bytes in the table, also where they lie behind the flatbuffer, as in files beyond 2 GB."""
    if buffer.offset > 1:
        if buffer.offset + buffer.size > len(data):
            raise ValueError("values behind the end")
        buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
    elif buffer.data is not None:
        buffer.data = np.asarray(buffer.data, np.uint8)
    buffer.offset = buffer.size = 0


def _indices(given: Any, count: int, *, least: int) -> list[int]:
    found = [] if given is None else [int(index) for index in given]
    if any(not least <= index < count for index in found):
        raise ValueError("a number of a tensor that there is not")
    return found


def _check_called(options: Any, graphs: int) -> None:
    """Numbers of graphs in the options of If, While, Call."""
    for field, value in vars(options).items() if options is not None else ():
        if field.lower().endswith("subgraphindex") and not -1 <= int(value) < graphs:
            raise ValueError("a number of a graph that there is not")


def _check_tensor(tensor: Any, buffers: Sequence[Any]) -> None:
    """Shape and stored values of one tensor; raises ValueError."""
    tensor.name = (tensor.name or b"").decode("utf-8", "replace")
    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    tensor.shape = np.array(shape, np.int32)
    if not 0 <= tensor.buffer < len(buffers):
        raise ValueError(f"tensor {tensor.name!r} with values in a place that there is not")
    if any(size < 0 for size in shape) or np.prod([float(size) for size in shape]) > MOST_VALUES:
        raise ValueError(f"tensor {tensor.name!r} of the shape {shape}")
    if tensor.shapeSignature is not None and len(tensor.shapeSignature) != len(shape):
        raise ValueError(f"tensor {tensor.name!r} with two numbers of axes")
    stored = buffers[tensor.buffer].data
    if stored is not None and len(stored) and tensor.sparsity is None:
        wanted = nbytes(tensor)
        if wanted is not None and wanted != len(stored):
            raise ValueError(f"tensor {tensor.name!r} with {len(stored)} bytes for the shape {shape}")
    _check_scales(tensor, shape)


def _check_scales(tensor: Any, shape: list[int]) -> None:
    """As many scales as the channels of the axis they are for."""
    given = tensor.quantization
    scales = 0 if given is None or given.scale is None else len(given.scale)
    zeros = 0 if given is None or given.zeroPoint is None else len(given.zeroPoint)
    if scales > 1 and (not 0 <= given.quantizedDimension < len(shape) or scales != shape[given.quantizedDimension]):
        raise ValueError(f"tensor {tensor.name!r} with {scales} scales for the shape {shape}")
    if zeros and zeros not in (1, scales):
        raise ValueError(f"tensor {tensor.name!r} with {zeros} zero points for {scales} scales")


def type_name(tensor: Any) -> str:
    """The schema's name of a tensor's type, "" where it is unknown."""
    from ai_edge_litert.schema_py_generated import TensorType

    return next((name for name, value in vars(TensorType).items() if value == tensor.type and name[0] != "_"), "")


def nbytes(tensor: Any) -> int | None:
    """Bytes that a tensor's values take; None for texts and handles."""
    kind, count = type_name(tensor), int(np.prod(tensor.shape, dtype=np.int64))
    if kind in BITS:
        return -(-count * BITS[kind] // 8)
    return count * np_dtype(kind).itemsize if kind in DTYPES else None


def np_dtype(kind: str) -> np.dtype[Any]:
    """numpy's type of one of DTYPES."""
    if kind == "BFLOAT16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(DTYPES[kind])


def values_of(tensor: Any, buffer: Any) -> Array | None:
    """A tensor's stored values in its shape, a view; None where it has none, or numpy has no such type."""
    kind = type_name(tensor)
    if buffer.data is None or not len(buffer.data) or kind not in DTYPES:
        return None
    return np.asarray(buffer.data).view(np_dtype(kind)).reshape(tensor.shape)
