"""How the weights of TFLite operators, channels last, map to W, X and Y of the canonical product Y = W X."""

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
    axis: int
    """The axis of the operator's weight that has the output channels, as scales are given for."""
    shown: bool
    """Whether the operator's output is Y, with its rows along the last axis."""

    def matrix(self, weight: Array) -> Matrix:
        """The operator's weight as W[rows, cols], float32."""
        ...

    def weight(self, matrix: Matrix) -> Array:
        """W in the operator's shape: the inverse of `matrix`."""
        ...

    def columns(self, sources: Sequence[Array], sample: Sample | None) -> Array:
        """X[groups, cols, n] from the operator's inputs (ids [n] for an embedding)."""
        ...


class Product:
    """FULLY_CONNECTED [rows, cols], or BATCH_MATMUL [..., cols, rows] with axes of one in front."""

    kind, groups, shown = "dense", 1, True

    def __init__(self, shape: tuple[int, ...], *, turned: bool = False) -> None:
        self.shape, self._turned = shape, turned
        self.rows, self.cols = (shape[-1], shape[-2]) if turned else (shape[-2], shape[-1])
        self.axis = len(shape) - (1 if turned else 2)

    def matrix(self, weight: Array) -> Matrix:
        """W[rows, cols]."""
        own = weight.reshape(self.shape[-2:])
        return np.array(own.T if self._turned else own, np.float32, order="C")

    def weight(self, matrix: Matrix) -> Array:
        """W in the operator's shape."""
        return (matrix.T if self._turned else matrix).reshape(self.shape)

    def columns(self, sources: Sequence[Array], sample: Sample | None) -> Array:  # noqa: ARG002
        """X[1, cols, n]; every position is a column."""
        return sources[0].reshape(-1, self.cols).T[None]


@dataclass(frozen=True)
class Steps:
    """How a convolution walks, an entry for each spatial axis; same: zeros around, for positions = size / stride."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    same: bool

    def window(self, kernel: tuple[int, ...], spatial: Sequence[int], groups: int) -> Window:
        """The window for an input of this size."""
        before = after = (0,) * len(kernel)
        if self.same:
            before, after = same_padding(spatial, kernel, self.strides, self.dilations)
        return Window(kernel, self.strides, self.dilations, before, after, groups)


class Convolution:
    """A convolution whose weight's axes, in the given order, are (outputs, inputs of a group, kernel ...).

    (0, 3, 1, 2) for CONV_2D [O, h, w, C / groups], (3, 0, 1, 2) for DEPTHWISE_CONV_2D [1, h, w, C * multiplier] and
    (4, 3, 0, 1, 2) for CONV_3D [d, h, w, C, O].
    """

    kind, shown = "conv", True

    def __init__(self, shape: tuple[int, ...], order: tuple[int, ...], groups: int, steps: Steps) -> None:
        self.groups, self.order, self.steps = groups, order, steps
        self._moved, self.axis = tuple(shape[axis] for axis in order), order[0]
        self.rows, self.cols = self._moved[0], math.prod(self._moved[1:])

    def matrix(self, weight: Array) -> Matrix:
        """W[rows, cols], cols in (C, kernel ...) order."""
        return np.array(weight.transpose(self.order).reshape(self.rows, self.cols), np.float32, order="C")

    def weight(self, matrix: Matrix) -> Array:
        """W in the operator's shape."""
        return matrix.reshape(self._moved).transpose(np.argsort(self.order))

    def columns(self, sources: Sequence[Array], sample: Sample | None) -> Array:
        """Patches [groups, cols, n], of all positions or of a sample."""
        x = np.moveaxis(sources[0], -1, 1)
        window = self.steps.window(self._moved[2:], x.shape[2:], self.groups)
        positions = math.prod(window.positions(x.shape[2:]))
        return unfold(x, window, None if sample is None else sample.picked(len(x), positions))


class TransposedConvolution:
    """TRANSPOSE_CONV: weight [O, h, w, C]; see `attar.adapters.unfold` for its canonical form."""

    kind, groups, axis, shown = "conv_transpose", 1, 0, False

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.rows, self.cols = math.prod(shape[:3]), shape[3]

    def matrix(self, weight: Array) -> Matrix:
        """W[rows = (O, kernel), cols = C]."""
        return np.array(weight.reshape(self.rows, self.cols), np.float32)

    def weight(self, matrix: Matrix) -> Array:
        """W in the operator's shape."""
        return matrix.reshape(self.shape)

    def columns(self, sources: Sequence[Array], sample: Sample | None) -> Array:
        """Input channels at every position, or at a sample of them."""
        x = np.moveaxis(sources[0], -1, 1)
        picked = None if sample is None else sample.picked(len(x), math.prod(x.shape[2:]))
        return channels_to_columns(x, 1, picked)


class Lookup:
    """EMBEDDING_LOOKUP, or GATHER on the first axis, of a table [V, D ...]: W = table^T, X one-hot."""

    kind, groups, shown = "embedding", 1, True

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.cols, self.rows, self.axis = shape[0], math.prod(shape[1:]), len(shape) - 1

    def matrix(self, weight: Array) -> Matrix:
        """W[D, V]."""
        return np.array(weight.reshape(self.cols, self.rows).T, np.float32, order="C")

    def weight(self, matrix: Matrix) -> Array:
        """The table."""
        return matrix.T.reshape(self.shape)

    def columns(self, sources: Sequence[Array], sample: Sample | None) -> Array:  # noqa: ARG002
        """The ids looked up, [n]."""
        return sources[0].reshape(-1).astype(np.int64) % self.cols


class Gate:
    """One of the eight kernels of UNIDIRECTIONAL_SEQUENCE_LSTM: [hidden, inputs], of the sequence or of the state.

    The state that goes into a step is the operator's output at the step before, zeros at the first.
    """

    kind, groups, axis, shown = "recurrent", 1, 0, False

    def __init__(self, shape: tuple[int, ...], *, state: bool, time_first: bool) -> None:
        self.rows, self.cols = shape
        self._state, self._time_first = state, time_first

    def matrix(self, weight: Array) -> Matrix:
        """W[hidden, inputs], as stored."""
        return np.array(weight, np.float32)

    def weight(self, matrix: Matrix) -> Array:
        """W as stored."""
        return matrix

    def columns(self, sources: Sequence[Array], sample: Sample | None) -> Array:  # noqa: ARG002
        """What goes into every step, [1, inputs, n], example by example."""
        x = sources[0].swapaxes(0, 1) if self._time_first else sources[0]  # [n, T, ...]
        if self._state:
            x = np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], axis=1)
        return x.reshape(-1, self.cols).T[None]
