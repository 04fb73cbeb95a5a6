"""TFLite graphs whose stored values are float16, widened on loading."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from attar.adapters.tflite.store import Place, Store
from attar.exports.tflite.graph import FLOAT16, FLOAT32, compact
from attar.types import Array

FROM_HALF = 3
"""The version of DEQUANTIZE for float16."""
LEAST = 64
"""Values from which on float16 and a DEQUANTIZE are smaller than float32."""


def stored(edited: Store, tensor: int, values: Array, kind: int, quantised: Any = None) -> int:
    """A new tensor like another with these values, whose number it gives."""
    graph, model = edited.model.subgraphs[0], edited.model
    model.buffers.append(edited.schema.BufferT(data=np.ascontiguousarray(values).reshape(-1).view(np.uint8)))
    made = copy.copy(graph.tensors[tensor])
    made.type, made.buffer, made.quantization = kind, len(model.buffers) - 1, quantised
    graph.tensors.append(made)
    return len(graph.tensors) - 1


def halved(store: Store, keep: Callable[[Array], bool] = lambda _: False) -> bytes:
    """The file with float32 values stored in float16 and widened on loading, but for those that `keep` names."""
    edited = store.edited()
    graph, schema = edited.model.subgraphs[0], edited.schema
    front = []
    for tensor in range(len(graph.tensors)):
        values = edited.values(Place(0, tensor))
        if graph.tensors[tensor].type != FLOAT32 or values is None or values.size < LEAST or keep(values):
            continue
        narrow = stored(edited, tensor, values.astype(np.float16), FLOAT16)
        code = edited.code_of("DEQUANTIZE", FROM_HALF)
        front.append(schema.OperatorT(code, [narrow], [tensor]))
        graph.tensors[tensor].buffer, graph.tensors[tensor].name = 0, ""
    graph.operators = [*front, *graph.operators]
    return compact(edited).packed()
