"""TFLite graphs made ready for other number formats: float32 weights, activations inside of operators, no ballast."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from attar.adapters.tflite.store import Place, Store

CORE = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 12, "TRANSPOSE_CONV": 3}
"""Operators with weights that integers multiply, and the version of the schema's that takes int8."""
CARRYING = {
    "RESHAPE": 1, "MAX_POOL_2D": 2, "AVERAGE_POOL_2D": 2, "TRANSPOSE": 2, "PAD": 2, "MIRROR_PAD": 2, "SQUEEZE": 1,
    "EXPAND_DIMS": 1, "STRIDED_SLICE": 2, "SLICE": 2, "SPLIT": 2, "GATHER": 2, "CONCATENATION": 2, "PACK": 2,
    "UNPACK": 2, "DEPTH_TO_SPACE": 2, "SPACE_TO_DEPTH": 2, "RESIZE_BILINEAR": 2, "RESIZE_NEAREST_NEIGHBOR": 2,
    "MAXIMUM": 2, "MINIMUM": 2,
}  # fmt: skip
"""Operators that integers pass with the scale that they come with."""
FREE = {
    "ADD": 2, "SUB": 3, "MUL": 2, "MEAN": 2, "RELU": 2, "RELU6": 2, "LEAKY_RELU": 2, "PRELU": 1, "HARD_SWISH": 1,
    "LOGISTIC": 2, "TANH": 2, "SOFTMAX": 2,
}  # fmt: skip
"""Operators with integer arithmetic of their own, whose outputs have scales of their own."""
FIXED = {"LOGISTIC": (1 / 256, -128), "SOFTMAX": (1 / 256, -128), "TANH": (1 / 128, 0)}
"""Scale and zero point that the runtime asks of these outputs."""
FUSED = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
INSIDE = (*CORE, "ADD", "SUB", "MUL")
FLOAT32, FLOAT16 = 0, 1


def kind_of(store: Store, operator: Any) -> str:
    """The schema's name of an operator's kind."""
    number = store.code(operator)
    return next(str(name) for name, value in vars(store.schema.BuiltinOperator).items() if value == number)


def prepared(store: Store) -> Store:
    """A copy with float32 weights instead of widened float16 ones, and activations inside of the operators before."""
    ready = alive(store)
    graph = ready.model.subgraphs[0]
    _widen(ready, graph)
    _fuse(ready, graph)
    return compact(ready)


def alive(store: Store) -> Store:
    """A copy without operators that no output needs."""
    ready = store.edited()
    graph = ready.model.subgraphs[0]
    needed, kept = set(graph.outputs), []
    for operator in reversed(graph.operators):
        if not operator.outputs or needed.intersection(operator.outputs):
            needed.update(operator.inputs)
            kept.append(operator)
    graph.operators = kept[::-1]
    return compact(ready)


def _widen(ready: Store, graph: Any) -> None:
    """Fold DEQUANTIZE of stored float16."""
    kept = []
    for operator in graph.operators:
        place = Place(0, operator.inputs[0]) if operator.inputs else None
        values = None
        if place is not None and kind_of(ready, operator) == "DEQUANTIZE":
            values = ready.values(place)
        if values is None or values.dtype != np.float16:
            kept.append(operator)
            continue
        ready.model.buffers.append(ready.schema.BufferT(data=_bytes(values.astype(np.float32))))
        graph.tensors[operator.outputs[0]].buffer = len(ready.model.buffers) - 1
        graph.tensors[operator.outputs[0]].name = graph.tensors[operator.inputs[0]].name
    graph.operators = kept


def _bytes(values: Any) -> Any:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def _fuse(ready: Store, graph: Any) -> None:
    """Put RELU and its like into the operator before, where nothing else reads what is between."""
    readers = Counter(index for operator in graph.operators for index in operator.inputs)
    readers.update(graph.outputs)
    makers = {index: operator for operator in graph.operators for index in operator.outputs}
    kept = []
    for operator in graph.operators:
        inside = FUSED.get(kind_of(ready, operator))
        maker = makers.get(operator.inputs[0]) if operator.inputs else None
        if inside is None or maker is None or readers[operator.inputs[0]] != 1 or not _takes(ready, maker):
            kept.append(operator)
            continue
        maker.builtinOptions.fusedActivationFunction = inside
        maker.outputs[0] = operator.outputs[0]
        makers[operator.outputs[0]] = maker
    graph.operators = kept


def _takes(ready: Store, operator: Any) -> bool:
    """Whether an operator can have an activation inside, and has none yet."""
    options = operator.builtinOptions
    free = hasattr(options, "fusedActivationFunction") and not options.fusedActivationFunction
    return kind_of(ready, operator) in INSIDE and free


def compact(ready: Store) -> Store:
    """The store, in place, with what is used in numbers that follow each other, and without notes of converters."""
    model = ready.model
    graph = model.subgraphs[0]
    used = sorted({
        *graph.inputs, *graph.outputs,
        *(index for o in graph.operators for index in (*o.inputs, *o.outputs, *(o.intermediates or ())) if index >= 0),
    })  # fmt: skip
    number = {old: new for new, old in enumerate(used)} | {-1: -1}
    graph.tensors = [graph.tensors[old] for old in used]
    graph.inputs, graph.outputs = [number[i] for i in graph.inputs], [number[i] for i in graph.outputs]
    for operator in graph.operators:
        operator.inputs, operator.outputs = [number[i] for i in operator.inputs], [number[i] for i in operator.outputs]
        if operator.intermediates is not None:
            operator.intermediates = [number[i] for i in operator.intermediates]
    kept = []
    for signature in model.signatureDefs or ():
        ends = [*(signature.inputs or ()), *(signature.outputs or ())]
        if signature.subgraphIndex == 0 and all(end.tensorIndex in number for end in ends):
            for end in ends:
                end.tensorIndex = number[end.tensorIndex]
            kept.append(signature)
    model.signatureDefs = kept or None
    model.metadata = [one for one in model.metadata or () if one.name != b"CONVERSION_METADATA"] or None
    _compact_buffers(ready)
    _compact_codes(model)
    ready.names = ready._named()
    return ready


def _compact_buffers(ready: Store) -> None:
    """Buffers that hold something, behind the empty one; equal constants once."""
    model = ready.model
    kept, number, seen = [ready.schema.BufferT()], {}, {}
    holders = [tensor for _, tensor in ready.tensors()]
    for holder in [*holders, *(model.metadata or ())]:
        data = model.buffers[holder.buffer].data
        if data is None or not len(data):
            holder.buffer = 0
            continue
        if holder.buffer not in number:
            key = np.asarray(data).tobytes() if len(data) <= 1024 else holder.buffer
            if key not in seen:
                kept.append(model.buffers[holder.buffer])
                seen[key] = len(kept) - 1
            number[holder.buffer] = seen[key]
        holder.buffer = number[holder.buffer]
    model.buffers = kept


def _compact_codes(model: Any) -> None:
    """Each kind of operator once, in its newest version that is asked for."""
    kept: list[Any] = []
    places: dict[object, int] = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            key = code.builtinCode, code.version, code.customCode
            if key not in places:
                places[key] = len(kept)
                kept.append(code)
            operator.opcodeIndex = places[key]
    model.operatorCodes = kept
