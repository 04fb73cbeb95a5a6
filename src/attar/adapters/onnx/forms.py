"""How an operator's weight, inputs and outputs map to W, X and Y of the canonical product Y = W X."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attar.adapters.unfold import Window, channels_to_columns, pick, same_padding, unfold
from attar.types import Array, Matrix


@dataclass(frozen=True)
class Sample:
    """Which positions of each example to take: `keep` of them, drawn anew for each layer (by its place) and example."""

    place: int
    start: int
    """Number of the first example."""
    keep: int

    def picked(self, examples: int, positions: int) -> NDArray[np.int64] | None:
        """Positions [examples, keep], or None for all."""
        return pick(examples, positions, self.place, self.start, self.keep)


class Form(Protocol):
    """The layout of one kind of weight; arrays are as the operator sees them."""

    kind: str
    groups: int
    rows: int
    cols: int
    row_axes: tuple[int, ...] | None
    """Axes of the output, counted from the end, that together are the rows; None where no single tensor has them."""
    row_sizes: tuple[int, ...]
    """Their sizes."""

    def matrix(self, weight: Array) -> Matrix:
        """The operator's weight as W[rows, cols], float32."""
        ...

    def weight(self, matrix: Matrix) -> Array:
        """W in the operator's shape: the inverse of `matrix`."""
        ...

    def columns(self, sources: Sequence[Array], sample: Sample | None) -> Array:
        """X[groups, cols, n] from the operator's inputs (ids [n] for an embedding)."""
        ...

    def products(self, sources: Sequence[Array], y: Array) -> Array:
        """Y[rows, n] from the operator's output, less its own bias; columns as in `columns`."""
        ...


def spread(
    values: Array, row_axes: Sequence[int], row_sizes: Sequence[int], ndim: int, batch_axis: int | None = None
) -> Array:
    """values [rows], or [n, rows] with a batch axis, in a shape that broadcasts over an output of `ndim` axes."""
    lead = 0 if batch_axis is None else 1
    places = [*([] if batch_axis is None else [batch_axis % ndim]), *(axis % ndim for axis in row_axes)]
    parts = values.reshape(*values.shape[:lead], *row_sizes).transpose(np.argsort(places))
    shape = [1] * ndim
    for place, size in zip(sorted(places), parts.shape, strict=True):
        shape[place] = size
    return parts.reshape(shape)


def gather(values: Array, row_axes: Sequence[int], row_sizes: Sequence[int]) -> Array:
    """The inverse of `spread` without a batch axis: [rows]."""
    order = np.argsort([axis % (max(-a for a in row_axes)) for axis in row_axes])
    parts = values.reshape([row_sizes[i] for i in order])
    return parts.transpose(np.argsort(order)).reshape(-1)


class Product:
    """Anything that is an einsum of an activation and a weight: MatMul, Gemm, Attention's projection, Einsum.

    Subscripts are single letters, "..." stands for leading axes of the activation. Letters of the weight that are
    summed are the columns, those that survive the rows, those that the activation has too and that survive the groups.
    The weight may have axes of one in front of those that the subscripts name.
    """

    def __init__(self, kind: str, subscripts: tuple[str, str, str], shape: tuple[int, ...], scale: float = 1.0):
        self.kind = kind
        self.x, self.w, self.y = subscripts
        self.scale = scale
        """X is the activation times this (Gemm's alpha), so that W stays as stored."""
        self._given, shape = shape, shape[len(shape) - len(self.w) :]  # without leading axes of one
        size = dict(zip(self.w, shape, strict=True))
        self._group = [c for c in self.w if c in self.x and c in self.y]
        self._free = [c for c in self.w if c not in self.x]
        self._summed = [c for c in self.w if c not in self.y]
        self.groups = math.prod(size[c] for c in self._group)
        self.cols = math.prod(size[c] for c in self._summed)
        self.rows = self.groups * math.prod(size[c] for c in self._free)
        self._order = [self.w.index(c) for c in self._group + self._free + self._summed]
        self._shape = tuple(shape[i] for i in self._order)
        letters = self._group + self._free
        tail = self.y.split("...")[-1]
        self.row_sizes = tuple(size[c] for c in letters)
        self.row_axes = tuple(tail.index(c) - len(tail) for c in letters) if set(letters) <= set(tail) else None

    @staticmethod
    def fits(subscripts: tuple[str, str, str]) -> bool:
        """Whether an einsum is a matrix product with the weight: every letter is in exactly two or all three places."""
        parts = [part.replace("...", "") for part in subscripts]
        x, w, y = (set(part) for part in parts)
        plain = all(len(set(part)) == len(part) for part in parts) and "..." not in subscripts[1]
        summed, free = w & x - y, w & y - x
        return plain and bool(summed) and bool(free) and w <= x | y and x <= w | y and y <= w | x

    def matrix(self, weight: Array) -> Matrix:
        """W[rows, cols]."""
        own = weight.reshape(self._given[len(self._given) - len(self.w) :])
        return own.transpose(self._order).reshape(self.rows, self.cols).astype(np.float32)

    def weight(self, matrix: Matrix) -> Array:
        """W in the operator's shape."""
        return matrix.reshape(self._shape).transpose(np.argsort(self._order)).reshape(self._given)

    def columns(self, sources: Sequence[Array], sample: Sample | None) -> Array:  # noqa: ARG002
        """X[groups, cols, n]; every position is a column."""
        x = sources[0]
        letters, rest = self._letters(self.x, x.ndim)
        order = [letters.index(c) for c in self._group + self._summed + rest]
        moved = x.transpose(order).reshape(self.groups, self.cols, -1)
        return moved if self.scale == 1 else moved * np.float32(self.scale)

    def products(self, sources: Sequence[Array], y: Array) -> Array:
        """Y[rows, n]."""
        letters, _ = self._letters(self.y, y.ndim)
        rest = self._letters(self.x, sources[0].ndim)[1]
        order = [letters.index(c) for c in self._group + self._free + rest]
        return y.transpose(order).reshape(self.rows, -1)

    def _letters(self, subscripts: str, ndim: int) -> tuple[list[str], list[str]]:
        """One letter for each axis (digits for those of "..."), and those that are not the weight's, in order."""
        missing = ndim - len(subscripts.replace("...", ""))
        letters: list[str] = []
        for part in subscripts.replace("...", "*"):
            letters += [str(i) for i in range(missing)] if part == "*" else [part]
        return letters, [c for c in letters if c not in self.w]


@dataclass(frozen=True)
class ConvAttributes:
    """A convolution node's attributes; pads is None for automatic padding."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...] | None
    groups: int
    lower: bool = False
    """Automatic padding puts the odd zero before."""

    def window(self, kernel: tuple[int, ...], spatial: Sequence[int]) -> Window:
        """The window for an input of this size."""
        half = len(kernel)
        if self.pads is None:
            before, after = same_padding(spatial, kernel, self.strides, self.dilations, lower=self.lower)
        else:
            before, after = self.pads[:half], self.pads[half:]
        return Window(kernel, self.strides, self.dilations, before, after, self.groups)


class Convolution:
    """Conv of any dimension: weight [O, C / groups, kernel ...]."""

    kind = "conv"

    def __init__(self, shape: tuple[int, ...], attributes: ConvAttributes):
        self.shape, self.attributes = shape, attributes
        self.groups = attributes.groups
        self.rows, self.cols = shape[0], math.prod(shape[1:])
        self.row_axes: tuple[int, ...] | None = (1 - len(shape),)
        self.row_sizes: tuple[int, ...] = (self.rows,)

    def matrix(self, weight: Array) -> Matrix:
        """W[rows, cols]."""
        return weight.reshape(self.rows, self.cols).astype(np.float32)

    def weight(self, matrix: Matrix) -> Array:
        """W in the operator's shape."""
        return matrix.reshape(self.shape)

    def columns(self, sources: Sequence[Array], sample: Sample | None) -> Array:
        """Patches [groups, cols, n], of all positions or of a sample."""
        x = sources[0]
        window = self.attributes.window(self.shape[2:], x.shape[2:])
        positions = math.prod(window.positions(x.shape[2:]))
        return unfold(x, window, None if sample is None else sample.picked(len(x), positions))

    def products(self, sources: Sequence[Array], y: Array) -> Array:  # noqa: ARG002
        """Y[rows, n]."""
        return np.moveaxis(y, 1, 0).reshape(self.rows, -1)


class TransposedConvolution:
    """ConvTranspose: weight [C, O / groups, kernel ...]; see `attar.adapters.unfold` for its canonical form."""

    kind = "conv_transpose"
    row_axes: tuple[int, ...] | None = None
    row_sizes: tuple[int, ...] = ()

    def __init__(self, shape: tuple[int, ...], groups: int):
        self.shape, self.groups = shape, groups
        self.cols = shape[0] // groups
        self.rows = groups * math.prod(shape[1:])

    def matrix(self, weight: Array) -> Matrix:
        """W[rows = (group, O / groups, kernel), cols = C / groups]."""
        stacked = weight.reshape(self.groups, self.cols, -1).transpose(0, 2, 1)
        return stacked.reshape(self.rows, self.cols).astype(np.float32)

    def weight(self, matrix: Matrix) -> Array:
        """W in the operator's shape."""
        return matrix.reshape(self.groups, -1, self.cols).transpose(0, 2, 1).reshape(self.shape)

    def columns(self, sources: Sequence[Array], sample: Sample | None) -> Array:
        """Input channels at every position, or at a sample of them."""
        x = sources[0]
        picked = None if sample is None else sample.picked(len(x), math.prod(x.shape[2:]))
        return channels_to_columns(x, self.groups, picked)

    def products(self, sources: Sequence[Array], y: Array) -> Array:
        """Not shown by the operator: its output is already summed."""
        raise NotImplementedError


class Lookup:
    """Gather on axis 0 of a table [V, D ...]: W = table^T, X one-hot."""

    kind = "embedding"
    groups = 1

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape
        self.cols, self.rows = shape[0], math.prod(shape[1:])
        self.row_axes: tuple[int, ...] | None = tuple(range(1 - len(shape), 0))
        self.row_sizes: tuple[int, ...] = shape[1:]

    def matrix(self, weight: Array) -> Matrix:
        """W[D, V]."""
        return np.array(weight.reshape(self.cols, self.rows).T, np.float32, order="C")

    def weight(self, matrix: Matrix) -> Array:
        """The table."""
        return matrix.T.reshape(self.shape)

    def columns(self, sources: Sequence[Array], sample: Sample | None) -> Array:  # noqa: ARG002
        """The ids looked up, [n]."""
        return sources[0].reshape(-1).astype(np.int64) % self.cols

    def products(self, sources: Sequence[Array], y: Array) -> Array:  # noqa: ARG002
        """Y[D, n]."""
        return y.reshape(-1, self.rows).T


class Recurrent:
    """W or R of LSTM, GRU, RNN: [directions, gates * hidden, inputs]; one group for each direction.

    X of W is the sequence. X of R is the hidden state that goes into each step, from the operator's output Y; for a
    GRU that resets before the product (linear_before_reset = 0) the candidate gate sees r * h instead, which is not
    shown.
    """

    kind = "recurrent"
    row_axes: tuple[int, ...] | None = None
    row_sizes: tuple[int, ...] = ()

    def __init__(self, shape: tuple[int, ...], *, hidden: bool, direction: str, batch_first: bool):
        self.shape = shape
        self.groups = shape[0]
        self.rows, self.cols = shape[0] * shape[1], shape[2]
        self._hidden, self._direction, self._batch_first = hidden, direction, batch_first

    def matrix(self, weight: Array) -> Matrix:
        """W[directions * gates * hidden, inputs]."""
        return weight.reshape(self.rows, self.cols).astype(np.float32)

    def weight(self, matrix: Matrix) -> Array:
        """W in the operator's shape."""
        return matrix.reshape(self.shape)

    def columns(self, sources: Sequence[Array], sample: Sample | None) -> Array:  # noqa: ARG002
        """Inputs of every step, [directions, inputs, n], example by example."""
        if not self._hidden:
            x = sources[0] if self._batch_first else sources[0].transpose(1, 0, 2)
            flat = x.reshape(-1, self.cols).T
            return np.broadcast_to(flat, (self.groups, *flat.shape))
        states = sources[0]  # [T, directions, n, hidden], or [n, T, directions, hidden]
        if self._batch_first:
            states = states.transpose(1, 2, 0, 3)
        first = np.zeros_like(states[0])
        if len(sources) > 1:
            first = sources[1].transpose(1, 0, 2) if self._batch_first else sources[1]
        before = [self._before(states[:, d], first[d], d) for d in range(self.groups)]
        return np.stack([b.transpose(1, 0, 2).reshape(-1, self.cols).T for b in before])

    def _before(self, states: Array, first: Array, direction: int) -> Array:
        """The state that goes into each step [T, n, hidden] of one direction."""
        backwards = self._direction == "reverse" or direction == 1
        if backwards:
            return np.concatenate([states[1:], first[None]])
        return np.concatenate([first[None], states[:-1]])

    def products(self, sources: Sequence[Array], y: Array) -> Array:
        """Not shown: the gates stay inside the operator."""
        raise NotImplementedError
