"""The graph of an ONNX model without its values, as an archive keeps it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import GraphProto, ModelProto, TensorProto

from attar.adapters.onnx.sites import find_sites
from attar.adapters.onnx.tensors import DTYPES, Slot, Store, bodies_of, empty, stays_inside
from attar.errors import FormatError
from attar.types import Layer

PACKED_BITS = {TensorProto.INT4: 4, TensorProto.UINT4: 4, 23: 4, 25: 2, 26: 2}
"""Bits of one element of types that numpy lacks; 23 is FLOAT4E2M1, 25 and 26 are 2-bit integers in newer versions."""
NOTES = ("pkg.", "namespace")
"""Keys of what exporters note at each node and value: stack traces and class names of the model's source code."""


def skeleton_of(store: Store, layers: Sequence[Layer]) -> bytes:
    """Stubs and structure, serialised; notes of exporters and inferred shapes are dropped where layers do not need
    them.
    """
    lean = store.clone()
    for slot in lean.slots.values():
        if not stays_inside(slot.proto):
            empty(slot.proto)
    _strip(lean.model.graph, shapes=True)
    if [site.layer for site in find_sites(lean)[0]] != list(layers):
        del lean.model.graph.value_info[:]
        lean.model.graph.value_info.extend(store.model.graph.value_info)
        _strip(lean.model.graph, shapes=False)
    data: bytes = lean.model.SerializeToString(deterministic=True)
    return data


def _strip(graph: GraphProto, *, shapes: bool) -> None:
    if shapes:
        del graph.value_info[:]
    for value in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        _drop_notes(value)
    for index, node in enumerate(graph.node):
        _drop_notes(node)
        for _, body in bodies_of(node, index):
            _strip(body, shapes=shapes)


def _drop_notes(item: Any) -> None:
    kept: Iterable[Any] = [entry for entry in item.metadata_props if not entry.key.startswith(NOTES)]
    kept = [(entry.key, entry.value) for entry in kept]
    del item.metadata_props[:]
    for key, value in kept:
        item.metadata_props.add(key=key, value=value)
    if ".py(" in item.doc_string or '.py", line' in item.doc_string:
        item.ClearField("doc_string")


def store_of(skeleton: bytes) -> Store:
    """A store over a skeleton with zeros for every missing tensor; raises FormatError."""
    model = ModelProto()
    try:
        model.ParseFromString(skeleton)
    except DecodeError as error:
        raise FormatError(
            "archive: the skeleton must be an ONNX message. Received other bytes. Compress again."
        ) from error
    if not model.graph.node:
        raise FormatError("archive: the skeleton must have a graph. Received none. Compress the model again.")
    store = Store(model)
    for slot in store.slots.values():
        if slot.values is None:
            slot.values = _zeros(slot)
    return store


def _zeros(slot: Slot) -> np.ndarray[Any, Any]:
    count = math.prod(slot.shape)
    if any(size < 0 for size in slot.shape) or count > 2**40:
        raise FormatError(
            f"tensor {slot.name!r}: its size must be possible. Received {list(slot.shape)}. Compress again."
        )
    if slot.proto.data_type not in DTYPES:
        return np.zeros(-(-count * PACKED_BITS.get(slot.proto.data_type, 8) // 8), np.uint8)
    return np.zeros(slot.shape, slot.dtype)
