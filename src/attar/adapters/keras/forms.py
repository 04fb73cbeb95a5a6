"""The ways a Keras variable is a matrix: which of its axes are rows, and how a layer's input unfolds to its columns.

Every form is a permutation of the variable's axes (row axes first) and a reshape, so that `array(matrix(v))` is
`v` bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from attar.adapters import unfold
from attar.types import Array, Matrix


class Form(Protocol):
    """How one weight maps to W[rows, cols], where its rows are in the product z, and its columns in the input."""

    @property
    def kind(self) -> str:
        """One of types.KINDS."""
        ...

    def matrix(self, array: Array) -> Array:
        """The variable as [rows, cols]."""
        ...

    def array(self, matrix: Matrix, shape: tuple[int, ...]) -> Array:
        """The exact inverse of matrix."""
        ...

    def rows(self, shape: tuple[int, ...]) -> int:
        """Number of rows of a variable of that shape."""
        ...

    def groups(self, shape: tuple[int, ...], /) -> int:
        """Number of groups of a variable of that shape."""
        ...

    def row_axes(self, ndim: int, /) -> tuple[int, ...] | None:
        """The axes of z (of ndim axes, examples first) that are the rows, in order; None where z does not show them."""
        ...

    def positions(self, x: Array, /) -> int | None:
        """Positions of one example that are patches and may be sampled; None where they are not."""
        ...

    def columns(self, x: Array, picked: NDArray[np.int64] | None = None, /) -> Array:
        """X[groups, cols, n] of a layer's input, positions in the order of z's; `picked` as in unfold."""
        ...


class Permuted:
    """A form given by an axis order, row axes first, and the number of row axes."""

    __slots__ = ()

    def order(self, ndim: int, /) -> tuple[tuple[int, ...], int]:
        """The variable's axes in canonical order, and how many of them are rows."""
        raise NotImplementedError

    def matrix(self, array: Array) -> Array:
        """The variable as [rows, cols]."""
        order, _ = self.order(array.ndim)
        return array.transpose(order).reshape(self.rows(array.shape), -1)

    def array(self, matrix: Matrix, shape: tuple[int, ...]) -> Array:
        """The exact inverse of matrix."""
        order, _ = self.order(len(shape))
        return np.asarray(matrix).reshape([shape[axis] for axis in order]).transpose(np.argsort(order))

    def rows(self, shape: tuple[int, ...]) -> int:
        """Product of the row axes."""
        order, count = self.order(len(shape))
        return prod(int(shape[axis]) for axis in order[:count])

    def positions(self, x: Array, /) -> int | None:
        """None: only patches are sampled."""


@dataclass(frozen=True, slots=True)
class Einsum(Permuted):
    """A product `input,kernel->output` in einsum letters, an ellipsis at one end allowed; a dense layer is one.

    Letters that are in all three are groups; in kernel and output only, rows; in kernel and input only, columns; in
    input and output only, positions.
    """

    kind: str
    input: str
    kernel: str
    output: str

    @property
    def group_labels(self) -> str:
        """Kernel letters that the input and the output share."""
        return "".join(c for c in self.kernel if c in self.input and c in self.output)

    @property
    def row_labels(self) -> str:
        """Group letters, then the kernel letters of the output alone."""
        return self.group_labels + "".join(c for c in self.kernel if c not in self.input and c in self.output)

    @property
    def column_labels(self) -> str:
        """Kernel letters that are summed over."""
        return "".join(c for c in self.kernel if c in self.input and c not in self.output)

    @property
    def is_product(self) -> bool:
        """Whether each letter has one of the four roles and the first axis counts examples."""
        lone = set(self.input) - set(self.kernel) - set(self.output)
        split = len(self.row_labels) + len(self.column_labels) == len(self.kernel) == len(set(self.kernel))
        first = self.input[0] == self.output[0] and self.input[0] not in self.kernel
        return not lone and split and first and bool(self.row_labels) and bool(self.column_labels)

    def order(self, _: int, /) -> tuple[tuple[int, ...], int]:
        """Group and row letters first."""
        labels = self.row_labels + self.column_labels
        return tuple(self.kernel.index(c) for c in labels), len(self.row_labels)

    def groups(self, shape: tuple[int, ...], /) -> int:
        """Product of the group axes."""
        return prod(int(shape[self.kernel.index(c)]) for c in self.group_labels)

    def row_axes(self, ndim: int, /) -> tuple[int, ...]:
        """Where the group and row letters are in the output."""
        labels = _spell(self.output, ndim)
        return tuple(labels.index(c) for c in self.row_labels)

    def columns(self, x: Array, _: NDArray[np.int64] | None = None, /) -> Array:
        """[groups, cols, n] of the input, positions in the output's order."""
        labels = _spell(self.input, x.ndim)
        elided = [c for c in labels if isinstance(c, int)]
        places: list[Any] = [c for c in self.output.replace("...", "") if c not in self.kernel]
        places = elided + places if self.output.startswith("...") else places + elided
        order = [labels.index(c) for c in (*self.group_labels, *self.column_labels, *places)]
        groups, cols = len(self.group_labels), len(self.group_labels) + len(self.column_labels)
        moved = x.transpose(order)
        return moved.reshape(prod(moved.shape[:groups]), prod(moved.shape[groups:cols]), -1)


def _spell(labels: str, ndim: int) -> list[Any]:
    """One label per axis; elided axes are numbered."""
    named = labels.replace("...", "")
    elided: list[Any] = list(range(ndim - len(named)))
    return elided + list(named) if labels.startswith("...") else list(named) + elided


@dataclass(frozen=True, slots=True)
class Lookup(Permuted):
    """An embedding [ids, width]: the rows of W are the width, its columns the ids."""

    kind: str = "embedding"

    def order(self, _: int, /) -> tuple[tuple[int, ...], int]:
        """Width first."""
        return (1, 0), 1

    def groups(self, _: tuple[int, ...], /) -> int:
        """Always one."""
        return 1

    def row_axes(self, ndim: int, /) -> tuple[int, ...]:
        """The last axis."""
        return (ndim - 1,)

    def columns(self, x: Array, _: NDArray[np.int64] | None = None, /) -> Array:
        """An embedding has ids in place of columns."""
        raise NotImplementedError("an embedding has ids in place of columns")


@dataclass(frozen=True, slots=True)
class Recurrent(Permuted):
    """A kernel [inputs or states, gates] of a recurrent cell, whose products the loop does not show."""

    kind: str = "recurrent"

    def order(self, _: int, /) -> tuple[tuple[int, ...], int]:
        """Gates first."""
        return (1, 0), 1

    def groups(self, _: tuple[int, ...], /) -> int:
        """Always one."""
        return 1

    def row_axes(self, ndim: int, /) -> None:
        """Hidden in the loop."""

    def columns(self, x: Array, _: NDArray[np.int64] | None = None, /) -> Array:
        """[1, cols, n] of inputs or states [..., cols]."""
        return x.reshape(-1, x.shape[-1]).T[None]


@dataclass(frozen=True, slots=True)
class Conv(Permuted):
    """A convolution kernel [k..., C / groups, O]; depthwise ones are [k..., C, M] with one group per channel.

    padding is "valid", "same" (the odd zero behind, as TensorFlow pads) or "causal". split: groups, 0 for depthwise.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str
    channels_last: bool
    split: int
    kind: str = "conv"

    @classmethod
    def of(cls, layer: Any, groups: int) -> Self:
        """The geometry of a Keras layer; groups 0 stands for depthwise."""
        size, strides, dilation = tuple(layer.kernel_size), tuple(layer.strides), tuple(layer.dilation_rate)
        return cls(size, strides, dilation, layer.padding, layer.data_format == "channels_last", groups)

    @classmethod
    def pointwise(cls, layer: Any) -> Self:
        """The 1x1 half of a separable convolution."""
        ones = (1,) * len(layer.kernel_size)
        return cls(ones, ones, ones, "valid", layer.data_format == "channels_last", 1)

    def order(self, ndim: int, /) -> tuple[tuple[int, ...], int]:
        """(O, C, k...), or (C, M, k...) for depthwise with both as rows."""
        window = tuple(range(ndim - 2))
        return ((ndim - 2, ndim - 1, *window), 2) if self.split == 0 else ((ndim - 1, ndim - 2, *window), 1)

    def groups(self, shape: tuple[int, ...], /) -> int:
        """The layer's groups; all channels for depthwise."""
        return self.split or int(shape[-2])

    def row_axes(self, ndim: int, /) -> tuple[int, ...] | None:
        """The channel axis."""
        return (ndim - 1,) if self.channels_last else (1,)

    def positions(self, x: Array, /) -> int | None:
        """Output positions of one example, of which statistics take some."""
        first = self._channels_first(x)
        return prod(self._window(first).positions(first.shape[2:]))

    def columns(self, x: Array, picked: NDArray[np.int64] | None = None, /) -> Array:
        """[groups, cols, n] of patches; picked [examples, k] are the output positions wanted."""
        first = self._channels_first(x)
        return unfold.unfold(first, self._window(first), picked)

    def _channels_first(self, x: Array) -> Array:
        return np.moveaxis(x, -1, 1) if self.channels_last else x

    def _window(self, x: Array) -> unfold.Window:
        """The window over x[n, C, spatial...]."""
        before = after = (0,) * len(self.size)
        if self.padding == "same":
            before, after = unfold.same_padding(x.shape[2:], self.size, self.strides, self.dilation)
        elif self.padding == "causal":
            before = tuple((k - 1) * d for k, d in zip(self.size, self.dilation, strict=True))
        return unfold.Window(self.size, self.strides, self.dilation, before, after, self.split or x.shape[1])


@dataclass(frozen=True, slots=True)
class ConvTranspose(Conv):
    """A transposed convolution kernel [k..., O, C]: rows (O, k...), columns the channels, as `unfold` says."""

    kind: str = "conv_transpose"

    def order(self, ndim: int, /) -> tuple[tuple[int, ...], int]:
        """(O, k..., C) with the last as columns."""
        return (ndim - 2, *range(ndim - 2), ndim - 1), ndim - 1

    def row_axes(self, ndim: int, /) -> None:
        """The products are summed before they are shown."""

    def positions(self, x: Array, /) -> int | None:
        """Input positions of one example."""
        return prod(self._channels_first(x).shape[2:])

    def columns(self, x: Array, picked: NDArray[np.int64] | None = None, /) -> Array:
        """[1, C, n] of input channels."""
        return unfold.channels_to_columns(self._channels_first(x), 1, picked)
