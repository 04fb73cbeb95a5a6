"""Whether a TFLite graph scales 8-bit images itself, so that they go in as they are, from 0 to 255."""

from __future__ import annotations

from typing import Any

import numpy as np

from attar.adapters.parts import FEW, WIDE
from attar.adapters.tflite.store import Place, Store
from attar.types import Array

PASSING = (
    "RESHAPE", "TRANSPOSE", "EXPAND_DIMS", "SQUEEZE", "PAD", "PADV2", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR",
    "CAST", "QUANTIZE", "DEQUANTIZE",
)  # fmt: skip
"""Operators that leave the range of pixels as wide as it is, as ADD and SUB of a stored mean do."""


def takes_pixels(store: Store, tensor: int) -> bool:
    """Whether all that reads a tensor of the main graph divides it first, by one stored number or one a channel."""
    return _fates(store, tensor) == {True}


def _fates(store: Store, tensor: int) -> set[bool]:
    """For each use of pixels whether they are divided there."""
    graph = store.model.subgraphs[0]
    readers = [operator for operator in graph.operators if tensor in operator.inputs]
    handed = {False} if tensor in graph.outputs else set[bool]()
    return handed.union(*(_fates_in(store, operator, tensor) for operator in readers))


def _fates_in(store: Store, operator: Any, tensor: int) -> set[bool]:
    """The same of one operator and what follows it."""
    kinds = store.schema.BuiltinOperator
    code, first = store.code(operator), operator.inputs[0] == tensor
    if code in [getattr(kinds, name) for name in PASSING] and first:
        return _fates(store, operator.outputs[0])
    if code not in (kinds.DIV, kinds.MUL, kinds.ADD, kinds.SUB):
        return {False}
    by = _stored(store, operator.inputs[1 if first else 0])
    if code == kinds.DIV:
        return {first and by is not None and bool(np.abs(by).min() >= WIDE)}
    if code == kinds.MUL:
        return {by is not None and bool(np.abs(by).max() * WIDE <= 1)}
    return {False} if by is None else _fates(store, operator.outputs[0])


def _stored(store: Store, tensor: int) -> Array | None:
    """A few stored numbers; None for what is none, or as large as an image."""
    values = store.values(Place(0, tensor))
    return None if values is None or not 0 < values.size <= FEW else values
