"""A float TFLite graph with operators in 8-bit integers: our codes, scales and ranges put into the flatbuffer.

The runtime's rules (LiteRT 8-bit quantization specification): weights symmetric int8 with a scale for each output
channel, activations asymmetric int8 with one, biases int32 in the product of both scales. Operators that carry values
have the same scale before and behind. QUANTIZE and DEQUANTIZE stand where an operator in integers meets one in floats.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.adapters.tflite.sites import Site
from attar.adapters.tflite.store import Place, Store
from attar.exports.ranges import Range
from attar.exports.tflite.graph import CARRYING, CORE, FIXED, FLOAT32, FREE, compact, kind_of
from attar.exports.tflite.halve import halved
from attar.types import Array

INT8, INT32 = 9, 2
LEVELS = 255
BEYOND = 2.0**30
"""The largest code of a bias."""
DATA = {"CONV_2D": (0,), "DEPTHWISE_CONV_2D": (0,), "FULLY_CONNECTED": (0,), "TRANSPOSE_CONV": (2,)}
"""Which inputs of an operator with weights are activations."""
Scales = Mapping[int, NDArray[np.float32]]
"""Of a weight's output channels, by its buffer."""


def codes_of(values: Array, scales: NDArray[np.float32], axis: int) -> NDArray[np.int8]:
    """Symmetric codes of a weight with a scale for each of its output channels."""
    shape = [1] * values.ndim
    shape[axis] = -1
    return np.asarray(np.clip(np.rint(values / scales.reshape(shape)), -127, 127), np.int8)


def scale_of(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of a range that holds zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max((high - low) / LEVELS, 1e-9)))
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))


def _wide(values: Array) -> bool:
    """Whether float16 would change values: what came in float16 goes so, and no other."""
    with np.errstate(over="ignore"):
        return not np.array_equal(values.astype(np.float16), values)


class Plan:
    """Which operators are in integers, and which tensors have the same scale.

    floats: operators that stay as they are; ops: kinds that may be in integers.
    """

    def __init__(
        self, store: Store, sites: Mapping[int, Site], scales: Scales, ranges: Mapping[int, Range],
        floats: Collection[int], ops: Collection[str],
    ) -> None:  # fmt: skip
        self.store, self.graph = store, store.model.subgraphs[0]
        self.kinds = [kind_of(store, operator) for operator in self.graph.operators]
        self._sites, self._scales, self._ranges = sites, scales, ranges
        possible = [
            index for index in range(len(self.kinds))
            if self.kinds[index] in ops and index not in floats and self._possible(index)
        ]  # fmt: skip
        self.whole = self._worthwhile(possible)
        self.scale = self._joint()

    def data(self, index: int) -> list[int]:
        """Float inputs of an operator that are no weights and biases."""
        inputs = self.graph.operators[index].inputs
        kept = DATA.get(self.kinds[index], range(len(inputs)))
        return [inputs[k] for k in kept if k < len(inputs) and inputs[k] >= 0 and self._float(inputs[k])]

    def _float(self, tensor: int) -> bool:
        return bool(self.graph.tensors[tensor].type == FLOAT32)

    def constant(self, tensor: int) -> Array | None:
        """Stored values of a tensor."""
        return self.store.values(Place(0, tensor))

    def _possible(self, index: int) -> bool:
        operator, kind = self.graph.operators[index], self.kinds[index]
        known = [t in self._ranges or self.constant(t) is not None for t in [*self.data(index), *operator.outputs]]
        floats = all(self._float(tensor) for tensor in operator.outputs)
        if not all(known) or not floats or not self.data(index):
            return False
        if kind in CORE:
            site = self._sites.get(index)
            # Kernels for groups other than depthwise take one scale for all channels: such layers stay in float.
            grouped = kind == "CONV_2D" and site is not None and site.layer.groups > 1
            if site is None or grouped or self.store.buffer(site.stored) not in self._scales:
                return False
            return all(t < 0 or self.constant(t) is not None for t in operator.inputs[2:] if t not in self.data(index))
        return kind in CARRYING or kind in FREE

    def _worthwhile(self, possible: Sequence[int]) -> set[int]:
        """Operators with weights, carrying ones that only such read, and those that only such have made the inputs of.

        Any other would be in integers for nothing.
        """
        makers = {tensor: k for k, o in enumerate(self.graph.operators) for tensor in o.outputs}
        readers: dict[int, list[int]] = {}
        for k in range(len(self.kinds)):
            for tensor in self.data(k):
                readers.setdefault(tensor, []).append(k)
        found = {index for index in possible if self.kinds[index] in CORE}
        for index in reversed(possible):
            behind = [k for tensor in self.graph.operators[index].outputs for k in readers.get(tensor, [])]
            outputs = set(self.graph.operators[index].outputs) & set(self.graph.outputs)
            if self.kinds[index] in CARRYING and behind and not outputs and found.issuperset(behind):
                found.add(index)
        for index in possible:
            before = [makers.get(tensor, -1) for tensor in self.data(index) if self.constant(tensor) is None]
            if found.issuperset(before) and self._fits(index, before):
                found.add(index)
        return found

    def _fits(self, index: int, before: Sequence[int]) -> bool:
        """That a carrying operator does not force the scale that the runtime fixes for one input upon others."""
        fixed = any(self.kinds[k] in FIXED for k in before)
        return self.kinds[index] not in CARRYING or not fixed or len(self.data(index)) == 1

    def _joint(self) -> dict[int, tuple[float, int]]:
        """Scale and zero point of every tensor that an operator in integers reads or writes."""
        parent: dict[int, int] = {}

        def root(tensor: int) -> int:
            while parent.setdefault(tensor, tensor) != tensor:
                parent[tensor] = parent[parent[tensor]]
                tensor = parent[tensor]
            return tensor

        fixed: dict[int, tuple[float, int]] = {}
        for index in self.whole:
            touched = [*self.data(index), *self.graph.operators[index].outputs]
            for tensor in touched:
                root(tensor)
            if self.kinds[index] in CARRYING:
                for tensor in touched[1:]:
                    parent[root(tensor)] = root(touched[0])
        for index in self.whole:
            if self.kinds[index] in FIXED:
                fixed[root(self.graph.operators[index].outputs[0])] = FIXED[self.kinds[index]]
        ends: dict[int, Range] = {}
        for tensor in parent:
            low, high = self._ends(tensor)
            known = ends.get(root(tensor), (low, high))
            ends[root(tensor)] = min(known[0], low), max(known[1], high)
        return {tensor: fixed.get(root(tensor)) or scale_of(*ends[root(tensor)]) for tensor in parent}

    def _ends(self, tensor: int) -> Range:
        values = self.constant(tensor)
        if values is not None:
            return float(values.min(initial=0)), float(values.max(initial=0))
        return self._ranges[tensor]

    def weight(self, index: int) -> tuple[Site, NDArray[np.float32]]:
        """The use of a weight, and its scales."""
        site = self._sites[index]
        return site, self._scales[self.store.buffer(site.stored)]


class Writer:
    """One graph on its way into integers, operator by operator; those in floats have the weights of the plain graph."""

    def __init__(self, plan: Plan, plain: Store) -> None:
        self._plan = plan
        self._edited = plain.edited()
        self._graph = self._edited.model.subgraphs[0]
        self._schema = self._edited.schema
        self._twins: dict[int, int] = {}
        self._stored: dict[object, int] = {}
        self._operators: list[Any] = []
        self._given: set[int] = set()
        """Tensors whose values in integers exist at this place of the graph."""

    def written(self) -> bytes:
        """The file."""
        plan, back = self._plan, self._floats_wanted()
        for index, operator in enumerate(list(self._graph.operators)):
            if index not in plan.whole:
                self._operators.append(operator)
                continue
            floats = plan.data(index)
            for tensor in floats:
                if plan.constant(tensor) is None and tensor not in self._given:
                    self._convert("QUANTIZE", 1, tensor, self._twin(tensor))
                    self._given.add(tensor)
            outputs = list(operator.outputs)
            self._whole(index, operator, floats)
            for tensor in outputs:
                self._given.add(tensor)
                if tensor in back:
                    self._convert("DEQUANTIZE", 2, self._twin(tensor), tensor)
        self._graph.operators = self._operators
        return halved(compact(self._edited), keep=_wide)

    def _floats_wanted(self) -> set[int]:
        """Tensors that operators in floats read, or that are outputs."""
        plan = self._plan
        rest = [o for k, o in enumerate(self._graph.operators) if k not in plan.whole]
        return {*self._graph.outputs, *(tensor for operator in rest for tensor in operator.inputs)}

    def _convert(self, kind: str, version: int, source: int, target: int) -> None:
        code = self._edited.code_of(kind, version)
        self._operators.append(self._schema.OperatorT(opcodeIndex=code, inputs=[source], outputs=[target]))

    def _whole(self, index: int, operator: Any, floats: Sequence[int]) -> None:
        """An operator on integers."""
        kind = self._plan.kinds[index]
        operator.opcodeIndex = self._edited.code_of(kind, {**CORE, **CARRYING, **FREE}[kind])
        if kind in CORE:
            self._weighted(index, operator, kind)
        mine = set(floats)
        operator.inputs = [self._twin(t) if t in mine else t for t in operator.inputs]
        operator.outputs = [self._twin(t) for t in operator.outputs]
        self._operators.append(operator)

    def _weighted(self, index: int, operator: Any, kind: str) -> None:
        """Weight and bias of an operator as integers."""
        site, scales = self._plan.weight(index)
        values, axis = self._plan.store.values(site.stored), site.form.axis
        assert values is not None
        place = 3 if kind == "TRANSPOSE_CONV" else 2
        given = scale_of_input = self._plan.scale[self._plan.data(index)[0]][0]
        bias = None
        if len(operator.inputs) > place and operator.inputs[place] >= 0:
            bias = np.asarray(self._plan.constant(operator.inputs[place]), np.float64)
            # A row of next to nothing with a large bias: coarser codes, so that 32 bits hold the bias.
            scales = np.maximum(scales, (np.abs(bias) / (BEYOND * scale_of_input)).astype(np.float32))
        name = self._graph.tensors[operator.inputs[1]].name
        codes = codes_of(values, scales, axis)
        key = self._plan.store.buffer(site.stored), scales.tobytes(), kind
        operator.inputs[1] = self._new(key, name, codes, INT8, scales, axis)
        if bias is not None:
            product = given * scales.astype(np.float64)
            whole = np.clip(np.rint(bias / product), -BEYOND, BEYOND).astype(np.int32)
            tied = None, operator.inputs[place], product.tobytes()
            name = self._graph.tensors[operator.inputs[place]].name
            operator.inputs[place] = self._new(tied, name, whole, INT32, product.astype(np.float32), 0)

    def _new(self, key: object, name: str, codes: Array, kind: int, scales: Array, axis: int) -> int:
        """A stored tensor of integers, made once."""
        if key not in self._stored:
            schema, model = self._schema, self._edited.model
            model.buffers.append(schema.BufferT(data=np.ascontiguousarray(codes).reshape(-1).view(np.uint8)))
            zeros = np.zeros(len(scales), np.int64)
            quantised = schema.QuantizationParametersT(scale=scales, zeroPoint=zeros, quantizedDimension=axis)
            self._graph.tensors.append(
                schema.TensorT(list(codes.shape), kind, len(model.buffers) - 1, name, quantised)
            )  # fmt: skip
            self._stored[key] = len(self._graph.tensors) - 1
        return self._stored[key]

    def _twin(self, tensor: int) -> int:
        """A tensor's values in integers: a stored one's codes, or room for an activation."""
        if tensor not in self._twins:
            scale, zero = self._plan.scale[tensor]
            values = self._plan.constant(tensor)
            made = copy.copy(self._graph.tensors[tensor])
            made.type, made.buffer = INT8, 0
            made.name = "" if values is None else made.name
            made.quantization = self._schema.QuantizationParametersT(
                scale=np.array([scale], np.float32), zeroPoint=np.array([zero], np.int64)
            )
            if values is not None:
                codes = np.clip(np.rint(values / scale) + zero, -128, 127).astype(np.int8)
                self._edited.model.buffers.append(self._schema.BufferT(data=codes.reshape(-1).view(np.uint8)))
                made.buffer = len(self._edited.model.buffers) - 1
            self._graph.tensors.append(made)
            self._twins[tensor] = len(self._graph.tensors) - 1
        return self._twins[tensor]
