"""What one call of a weight saw and gave: its columns, its rows, and how to shift its rows, on real tensors."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attar.adapters import unfold
from attar.adapters.torch_calls import Call
from attar.types import Array


@dataclass(frozen=True, slots=True)
class Product:
    """A call with its output y; y is None where the call does not show it. examples: examples in the batch.

    example_axis: the axis of the input that counts examples where that is known and not the first of that length.
    """

    call: Call
    y: Tensor | None
    examples: int
    example_axis: int | None = None

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.call.weight.name

    def positions(self) -> int | None:
        """Positions of one example that are patches and may be sampled; None where they are not."""
        if self.call.op == "conv":
            assert self.y is not None
            return prod(self.y.shape[2:])
        return prod(self.call.x.shape[2:]) if self.call.op == "conv_transpose" else None

    def ids(self) -> Array | None:
        """The looked-up columns [n], of an embedding."""
        return self.call.x.reshape(-1).cpu().numpy() if self.call.op in ("lookup", "bag") else None

    def columns(self, picked: NDArray[np.int64] | None = None) -> Array:
        """X[groups, cols, n], float32, positions in the order of rows; `picked` as in unfold."""
        call, x = self.call, to_float(self.call.x)
        if call.op == "conv":
            return unfold.unfold(x, window_of(call), picked)
        if call.op == "conv_transpose":
            return unfold.channels_to_columns(x, call.form.groups, picked)
        if call.op == "states":
            return x.reshape(-1, x.shape[-1]).T[None]
        inputs, own, output = call.labels
        groups = [c for c in own if c in inputs and c in output]
        cols = [c for c in own if c in inputs and c not in output]
        places = [c for c in output if c not in own]
        moved = x.transpose([inputs.index(c) for c in (*groups, *cols, *places)])
        return moved.reshape(call.form.groups, call.form.cols, -1)

    def rows(self) -> Array | None:
        """Y[rows, n], float32, without the bias; None where it is hidden or a part of the rows only."""
        if self.y is None or self.call.weight.rows is not None or self.call.op in ("conv_transpose", "bag", "states"):
            return None
        y = self.y if self.call.bias is None else self.y - self._spread(self.call.bias)
        axes = self.row_axes()
        moved = to_float(y.movedim(axes, tuple(range(len(axes)))))
        return moved.reshape(prod(moved.shape[: len(axes)]), -1)

    def row_axes(self) -> tuple[int, ...]:
        """Axes of y that are the rows, in order."""
        assert self.y is not None
        if self.call.op == "conv":
            return (1,)
        if self.call.op in ("lookup", "bag"):
            return (self.y.ndim - 1,)
        inputs, own, output = self.call.labels
        labels = [c for c in own if c in inputs and c in output] + [c for c in own if c not in inputs]
        return tuple(output.index(c) for c in labels)

    def _spread(self, bias: Tensor) -> Tensor:
        """A bias as the call adds it to y: along the channels of a convolution, else from the last axis on."""
        assert self.y is not None
        return bias.reshape(-1, *[1] * (self.y.ndim - 2)) if self.call.op == "conv" else bias

    def shifted(self, delta: Tensor) -> Tensor:
        """Y with delta[n, rows] added at every position of each example; raises KeyError where it cannot be."""
        if self.y is None or self.call.op == "states":
            raise KeyError(self.name)
        if self.call.weight.rows is not None:
            delta = delta[:, slice(*self.call.weight.rows)]
        delta = delta.to(self.y.dtype)
        if self.call.op == "conv_transpose":
            return self.y + self._scattered(delta)
        axes = self.row_axes()
        place, delta = self._aligned(delta, axes)
        shape = [1] * self.y.ndim
        shape[place] = len(delta)
        ordered = sorted(range(len(axes)), key=axes.__getitem__)
        blocks = delta.reshape(len(delta), *[self.y.shape[axis] for axis in axes]).permute(0, *[i + 1 for i in ordered])
        for axis in axes:
            shape[axis] = self.y.shape[axis]
        if place > min(axes):
            blocks = blocks.movedim(0, sum(axis < place for axis in axes))
        return self.y + blocks.reshape(shape)

    def _aligned(self, delta: Tensor, axes: tuple[int, ...]) -> tuple[int, Tensor]:
        """The axis of y that counts examples, and delta repeated where that axis counts positions as well."""
        assert self.y is not None
        free = [axis for axis in range(self.y.ndim) if axis not in axes]
        hint = self.example_axis
        if hint is not None and hint in free and self.y.shape[hint] == self.examples:
            return hint, delta
        if hint is None:
            for axis in free:
                if self.y.shape[axis] == self.examples:
                    return axis, delta
        first = free[0] if free else 0
        if not free or self.y.shape[first] % self.examples:
            raise KeyError(self.name)
        repeats = self.y.shape[first] // self.examples
        return first, delta.repeat(repeats, 1) if hint else delta.repeat_interleave(repeats, 0)

    def _scattered(self, delta: Tensor) -> Tensor:
        """What a shift of a transposed convolution's products adds to its output: ones, convolved with delta."""
        stride, padding, dilation, extra, _ = self.call.geometry
        examples, spatial = len(delta), self.call.x.shape[2:]
        kernel = self.call.weight.shape[2:]
        weight = delta.reshape(examples, -1, *kernel)
        ones = delta.new_ones(1, examples, *spatial)
        function = getattr(torch.nn.functional, f"conv_transpose{len(spatial)}d")
        out: Tensor = function(ones, weight, None, stride, padding, extra, examples, dilation)
        return out.reshape(examples, -1, *out.shape[2:])


def window_of(call: Call) -> unfold.Window:
    """How a convolution walks over its input."""
    stride, padding, dilation, _, groups = call.geometry
    kernel = call.weight.shape[2:]
    strides, dilations = each_axis(stride, len(kernel)), each_axis(dilation, len(kernel))
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        before = tuple(t // 2 for t in total)
        after = tuple(t - b for t, b in zip(total, before, strict=True))
    else:
        before = after = each_axis(0 if padding == "valid" else padding, len(kernel))
    return unfold.Window(tuple(kernel), strides, dilations, before, after, groups)


def each_axis(value: Any, axes: int) -> tuple[int, ...]:
    """One number for each axis."""
    values = (value,) if isinstance(value, int) else tuple(int(v) for v in value)
    return values * axes if len(values) == 1 else values


def to_float(tensor: Tensor) -> Array:
    """A float32 numpy array on the CPU."""
    return tensor.detach().to("cpu", torch.float32).numpy()
