"""TFLite graphs whose stored weights are int8 and whose activations are floats."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from attar.adapters.tflite.sites import find_sites
from attar.adapters.tflite.store import Store
from attar.exports.tflite.graph import compact, kind_of
from attar.exports.tflite.halve import stored
from attar.exports.tflite.quantise import INT8, codes_of
from attar.types import Array

HYBRID = {"CONV_2D": 5, "DEPTHWISE_CONV_2D": 6, "FULLY_CONNECTED": 12}
"""Operators that take int8 weights with float activations, which the runtime rounds to 8 bits as they come."""
PER_CHANNEL = 5
"""The version of DEQUANTIZE for scales of channels."""


def with_codes(store: Store, scales: Mapping[int, NDArray[np.float32]], *, hybrid: bool) -> bytes:
    """The file with int8 weights: multiplied as such where `hybrid` and the runtime can, else widened on loading."""
    edited = store.edited()
    graph, schema = edited.model.subgraphs[0], edited.schema
    sites = {site.index: site for site in find_sites(store)[0] if site.top}
    made: dict[int, int] = {}
    wide: set[int] = set()
    operators = []
    for index, operator in enumerate(graph.operators):
        site = sites.get(index)
        buffer = -1 if site is None else store.buffer(site.stored)
        if site is not None and buffer in scales:
            if buffer not in made:
                values = store.values(site.stored)
                assert values is not None
                made[buffer] = _coded(edited, site.stored.tensor, values, scales[buffer], site.form.axis)
            kind = kind_of(store, operator)
            if hybrid and kind in HYBRID and (kind != "CONV_2D" or site.layer.groups == 1):
                operator.inputs = [made[buffer] if t == site.stored.tensor else t for t in operator.inputs]
                operator.opcodeIndex = edited.code_of(kind, HYBRID[kind])
            elif site.stored.tensor not in wide:
                wide.add(site.stored.tensor)
                code = edited.code_of("DEQUANTIZE", PER_CHANNEL)
                operators.append(schema.OperatorT(code, [made[buffer]], [site.stored.tensor]))
        operators.append(operator)
    for tensor in wide:
        graph.tensors[tensor].buffer = 0
    graph.operators = operators
    return compact(edited).packed()


def _coded(edited: Store, tensor: int, values: Array, scales: NDArray[np.float32], axis: int) -> int:
    """A new stored tensor of a weight's codes."""
    codes = codes_of(values, scales, axis)
    quantised = edited.schema.QuantizationParametersT(
        scale=scales, zeroPoint=np.zeros(len(scales), np.int64), quantizedDimension=axis
    )
    return stored(edited, tensor, codes, INT8, quantised)
