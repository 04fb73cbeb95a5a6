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
from attar.adapters.torch.calls import Call
from attar.types import Array


@dataclass(frozen=True, slots=True)
class Product:
    """A call with its output y; y is None where the call does not show it. examples: examples in the batch."""

    call: Call
    y: Tensor | None
    examples: int

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
        if self.call.op in ("conv", "conv_transpose"):
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

    def shifted(self, delta: Tensor, axis: int, *, fastest: bool) -> Tensor:
        """Y with delta[n, rows] added at every position of each example.

        axis of y counts the examples; where it counts positions as well, `fastest` says that examples vary fastest.
        """
        assert self.y is not None
        if self.call.weight.rows is not None:
            delta = delta[:, slice(*self.call.weight.rows)]
        delta = delta.to(self.y.dtype)
        if self.call.op == "conv_transpose":
            return self.y + self._scattered(delta)
        repeats = self.y.shape[axis] // len(delta)
        if repeats > 1:
            delta = delta.repeat(repeats, 1) if fastest else delta.repeat_interleave(repeats, 0)
        axes = (axis, *self.row_axes())
        ordered = sorted(range(len(axes)), key=axes.__getitem__)
        blocks = delta.reshape([self.y.shape[a] for a in axes]).permute(ordered)
        return self.y + blocks.reshape([n if a in axes else 1 for a, n in enumerate(self.y.shape)])

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
