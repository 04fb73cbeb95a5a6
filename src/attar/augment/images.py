"""Changes of images, over a batch [n, channels, height, width].

Each takes the batch, its parameters, `draw` (uniform float64 [n, *shape] in [0, 1) for the shape it is called with) and
the span (low, high) of values; it returns a new batch, and `applied` brings that back to dtype and span.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from attar.types import Array

Draw = Callable[..., Array]
Span = tuple[float, float]
FILLS = ("edge", "black")
"""What comes in from outside: the edge repeated, or the low end of the span."""
LEAST_SIDE, MOST_CHANNELS = 8, 16
"""Of what is taken for images; smaller sides are rather sequences or tables."""


@dataclass(frozen=True)
class Flip:
    """Left to right."""

    share: float = field(default=0.5, metadata={"help": "share of images that are flipped", "low": 0.0, "high": 1.0})


@dataclass(frozen=True)
class Shift:
    """Up, down and sideways by whole pixels."""

    reach: float = field(
        default=0.07, metadata={"help": "furthest, as a share of height and width", "low": 0.0, "high": 0.5}
    )
    fill: str = field(default="edge", metadata={"help": "what comes in from outside", "choices": FILLS})


@dataclass(frozen=True)
class Rotate:
    """Around the middle."""

    degrees: float = field(default=8.0, metadata={"help": "furthest to either side", "low": 0.0, "high": 45.0})
    fill: str = field(default="edge", metadata={"help": "what comes in from outside", "choices": FILLS})


@dataclass(frozen=True)
class Zoom:
    """Larger or smaller around the middle."""

    share: float = field(default=0.1, metadata={"help": "most that the size changes by", "low": 0.0, "high": 0.5})
    fill: str = field(default="edge", metadata={"help": "what comes in from outside", "choices": FILLS})


@dataclass(frozen=True)
class Brightness:
    """Lighter or darker: all values times a factor, counted from black."""

    share: float = field(default=0.1, metadata={"help": "most that the factor differs from 1", "low": 0.0, "high": 0.9})


@dataclass(frozen=True)
class Contrast:
    """Distances from the image's mean times a factor."""

    share: float = field(default=0.1, metadata={"help": "most that the factor differs from 1", "low": 0.0, "high": 0.9})


@dataclass(frozen=True)
class Noise:
    """Normal noise on every value."""

    share: float = field(
        default=0.02, metadata={"help": "standard deviation as a share of the range", "low": 0.0, "high": 0.5}
    )


@dataclass(frozen=True)
class Erase:
    """A square of the image's mean."""

    side: float = field(
        default=0.3, metadata={"help": "of the square, as a share of the shorter side", "low": 0.0, "high": 1.0}
    )


def flip(x: Array, p: Flip, draw: Draw, span: Span) -> Array:
    """Left to right by a coin's toss. Not for digits, letters and whatever has a left and a right."""
    del span
    changed = np.array(x)
    chosen = np.flatnonzero(draw() < p.share)
    changed[chosen] = x[chosen][..., ::-1]
    return changed


def shift(x: Array, p: Shift, draw: Draw, span: Span) -> Array:
    """By whole pixels, both ways drawn evenly."""
    for axis in (2, 3):
        side = x.shape[axis]
        most = round(p.reach * side)
        by = np.floor(draw() * (2 * most + 1)).astype(np.int64) - most
        places = np.arange(side) - by[:, None]
        places = places[:, None, :, None] if axis == 2 else places[:, None, None, :]
        outside = (places < 0) | (places >= side)
        x = np.take_along_axis(x, np.clip(places, 0, side - 1), axis)
        x = np.where(outside, x.dtype.type(span[0]), x) if p.fill == "black" else x
    return x


def rotate(x: Array, p: Rotate, draw: Draw, span: Span) -> Array:
    """By an angle drawn evenly, bilinear."""
    angle = np.deg2rad(p.degrees) * (2 * draw() - 1)
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    down, across = _from_middle(x)
    return _sampled(x, cos * down + sin * across, cos * across - sin * down, p.fill, span)


def zoom(x: Array, p: Zoom, draw: Draw, span: Span) -> Array:
    """By a factor drawn evenly, bilinear."""
    factor = (1 / (1 + p.share * (2 * draw() - 1)))[:, None, None]
    down, across = _from_middle(x)
    return _sampled(x, factor * down, factor * across, p.fill, span)


def brightness(x: Array, p: Brightness, draw: Draw, span: Span) -> Array:
    """By a factor for the image, counted from the span's low end."""
    values = _floats(x)
    return np.asarray(values + _each(p.share * (2 * draw() - 1), x) * (values - values.dtype.type(span[0])))


def contrast(x: Array, p: Contrast, draw: Draw, span: Span) -> Array:
    """By a factor for the image; its mean over all channels stays."""
    del span
    values = _floats(x)
    return np.asarray(values + _each(p.share * (2 * draw() - 1), x) * (values - values.mean((1, 2, 3), keepdims=True)))


def noise(x: Array, p: Noise, draw: Draw, span: Span) -> Array:
    """By the inverse of the normal distribution, a draw for a value."""
    from scipy.special import ndtri

    values = ndtri(np.maximum(draw(*x.shape[1:]), 1e-300))
    return np.asarray(x + (p.share * (span[1] - span[0]) * values).astype(_floats(x).dtype))


def erase(x: Array, p: Erase, draw: Draw, span: Span) -> Array:
    """Cutout (DeVries and Taylor 2017, section 3.2): the middle lies anywhere, so that part may lie outside."""
    del span
    height, width = x.shape[2:]
    side = round(p.side * min(height, width))
    inside = np.ones((len(x), 1, 1, 1), bool)
    for axis, length in ((2, height), (3, width)):
        first = (np.floor(draw() * length) - side // 2)[:, None]
        line = (np.arange(length) >= first) & (np.arange(length) < first + side)
        inside = inside & (line[:, None, :, None] if axis == 2 else line[:, None, None, :])
    return np.where(inside, _floats(x).mean((2, 3), keepdims=True), x)


def _floats(x: Array) -> Array:
    """As floats, at least float32."""
    return x.astype(np.result_type(x.dtype, np.float32), copy=False)


def _each(factor: Array, x: Array) -> Array:
    """A factor for each image, to be broadcast."""
    return factor.astype(np.result_type(x.dtype, np.float32))[:, None, None, None]


def _from_middle(x: Array) -> tuple[Array, Array]:
    """Distances of rows [h, 1] and columns [1, w] from the middle."""
    height, width = x.shape[2:]
    return (np.arange(height) - (height - 1) / 2)[:, None], (np.arange(width) - (width - 1) / 2)[None, :]


def _sampled(x: Array, down: Array, across: Array, fill: str, span: Span) -> Array:
    """The images at places [n, h, w], counted from the middle, as floats."""
    from scipy.ndimage import map_coordinates

    n, channels, height, width = x.shape
    places = np.empty((3, n, height, width))
    places[0] = np.arange(n)[:, None, None]
    places[1] = down + (height - 1) / 2
    places[2] = across + (width - 1) / 2
    mode: Literal["nearest", "constant"] = "nearest" if fill == "edge" else "constant"
    values = _floats(x)
    found = np.empty_like(values)
    for channel in range(channels):  # one set of places for all channels: they are larger than the image
        map_coordinates(values[:, channel], places, found[:, channel], order=1, mode=mode, cval=span[0])
    return found


def is_images(x: Array) -> bool:
    """Whether an array can be images: [n, h, w] or [n, c, h, w] or [n, h, w, c] of numbers."""
    if x.ndim not in (3, 4) or x.dtype.kind not in "uif" or not len(x):
        return False
    channels, height, width = planes(x[:1]).shape[1:]
    return bool(min(height, width) >= LEAST_SIDE and channels <= MOST_CHANNELS)


def planes(x: Array) -> Array:
    """Images as a view [n, c, h, w]."""
    if x.ndim == 3:
        return x[:, None]
    return np.moveaxis(x, -1, 1) if _channels_last(x) else x


def as_before(changed: Array, x: Array) -> Array:
    """What `planes` made of x, changed, in the layout of x."""
    if x.ndim == 3:
        return changed[:, 0]
    return np.moveaxis(changed, 1, -1) if _channels_last(x) else changed


def _channels_last(x: Array) -> bool:
    return bool(x.shape[-1] < min(x.shape[1:3]))


def span_of(x: Array) -> Span:
    """The range of values: that of bytes, or what of a set occurs."""
    if x.dtype == np.uint8:
        return 0.0, 255.0
    finite = x[np.isfinite(x)] if x.dtype.kind == "f" and not np.isfinite(x).all() else x
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def finished(values: Array, dtype: np.dtype[Any], span: Span) -> Array:
    """Values in the span and of the dtype; whole numbers are rounded."""
    if values.dtype == dtype:
        return values if dtype.kind in "ui" else np.clip(values, *np.array(span, dtype))
    whole = np.rint(values) if dtype.kind in "ui" else values
    return np.clip(whole, *span).astype(dtype)
