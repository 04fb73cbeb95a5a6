"""The tensors of an ONNX model, kept as arrays beside a model of empty tensors.

`Store` takes the data of every larger tensor out of a ModelProto and leaves a stub (name, dims, type, data_location
EXTERNAL). So no message ever grows beyond protobuf's 2 GB, external data stay memory-mapped until used, and the stubs
alone are the archive's skeleton.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from attar.errors import FormatError
from attar.types import Array

DTYPES: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.UINT8: np.dtype(np.uint8),
    TensorProto.INT8: np.dtype(np.int8),
    TensorProto.UINT16: np.dtype(np.uint16),
    TensorProto.INT16: np.dtype(np.int16),
    TensorProto.INT32: np.dtype(np.int32),
    TensorProto.INT64: np.dtype(np.int64),
    TensorProto.BOOL: np.dtype(np.bool_),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.UINT32: np.dtype(np.uint32),
    TensorProto.UINT64: np.dtype(np.uint64),
    TensorProto.COMPLEX64: np.dtype(np.complex64),
    TensorProto.COMPLEX128: np.dtype(np.complex128),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    TensorProto.FLOAT8E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    TensorProto.FLOAT8E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz),
    TensorProto.FLOAT8E5M2: np.dtype(ml_dtypes.float8_e5m2),
    TensorProto.FLOAT8E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz),
}
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
"""Types of weights that can be layers."""
INLINE_ELEMENTS = 64
"""Integer tensors up to this size (shapes, axes) stay in the model: shape inference and the skeleton need them."""
OUTSIDE = TensorProto.EXTERNAL
DATA_FIELDS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "external_data")


@dataclass(slots=True)
class Slot:
    """One stored tensor: its unique name, its stub in the model, and its values (never modified, only replaced)."""

    name: str
    proto: TensorProto
    values: Array | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's own shape."""
        return tuple(self.proto.dims)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Numpy's (or ml_dtypes') type; uint8 for packed types such as int4."""
        return DTYPES.get(self.proto.data_type, np.dtype(np.uint8))

    @property
    def floating(self) -> bool:
        """Whether it can be a weight."""
        return self.proto.data_type in FLOATS

    @property
    def array(self) -> Array:
        """The values; raises FormatError in a skeleton that has not been filled."""
        if self.values is None:
            raise FormatError(f"tensor {self.name!r}: its values must be present. Received a skeleton. Write it first.")
        return self.values


def bodies_of(node: NodeProto, index: int) -> Iterator[tuple[str, GraphProto]]:
    """The graphs that one node (If, Loop, Scan ...), the index-th of its graph, holds; each with a readable path."""
    for attribute in node.attribute:
        bodies = [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)
        for number, body in enumerate(bodies):
            suffix = f"_{number}" if number else ""
            yield f"{node.name or f'{node.op_type}_{index}'}/{attribute.name}{suffix}", body


def all_tensors(graph: GraphProto, path: str = "") -> Iterator[tuple[str, str, TensorProto]]:
    """(path, name, tensor) of every initializer and Constant node in a graph and the graphs in it."""
    for tensor in graph.initializer:
        yield path, tensor.name, tensor
    yield from _node_tensors(graph.node, path)


def _node_tensors(nodes: Iterable[NodeProto], path: str) -> Iterator[tuple[str, str, TensorProto]]:
    for index, node in enumerate(nodes):
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield path, node.output[0], attribute.t
        for place, body in bodies_of(node, index):
            yield from all_tensors(body, f"{path}{place}/")


class Store:
    """A model of stubs and the values that belong into them."""

    def __init__(self, model: ModelProto, folder: Path | None = None):
        self.model = model
        self.files = external_files(model, folder)
        """Files beside the model that hold external data; a model that came so is saved so."""
        self.slots: dict[str, Slot] = {}
        self._of_proto: dict[int, Slot] = {}
        for name, tensor in named(model):
            slot = Slot(name, tensor, None)
            slot.values = _take(slot, folder)
            self._add(slot)

    def _add(self, slot: Slot) -> None:
        self.slots[slot.name] = slot
        self._of_proto[id(slot.proto)] = slot

    def slot_of(self, tensor: TensorProto) -> Slot | None:
        """The slot whose stub this is."""
        return self._of_proto.get(id(tensor))

    def nbytes(self) -> int:
        """Bytes of all values."""
        return sum(slot.values.nbytes for slot in self.slots.values() if slot.values is not None)

    def refreshed(self) -> Store:
        """A store over the same model after nodes or tensors were added or removed; values stay with their stubs."""
        known = {number: slot.values for number, slot in self._of_proto.items()}
        return _adopt(self.model, self.files, lambda tensor, _: known.get(id(tensor)))

    def clone(self) -> Store:
        """A copy of the model's stubs with the same values."""
        model = ModelProto()
        model.CopyFrom(self.model)
        return _adopt(model, self.files, lambda _, name: self.slots[name].values)

    def add(self, graph: GraphProto, name: str, values: Array, data_type: int) -> None:
        """A new initializer; it becomes a slot of the store that `refreshed` returns."""
        tensor = graph.initializer.add(name=name, data_type=data_type, dims=values.shape, data_location=OUTSIDE)
        self._add(Slot(name, tensor, values))


def _adopt(model: ModelProto, files: frozenset[Path], values: Callable[[TensorProto, str], Array | None]) -> Store:
    store = Store.__new__(Store)
    store.model, store.files, store.slots, store._of_proto = model, files, {}, {}
    for name, tensor in named(model):
        store._add(Slot(name, tensor, values(tensor, name)))
    return store


def external_files(model: ModelProto, folder: Path | None) -> frozenset[Path]:
    """The files that hold tensors of a model in this folder."""
    locations = {e.value for _, tensor in named(model) for e in tensor.external_data if e.key == "location"}
    return frozenset((folder or Path()) / location for location in locations)


def named(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Every tensor but strings, with a unique name: its own, with the path of its graph where that is taken."""
    taken: set[str] = set()
    functions = (_node_tensors(f.node, f"{f.domain}.{f.name}/") for f in model.functions)
    for path, name, tensor in chain(all_tensors(model.graph), *functions):
        if tensor.data_type == TensorProto.STRING:
            continue
        unique = name if name not in taken else f"{path}{name}"
        while unique in taken:
            unique += "+"
        taken.add(unique)
        yield unique, tensor


def _take(slot: Slot, folder: Path | None) -> Array | None:
    """The tensor's values; larger ones are taken out of the message. None where the message is a skeleton's stub."""
    tensor = slot.proto
    if tensor.data_location == OUTSIDE and not tensor.external_data:
        return None
    values = _mapped(slot, folder) if tensor.external_data else decoded(slot)
    if stays_inside(tensor):
        if tensor.external_data:
            put(tensor, values)
        return values
    empty(tensor)
    return values


def stays_inside(tensor: TensorProto) -> bool:
    """Scalars, and small tensors of other types than weights, are part of the structure."""
    if tensor.data_type in FLOATS:
        return not tensor.dims
    return bool(math.prod(tensor.dims) <= INLINE_ELEMENTS)


def empty(tensor: TensorProto) -> None:
    """Leave the stub only."""
    for field in DATA_FIELDS:
        tensor.ClearField(field)
    tensor.data_location = OUTSIDE


def put(tensor: TensorProto, values: Array) -> None:
    """Values into a stub, as raw little-endian bytes."""
    for field in DATA_FIELDS:
        tensor.ClearField(field)
    tensor.ClearField("data_location")
    tensor.raw_data = np.ascontiguousarray(values).tobytes()


def expected_bytes(slot: Slot) -> int:
    """Bytes of the tensor by its dims and type; raises FormatError where the dims cannot be."""
    if any(size < 0 for size in slot.shape):
        raise FormatError(
            f"tensor {slot.name!r}: sizes must not be negative. Received {list(slot.shape)}. Export again."
        )
    count = math.prod(slot.shape)
    if slot.proto.data_type in DTYPES:
        return count * slot.dtype.itemsize
    return -1


def decoded(slot: Slot) -> Array:
    """The array of a tensor whose data are in the message; packed types come as bytes."""
    tensor, wanted = slot.proto, expected_bytes(slot)
    if wanted < 0:
        raw = tensor.raw_data or np.asarray(tensor.int32_data, np.int32).astype(np.uint8).tobytes()
        return np.frombuffer(raw, np.uint8)
    if tensor.HasField("raw_data") or not wanted:
        if len(tensor.raw_data) != wanted:
            raise _wrong_length(slot, wanted, len(tensor.raw_data))
        return np.frombuffer(tensor.raw_data, slot.dtype).reshape(slot.shape)
    values = _from_field(tensor, slot.dtype)
    if values.size * slot.dtype.itemsize != wanted:
        raise _wrong_length(slot, wanted, values.size * slot.dtype.itemsize)
    return values.reshape(slot.shape)


def _from_field(tensor: TensorProto, dtype: np.dtype[Any]) -> Array:
    """Values from the typed field that onnx.proto assigns to the type; 16-bit and 8-bit floats are stored as bits."""
    kind = tensor.data_type
    if kind in (TensorProto.FLOAT, TensorProto.COMPLEX64):
        return np.asarray(tensor.float_data, np.float32).view(dtype)
    if kind in (TensorProto.DOUBLE, TensorProto.COMPLEX128):
        return np.asarray(tensor.double_data, np.float64).view(dtype)
    if kind == TensorProto.INT64:
        return np.asarray(tensor.int64_data, np.int64)
    if kind in (TensorProto.UINT32, TensorProto.UINT64):
        return np.asarray(tensor.uint64_data, np.uint64).astype(dtype)
    whole = np.asarray(tensor.int32_data, np.int32)
    if dtype.kind in "iub":
        return whole.astype(dtype)
    return whole.astype(np.uint16 if dtype.itemsize == 2 else np.uint8).view(dtype)


def _wrong_length(slot: Slot, wanted: int, found: int) -> FormatError:
    return FormatError(
        f"tensor {slot.name!r}: {list(slot.shape)} of its type must take {wanted} bytes. Received {found}. "
        "The file is damaged: export it again."
    )


def _mapped(slot: Slot, folder: Path | None) -> Array:
    """External data, mapped from the file beside the model; every length and the path are checked first."""
    entry = {item.key: item.value for item in slot.proto.external_data}
    location = entry.get("location", "")
    if folder is None:
        raise FormatError(
            f"tensor {slot.name!r}: its data must be in the model. Received a model whose data are in {location!r}. "
            "Pass the path of the .onnx file, or load it with external data."
        )
    path = folder / location
    if not location or Path(location).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise FormatError(
            f"tensor {slot.name!r}: its data must lie beside the model. Received {location!r}. Save the model again."
        )
    if not path.is_file():
        raise FormatError(
            f"tensor {slot.name!r}: its data file must exist. Received {location!r}, which does not. "
            "Copy it beside the .onnx file."
        )
    offset, size = _number(slot, entry.get("offset", "0")), path.stat().st_size
    wanted = expected_bytes(slot)
    length = _number(slot, entry["length"]) if "length" in entry else max(wanted, 0)
    if wanted >= 0 and length != wanted:
        raise _wrong_length(slot, wanted, length)
    if offset + length > size:
        raise _wrong_length(slot, length, max(0, size - offset))
    if not length:
        return np.zeros(slot.shape, slot.dtype)
    raw = np.memmap(path, np.uint8, "r", offset, (length,))
    return raw if wanted < 0 else raw.view(slot.dtype).reshape(slot.shape)


def _number(slot: Slot, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise FormatError(f"tensor {slot.name!r}: offset and length must be numbers. Received {text!r}. Save it again.")
    return int(text)
