"""A built QDQ model in which the ranges of activations are replaced, without quantising the model anew."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from attar.exports.ranges import LEVELS, Range
from attar.types import Array

BIASED = ("Conv", "Gemm")


class Rescaled:
    """Changes scales and zero points of activations, and the biases that count in their scale; for judging only."""

    def __init__(self, data: bytes) -> None:
        self._model = onnx.load_from_string(data)
        graph = self._model.graph
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        makers = {name: node for node in graph.node for name in node.output}
        self._biases: dict[str, list[tuple[str, str]]] = {}
        self._copies: dict[str, list[tuple[str, str]]] = {}
        """Scales and zero points by channel, which float nodes read (onnx/unfused.py)."""
        for node in graph.node:
            maker = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
            if maker is not None and maker.op_type == "QuantizeLinear" and node.input[1] != maker.input[1]:
                self._copies.setdefault(maker.input[1], []).append((node.input[1], node.input[2]))
        for node in graph.node:
            sides = [makers.get(name) for name in node.input[:3]]
            if node.op_type not in BIASED or len(sides) < 3 or sides[0] is None or sides[2] is None:
                continue
            if all(one is not None and one.op_type == "DequantizeLinear" for one in sides):
                self._biases.setdefault(sides[0].input[1], []).append((sides[2].input[0], sides[2].input[1]))

    def __contains__(self, name: str) -> bool:
        """Whether an activation has a scale of its own in the model."""
        return f"{name}_scale" in self._stored and f"{name}_zero_point" in self._stored

    def put(self, name: str, given: Range) -> None:
        """Give an activation this range, which stays so."""
        low, high = min(given[0], 0.0), max(given[1], 0.0)
        scale = np.float32((high - low) / (LEVELS - 1)) if high > low else np.float32(1)
        before = self._array(f"{name}_scale")
        zero = self._array(f"{name}_zero_point")
        level = np.clip(np.rint(-low / scale), 0, LEVELS - 1)
        own = (f"{name}_scale", f"{name}_zero_point")
        for steps, levels in (own, *self._copies.get(own[0], ())):
            self._put(steps, np.full(self._array(steps).shape, scale, np.float32))
            self._put(levels, np.full(self._array(levels).shape, level, zero.dtype))
        ratio = float(scale) / float(before.ravel()[0])
        for codes, steps in self._biases.get(f"{name}_scale", ()):
            wide = np.rint(self._array(codes).astype(np.float64) / ratio)
            self._put(codes, np.clip(wide, -(2**31), 2**31 - 1).astype(np.int32))
            self._put(steps, np.asarray(self._array(steps) * np.float32(ratio), np.float32))

    def data(self) -> bytes:
        """The model's bytes."""
        found: bytes = self._model.SerializeToString()
        return found

    def _array(self, name: str) -> Array:
        return numpy_helper.to_array(self._stored[name])

    def _put(self, name: str, values: Array) -> None:
        self._stored[name].CopyFrom(numpy_helper.from_array(np.asarray(values), name))
