"""Convolutions as matrix products: patches to columns, in (C, kh, kw) order, for any number of spatial axes.

Arrays are channels first, [n, C, spatial ...]; a framework that keeps channels last transposes before. Columns are
ordered by example, then by output position in row-major order, as `rows_first` orders the outputs.

A convolution is Y = W X with X the patches. A transposed convolution is the transpose of that: X are the input
channels [C_in, n] at each input position, and Y = W X are the products [C_out * kh * kw, n] before they are scattered
to the output positions and summed; W's rows are in (C_out, kh, kw) order. One constant for each row cannot be
expressed by the layer's bias there, so such a layer has no bias and its own bias stays in the remainder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from attar.types import Array

PATCHES_PER_EXAMPLE = 64
"""Patches of one example that go into statistics. Neighbouring patches overlap, so more add little: see `pick`."""


@dataclass(frozen=True, slots=True)
class Window:
    """How a convolution walks over its input; every sequence has one entry for each spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    """Zeros added before the first element of each axis."""
    after: tuple[int, ...]
    """Zeros added behind the last."""
    groups: int = 1

    @property
    def extent(self) -> tuple[int, ...]:
        """Length of input that one patch spans along each axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def positions(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """Number of output positions along each axis for an input of this size."""
        padded = [size + b + a for size, b, a in zip(spatial, self.before, self.after, strict=True)]
        return tuple(max((p - e) // s + 1, 0) for p, e, s in zip(padded, self.extent, self.strides, strict=True))


def same_padding(
    spatial: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    *,
    lower: bool = False,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding (before, after) that gives ceil(size / stride) positions; the odd zero goes behind, or before if
    `lower`.
    """
    before, after = [], []
    for size, k, s, d in zip(spatial, kernel, strides, dilations, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        before.append(large if lower else small)
        after.append(small if lower else large)
    return tuple(before), tuple(after)


def unfold(x: Array, window: Window, picked: NDArray[np.int64] | None = None) -> Array:
    """Patches of x[n, C, spatial ...] as columns [groups, C / groups * prod(kernel), columns].

    picked [n, k] are the flat output positions wanted of each example (from `pick`); all of them where it is None.
    """
    patches = _patches(x, window)
    examples, channels = x.shape[:2]
    axes = len(window.kernel)
    positions = patches.shape[2 : 2 + axes]
    depth = channels // window.groups * math.prod(window.kernel)
    if picked is None:
        moved = np.moveaxis(patches, 1, 1 + axes)  # n, positions ..., C, kernel ...
        flat = moved.reshape(examples * math.prod(positions), window.groups, depth)
    else:
        place = np.unravel_index(picked.ravel(), positions)
        example = np.repeat(np.arange(examples), picked.shape[1])
        index: tuple[Any, ...] = (example, slice(None), *place)
        flat = patches[index].reshape(-1, window.groups, depth)
    return flat.transpose(1, 2, 0)


def _patches(x: Array, window: Window) -> Array:
    """A view [n, C, positions ..., kernel ...] on the padded input."""
    pads = [(0, 0), (0, 0), *zip(window.before, window.after, strict=True)]
    padded = np.pad(x, pads) if any(b or a for b, a in pads) else x
    axes = tuple(range(2, x.ndim))
    view = sliding_window_view(padded, window.extent, axis=axes)
    every = [slice(None), slice(None)]
    strides = [slice(None, None, step) for step in (*window.strides, *window.dilations)]
    return np.asarray(view[tuple(every + strides)])


def pick(
    examples: int, positions: int, place: int, start: int, keep: int = PATCHES_PER_EXAMPLE
) -> NDArray[np.int64] | None:
    """Output positions [examples, keep] for statistics, or None where there are no more than `keep`.

    place is that of the layer in the model, start the number of the first example.

    The positions are cut into `keep` stretches of equal length and one is drawn from each (stratified sampling), anew
    for each example, so that every part of the picture and every position is seen equally often. An example has the
    same positions whatever batch it comes in and whatever its framework calls the layer.
    """
    if positions <= keep:
        return None
    stream = np.random.PCG64(place).advance(start * keep)
    draw = np.random.Generator(stream).random((examples, keep))
    return np.minimum(((np.arange(keep) + draw) * (positions / keep)).astype(np.int64), positions - 1)


def rows_first(y: Array) -> Array:
    """An output y[n, rows, spatial ...] as [rows, columns], in the order of `unfold`."""
    return np.moveaxis(y, 1, 0).reshape(y.shape[1], -1)


def channels_to_columns(x: Array, groups: int, picked: NDArray[np.int64] | None = None) -> Array:
    """Input channels of x[n, C, spatial ...] at each position as [groups, C / groups, columns]: a transposed
    convolution's X.
    """
    examples, channels = x.shape[:2]
    flat = x.reshape(examples, channels, -1)
    if picked is not None:
        flat = np.take_along_axis(flat, picked[:, None, :], axis=2)
    return np.moveaxis(flat, 1, 0).reshape(groups, channels // groups, -1)


def fold(y: Array, window: Window, examples: int, spatial: Sequence[int], extra: Sequence[int] = ()) -> Array:
    """Scatter a transposed convolution's products y[C_out * prod(kernel), columns] and sum: [n, C_out, output ...].

    spatial is the input's size; window's padding is cut off the output's edges; extra lengthens it behind ("output
    padding").
    """
    kernel = window.kernel
    blocks = y.reshape(-1, *kernel, examples, *spatial)
    extra = tuple(extra) or (0,) * len(kernel)
    full = tuple((n - 1) * s + e + o for n, s, e, o in zip(spatial, window.strides, window.extent, extra, strict=True))
    out = np.zeros((examples, blocks.shape[0], *full), y.dtype)
    for offset in np.ndindex(*kernel):
        start = [o * d for o, d in zip(offset, window.dilations, strict=True)]
        place = tuple(slice(b, b + (n - 1) * s + 1, s) for b, n, s in zip(start, spatial, window.strides, strict=True))
        out[(slice(None), slice(None), *place)] += np.moveaxis(blocks[(slice(None), *offset)], 1, 0)
    inner = tuple(slice(b, size - a) for b, a, size in zip(window.before, window.after, full, strict=True))
    return out[(slice(None), slice(None), *inner)]
