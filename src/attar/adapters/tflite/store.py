"""A TFLite model in memory: the schema's objects, stored values by name, and their bytes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attar.adapters.tflite.reader import DTYPES, IDENTIFIER, nbytes, np_dtype, parsed, read_file, type_name, values_of
from attar.adapters.tflite.sparse import densified
from attar.errors import FormatError, ModelError
from attar.types import Array

STRUCTURE = 1024
"""Whole numbers up to which a stored tensor is structure (shapes, axes, paddings) and stays in the graph."""


class Place(NamedTuple):
    """A tensor of a graph by numbers."""

    graph: int
    tensor: int


def litert() -> Any:
    """The schema's generated module; raises ModelError where it is not installed."""
    try:
        import flatbuffers  # type: ignore[import-untyped]  # noqa: F401
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ModelError(
            "tflite model: reading it needs ai-edge-litert and flatbuffers. Received an environment without them. "
            "Install them with `pip install 'attar[tflite]'`."
        ) from error
    return schema_py_generated


class Aligned:
    """A buffer of a file, on a multiple of 16 bytes as the schema asks for and the generated class does not do."""

    def __init__(self, data: Array | None, schema: Any) -> None:
        self._data, self._schema = data, schema

    def Pack(self, builder: Any) -> int:
        """Write it: the generated classes call this."""
        vector = None
        if self._data is not None and len(self._data):
            builder.StartVector(1, len(self._data), 16)
            builder.head -= len(self._data)
            builder.Bytes[builder.head : builder.head + len(self._data)] = np.asarray(self._data).tobytes()
            vector = builder.EndVector()
        self._schema.BufferStart(builder)
        if vector is not None:
            self._schema.BufferAddData(builder, vector)
        return int(self._schema.BufferEnd(builder))


class Symmetric:
    """Scales of channels without zero points, which the format wants in full: tensors of equal length share them."""

    def __init__(self, given: Any, zeros: dict[int, int], schema: Any) -> None:
        self._given, self._zeros, self._schema = given, zeros, schema

    def Pack(self, builder: Any) -> int:
        """Write it: the generated classes call this."""
        given, schema, count = self._given, self._schema, len(self._given.zeroPoint)
        if count not in self._zeros:
            self._zeros[count] = builder.CreateNumpyVector(np.zeros(count, np.int64))
        scale = builder.CreateNumpyVector(np.asarray(given.scale, np.float32))
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scale)
        schema.QuantizationParametersAddZeroPoint(builder, self._zeros[count])
        schema.QuantizationParametersAddQuantizedDimension(builder, given.quantizedDimension)
        return int(schema.QuantizationParametersEnd(builder))


def _symmetric(given: Any) -> bool:
    """Whether a tensor has scales for its channels, and no zero point but zero."""
    several = given is not None and given.zeroPoint is not None and len(given.zeroPoint) > 1
    return several and not np.any(given.zeroPoint) and not given.details


class Store:
    """One model; arrays that are handed out are views, and are replaced and never written to."""

    def __init__(self, model: Any) -> None:
        self.schema = litert()
        self.model = model
        self.names = self._named()
        """Stored tensors of numbers by name: where they are. One that two tensors share has the first one's."""

    @classmethod
    def open(cls, model: object) -> Store:
        """Of a path or bytes; raises FormatError, ModelError."""
        schema = litert()
        name = model.name if isinstance(model, Path) else "model"
        data = read_file(model) if isinstance(model, Path) else bytes(model)  # type: ignore[call-overload]
        found = parsed(data, name)
        try:
            return cls(densified(found, schema))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise FormatError(
                f"model {name!r}: sparse weights must be whole. Received {error}. Convert the model again."
            ) from error

    def _named(self) -> dict[str, Place]:
        found: dict[str, Place] = {}
        buffers: set[int] = set()
        for place, tensor in self.tensors():
            if tensor.buffer in buffers or self.values(place) is None:
                continue
            buffers.add(tensor.buffer)
            name = tensor.name or f"tensor {place.tensor}"
            if name in found or place.graph:
                name = f"{name}/{place.graph}/{place.tensor}"
            while name in found:
                name += "'"
            found[name] = place
        return found

    def tensors(self) -> Iterator[tuple[Place, Any]]:
        """Every tensor of every graph."""
        for number, graph in enumerate(self.model.subgraphs):
            for index, tensor in enumerate(graph.tensors):
                yield Place(number, index), tensor

    def tensor(self, place: Place) -> Any:
        """The schema's object."""
        return self.model.subgraphs[place.graph].tensors[place.tensor]

    def dtype(self, place: Place) -> str:
        """numpy's name of a tensor's type; "" for texts, handles and packed integers."""
        return DTYPES.get(type_name(self.tensor(place)), "")

    def buffer(self, place: Place) -> int:
        """The number of the buffer that a tensor's values are in."""
        return int(self.tensor(place).buffer)

    def values(self, place: Place) -> Array | None:
        """Stored values in the tensor's shape; None where there are none, or numpy has no such type."""
        tensor = self.tensor(place)
        return values_of(tensor, self.model.buffers[tensor.buffer])

    def put(self, place: Place, values: Array) -> None:
        """Replace stored values, in the tensor's type."""
        tensor = self.tensor(place)
        own = np.ascontiguousarray(values, np_dtype(type_name(tensor))).reshape(tensor.shape)
        self.model.buffers[tensor.buffer].data = own.reshape(-1).view(np.uint8)

    def stays_inside(self, place: Place) -> bool:
        """Whether stored values are a part of the graph."""
        values = self.values(place)
        quantised = self.tensor(place).quantization
        scaled = quantised is not None and quantised.scale is not None and len(quantised.scale) > 0
        return values is not None and values.dtype.kind in "iub" and values.size <= STRUCTURE and not scaled

    def code(self, operator: Any) -> int:
        """The number of an operator's kind, one of the schema's BuiltinOperator."""
        return int(self.model.operatorCodes[operator.opcodeIndex].builtinCode)

    def edited(self) -> Store:
        """A copy to add tensors, operators and outputs to: lists and operators are its own, values are shared."""
        model = copy.copy(self.model)
        model.buffers = [copy.copy(buffer) for buffer in model.buffers]
        model.operatorCodes = [copy.copy(code) for code in model.operatorCodes]
        model.subgraphs = [copy.copy(graph) for graph in model.subgraphs]
        for graph in model.subgraphs:
            graph.tensors = [copy.copy(tensor) for tensor in graph.tensors]
            graph.operators = [copy.copy(operator) for operator in graph.operators]
            for operator in graph.operators:
                operator.inputs, operator.outputs = list(operator.inputs), list(operator.outputs)
                operator.builtinOptions = copy.copy(operator.builtinOptions)
            graph.inputs, graph.outputs = list(graph.inputs), list(graph.outputs)
        model.signatureDefs, model.metadata = copy.deepcopy(model.signatureDefs), copy.deepcopy(model.metadata)
        made = copy.copy(self)
        made.model = model
        return made

    def code_of(self, kind: str, version: int = 1) -> int:
        """The number of the operator code of this kind and at least this version, added where it is missing."""
        number = getattr(self.schema.BuiltinOperator, kind)
        for index, code in enumerate(self.model.operatorCodes):
            if code.builtinCode == number and code.version >= version and not code.customCode:
                return index
        made = self.schema.OperatorCodeT(
            builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=version
        )  # fmt: skip
        self.model.operatorCodes.append(made)
        return len(self.model.operatorCodes) - 1

    @property
    def size_bytes(self) -> int:
        """Bytes of all values."""
        return sum(0 if buffer.data is None else len(buffer.data) for buffer in self.model.buffers)

    def packed(self) -> bytes:
        """The file; raises ModelError beyond 2 GB."""
        import flatbuffers

        size = self.size_bytes
        if size > 2**31 - 2**24:
            raise ModelError(
                f"model: a TFLite file holds at most 2 GB. Received {size} bytes of values. Compress a smaller model."
            )
        for code in self.model.operatorCodes:
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        model = copy.copy(self.edited().model)
        model.buffers = [Aligned(buffer.data, self.schema) for buffer in model.buffers]
        zeros: dict[int, int] = {}
        for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
            if _symmetric(tensor.quantization):
                tensor.quantization = Symmetric(tensor.quantization, zeros, self.schema)
        builder = flatbuffers.Builder(size + 2**16)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def nbytes(self, place: Place) -> int:
        """Bytes that a tensor's values take; 0 for texts and handles."""
        return nbytes(self.tensor(place)) or 0
