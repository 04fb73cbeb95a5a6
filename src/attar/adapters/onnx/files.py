"""ONNX files and messages: read with checks, write whole or with external data."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import GraphProto, ModelProto, TensorProto

from attar.adapters.onnx.sparse import densified, sparsified
from attar.adapters.onnx.tensors import DTYPES, Store, bodies_of, named, put
from attar.errors import AttarError, FormatError, ModelError
from attar.types import Array

LARGEST = 2**31 - 2**26
"""Bytes of values up to which a model is one message: protobuf's 2 GB less room for the graph."""
EXTERNAL_BYTES = 1024
"""Tensors below this stay in the .onnx file when others are external."""
ALIGNMENT = 4096
LOOKS_LIKE = (
    (b"PK\x03\x04", "a zip archive (a PyTorch or Keras file, perhaps)"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"\x89HDF", "an HDF5 file (an older Keras model, perhaps)"),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"version https://git-lfs", "a Git LFS pointer: the model itself was not downloaded"),
    (b"<", "an HTML or XML page"),
)


def open_store(model: object) -> Store:
    """A private store of a path or a ModelProto; raises FormatError, ModelError."""
    if isinstance(model, ModelProto):
        return Store(densified(_check(_copy(model), "model"))).clone()
    path = Path(str(model))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(
            f"model {path.name!r}: it must be a file that can be read. Received: {error.strerror}. Pass the .onnx file."
        ) from error
    # The message that came keeps the room of what was taken out of it until it goes; its copy has none.
    return Store(densified(_check(_parse(data, path.name), path.name)), path.parent).clone()


def _parse(data: bytes, name: str) -> ModelProto:
    kind = next((what for start, what in LOOKS_LIKE if data.startswith(start)), None)
    if kind is None and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        kind = "a safetensors file"
    if not data:
        kind = "an empty file"
    if kind is None:
        model = ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError:
            kind = "something that is no protobuf message, or a truncated one"
        else:
            return model
    raise FormatError(f"model {name!r}: the file must be ONNX. Received {kind}. Export the model to ONNX again.")


def _check(model: ModelProto, name: str) -> ModelProto:
    """That the message is a model with a graph."""
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise FormatError(
            f"model {name!r}: it must have a graph with nodes, outputs and an operator set. Received "
            f"{len(model.graph.node)} nodes, {len(model.graph.output)} outputs. Export the model to ONNX again."
        )
    odd = next((text for text in _texts(model.graph) if not isinstance(text, str)), None)
    if odd is not None:  # protobuf hands over as bytes what is no text
        raise FormatError(
            f"model {name!r}: its names must be text. Received {odd!r}. The file is damaged: export it again."
        )
    return model


@contextmanager
def broken(name: str) -> Iterator[None]:
    """What a node with impossible inputs or attributes leads to, as a FormatError."""
    try:
        yield
    except AttarError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise FormatError(
            f"model {name!r}: every node must be as its operator says. Received one that cannot be read "
            f"({type(error).__name__}: {error}). Check the model with onnx.checker; report it if it is valid."
        ) from error


def _texts(graph: GraphProto) -> Iterator[object]:
    """Every name that matters in a graph and the graphs in it."""
    for value in [*graph.initializer, *graph.input, *graph.output]:
        yield value.name
    for index, node in enumerate(graph.node):
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
        for _, body in bodies_of(node, index):
            yield from _texts(body)


def _copy(model: ModelProto) -> ModelProto:
    """A deep copy, tensor by tensor: copying a message of more than 2 GB as a whole may fail."""
    copy = ModelProto()
    _copy_fields(model, copy, "graph")
    _copy_fields(model.graph, copy.graph, "initializer")
    for tensor in model.graph.initializer:
        copy.graph.initializer.add().CopyFrom(tensor)
    return copy


def _copy_fields(source: ModelProto | GraphProto, target: Any, without: str) -> None:
    for descriptor, value in source.ListFields():
        if descriptor.name == without:
            continue
        if hasattr(value, "CopyFrom") and not hasattr(value, "extend"):
            getattr(target, descriptor.name).CopyFrom(value)
        elif hasattr(value, "extend"):
            getattr(target, descriptor.name).extend(value)
        else:
            setattr(target, descriptor.name, value)


def filled(store: Store) -> ModelProto:
    """The model with all values in it."""
    model = ModelProto()
    model.CopyFrom(store.model)
    for name, tensor in named(model):
        slot = store.slots[name]
        if slot.values is not None:
            put(tensor, slot.values)
    return model


def filled_apart(store: Store) -> tuple[ModelProto, dict[str, Array]]:
    """The model with small values in it, and the large ones of its main graph by name, contiguous, not copied."""
    model = ModelProto()
    model.CopyFrom(store.model)
    tensors = {id(tensor): tensor for tensor in model.graph.initializer}  # held, so that their identity stays
    apart: dict[str, Array] = {}
    for name, tensor in named(model):
        values = store.slots[name].array
        native = values.dtype.isbuiltin == 1 and store.slots[name].proto.data_type in DTYPES
        if id(tensor) in tensors and values.nbytes >= EXTERNAL_BYTES and native:
            apart[tensor.name] = np.ascontiguousarray(values)
            _refer(tensor, "apart", 0, values.nbytes)
        else:
            put(tensor, values)
    return model, apart


def _refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Turn a stub into a reference to data outside of the message."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        tensor.external_data.add(key=key, value=str(value))


def filled_externally(store: Store, data: Path) -> ModelProto:
    """The model with small values in it and large ones in the file `data`, which is written beside it."""
    model = ModelProto()
    model.CopyFrom(store.model)
    tensors = list(model.graph.initializer)  # held, so that their identity stays
    initializers = {id(tensor) for tensor in tensors}
    with data.open("wb") as file:
        for name, tensor in named(model):
            values = store.slots[name].array
            if id(tensor) not in initializers or values.nbytes < EXTERNAL_BYTES:
                put(tensor, values)
                continue
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            _refer(tensor, data.name, file.tell(), values.nbytes)
            file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
    return model


def write_file(store: Store, path: Path) -> None:
    """Write a .onnx file, with a .onnx.data file beside it where the model is large or came so."""
    external = bool(store.files) or store.nbytes() > LARGEST
    if not external:
        _replace(path, lambda temporary: temporary.write_bytes(filled(store).SerializeToString()))
        return
    data = path.with_name(path.name + ".data")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".attar-") as folder:
        model = filled_externally(store, Path(folder) / data.name)
        (Path(folder) / data.name).replace(data)
    _replace(path, lambda temporary: temporary.write_bytes(model.SerializeToString()))


def write_sparse(store: Store, path: Path) -> dict[str, tuple[int, int]]:
    """Write one .onnx file with sparse initializers: their bytes before and after; raises ModelError beyond 2 GB."""
    model = whole(store)
    changed = sparsified(model)
    _replace(path, lambda temporary: temporary.write_bytes(model.SerializeToString()))
    return changed


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the target, then rename: a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def whole(store: Store) -> ModelProto:
    """The model as one message; raises ModelError where it would be larger than protobuf allows."""
    if store.nbytes() > LARGEST:
        raise ModelError(
            f"model: one ONNX message holds at most 2 GB. Received {store.nbytes()} bytes of values. "
            "Use save(path), which writes external data."
        )
    return filled(store)
