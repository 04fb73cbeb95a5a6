"""Which stored tensor of an ONNX graph a node's weight comes from.

A weight may reach its node through Identity, Cast, Transpose, Reshape and DequantizeLinear nodes: that is a `Chain`.
Chains whose result the stored type cannot hold (dequantised integers, float16 cast to float32) are replaced by their
result when a model is opened: see fold.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from attar.adapters.onnx.graph import Scope, attribute, is_op
from attar.adapters.onnx.tensors import DTYPES, Slot
from attar.types import Array

STEPS = ("Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")
"""Operators that a weight may pass on its way, beside DequantizeLinear."""


@dataclass(frozen=True)
class Step:
    """One node between a stored tensor and its user: what it does to the values, and its inverse where it has one."""

    node: NodeProto
    forward: Callable[[Array], Array]
    backward: Callable[[Array], Array] | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Chain:
    """A weight as its node sees it: `result`, defined in `scope`, made from `slot` by `steps`."""

    slot: Slot
    steps: tuple[Step, ...]
    result: str
    scope: Scope

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape that the node sees."""
        return self.steps[-1].shape if self.steps else self.slot.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type that the node sees."""
        return self.steps[-1].dtype if self.steps else self.slot.dtype

    @property
    def exact(self) -> bool:
        """Whether the stored tensor can hold any value that the node can see."""
        return all(step.backward is not None for step in self.steps)

    def seen(self, stored: Array) -> Array:
        """The stored values as the node sees them."""
        for step in self.steps:
            stored = step.forward(stored)
        return stored

    def read(self) -> Array:
        """The values that the node sees."""
        return self.seen(self.slot.array)

    def write(self, values: Array) -> None:
        """Store values [shape], float32; a stored element that reads the same already keeps its bits."""
        for step in reversed(self.steps):
            assert step.backward is not None
            values = step.backward(values)
        stored = self.slot.array
        narrowed = stored
        for step in self.steps:
            if step.dtype != narrowed.dtype:
                narrowed = narrowed.astype(step.dtype)
        keep = narrowed.astype(np.float32) == values
        with np.errstate(over="ignore"):
            self.slot.values = np.where(keep, stored, values.astype(stored.dtype))


def resolve(scope: Scope, name: str) -> Chain | None:
    """Where a constant comes from; None where it is computed from the model's inputs or by other operators."""
    home = scope.home(name)
    if home is None:
        return None
    if name not in home.resolved:
        home.resolved[name] = _resolved(home, name)
    return home.resolved[name]


def _resolved(home: Scope, name: str) -> Chain | None:
    if name in home.slots:
        return Chain(home.slots[name], (), name, home)
    node = home.makers.get(name)
    if node is None or not node.input:
        return None
    if is_op(node, "Concat"):
        return _shuffled(home, node)
    if not is_op(node, *STEPS) and node.op_type != "DequantizeLinear":
        return None
    before = resolve(home, node.input[0])
    step = None if before is None else _step(home, node, before)
    if before is None or step is None:
        return None
    return Chain(before.slot, (*before.steps, step), name, home)


def _shuffled(scope: Scope, node: NodeProto) -> Chain | None:
    """A Concat of Slices that puts the elements of one stored tensor in another order (gates of an LSTM, for one)."""
    found = _moved(scope, node.output[0])
    if found is None:
        return None
    slot, index = found
    order = index.reshape(-1)
    size = math.prod(slot.shape)
    if order.size != size or not np.array_equal(np.bincount(order, minlength=size), np.ones(size)):
        return None
    back = np.empty_like(order)
    back[order] = np.arange(size)
    step = Step(
        node,
        lambda a: a.reshape(-1)[order].reshape(index.shape),
        lambda a: a.reshape(-1)[back].reshape(slot.shape),
        index.shape,
        slot.dtype,
    )
    return Chain(slot, (step,), node.output[0], scope)


def _moved(scope: Scope, name: str) -> tuple[Slot, NDArray[np.int64]] | None:
    """The stored tensor whose elements a tensor is made of, and the flat number of each."""
    home = scope.home(name)
    if home is None:
        return None
    if name in home.slots:
        slot = home.slots[name]
        return slot, np.arange(math.prod(slot.shape)).reshape(slot.shape)
    node = home.makers.get(name)
    if node is None or not is_op(node, "Concat", "Slice", "Identity"):
        return None
    parts = [_moved(home, part) for part in (node.input if is_op(node, "Concat") else node.input[:1])]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or any(slot is not known[0][0] for slot, _ in known):
        return None
    if is_op(node, "Concat"):
        return known[0][0], np.concatenate([index for _, index in known], axis=attribute(node, "axis", 0))
    cut = _cut(home, node, known[0][1].ndim) if is_op(node, "Slice") else ()
    return None if cut is None else (known[0][0], known[0][1][cut])


def _cut(scope: Scope, node: NodeProto, ndim: int) -> tuple[slice, ...] | None:
    """A Slice node as Python slices; None where its ends are computed."""
    values: list[list[int] | None] = []
    for place, name in enumerate(("starts", "ends", "axes", "steps"), start=1):
        chain = resolve(scope, node.input[place]) if len(node.input) > place and node.input[place] else None
        if len(node.input) > place and node.input[place] and chain is None:
            return None
        given = attribute(node, name) if chain is None else chain.read().reshape(-1)
        values.append(None if given is None else [int(i) for i in given])
    starts, ends, axes, steps = values
    if starts is None or ends is None:
        return None
    cut = [slice(None)] * ndim
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        step = steps[i] if steps else 1
        stop = None if step < 0 and end < -(2**31) else end
        cut[axes[i] if axes else i] = slice(start, stop, step)
    return tuple(cut)


def _step(scope: Scope, node: NodeProto, before: Chain) -> Step | None:
    if is_op(node, "Identity"):
        return Step(node, lambda a: a, lambda a: a, before.shape, before.dtype)
    if is_op(node, "Transpose"):
        order = attribute(node, "perm") or tuple(reversed(range(len(before.shape))))
        back = tuple(int(i) for i in np.argsort(order))
        shape = tuple(before.shape[i] for i in order)
        return Step(node, lambda a: a.transpose(order), lambda a: a.transpose(back), shape, before.dtype)
    if is_op(node, "Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        reshaped = _reshaped(scope, node, before.shape)
        if reshaped is None:
            return None
        return Step(node, lambda a: a.reshape(reshaped), lambda a: a.reshape(before.shape), reshaped, before.dtype)
    if is_op(node, "Cast"):
        return _cast(node, before)
    if node.op_type == "DequantizeLinear":
        return _dequantize(scope, node, before)
    return None


def _reshaped(scope: Scope, node: NodeProto, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    if is_op(node, "Flatten"):
        axis = attribute(node, "axis", 1)
        axis += len(shape) if axis < 0 else 0
        return math.prod(shape[:axis]), math.prod(shape[axis:])
    given = attribute(node, "shape" if is_op(node, "Reshape") else "axes")
    if given is None and len(node.input) > 1:
        chain = resolve(scope, node.input[1])
        if chain is None or chain.slot.values is None:
            return None
        given = tuple(int(i) for i in chain.read())
    if is_op(node, "Reshape"):
        return _filled(given, shape, bool(attribute(node, "allowzero", 0)))
    if is_op(node, "Squeeze"):
        wanted = None if given is None else {i % len(shape) for i in given}
        return tuple(n for i, n in enumerate(shape) if (n != 1 if wanted is None else i not in wanted))
    rank = len(shape) + len(given)
    places, sizes = {i % rank for i in given}, iter(shape)
    return tuple(1 if i in places else next(sizes) for i in range(rank))


def _filled(given: tuple[int, ...], shape: tuple[int, ...], allow_zero: bool) -> tuple[int, ...] | None:
    """Reshape's target with 0 (keep) and -1 (what is left) worked out."""
    target = [shape[i] if n == 0 and not allow_zero and i < len(shape) else n for i, n in enumerate(given)]
    if -1 in target:
        known = math.prod(n for n in target if n != -1)
        target[target.index(-1)] = math.prod(shape) // max(known, 1)
    return tuple(target) if math.prod(target) == math.prod(shape) else None


def _cast(node: NodeProto, before: Chain) -> Step | None:
    to = DTYPES.get(attribute(node, "to"))
    if to is None:
        return None
    floats = {"float32", "float64", "float16", "bfloat16"}
    wider = before.dtype == to or before.dtype.itemsize > to.itemsize
    keeps = {before.dtype.name, to.name} <= floats and wider
    return Step(node, lambda a: a.astype(to), (lambda a: a) if keeps else None, before.shape, to)


def _dequantize(scope: Scope, node: NodeProto, before: Chain) -> Step | None:
    parts = [resolve(scope, name) if name else None for name in node.input[1:]]
    scale = parts[0]
    if scale is None or scale.slot.values is None or before.slot.proto.data_type not in DTYPES:
        return None
    zero = parts[1] if len(parts) > 1 else None
    if len(node.input) > 2 and node.input[2] and zero is None:
        return None
    axis, block = attribute(node, "axis", 1), attribute(node, "block_size", 0)

    def along(values: Array) -> Array:
        """Scale or zero point in a shape that broadcasts over the tensor."""
        if values.size == 1:
            return values.reshape(())
        if block:
            return np.repeat(values, block, axis).take(range(before.shape[axis]), axis)
        return values.reshape([-1 if i == axis % len(before.shape) else 1 for i in range(len(before.shape))])

    def forward(a: Array) -> Array:
        # As the operator does it: the difference in integers, the product in the scale's type.
        offset = a.astype(np.int32) - along(zero.read()).astype(np.int32) if zero is not None else a
        return np.asarray(offset.astype(scale.dtype) * along(scale.read()))

    return Step(node, forward, None, before.shape, scale.dtype)
