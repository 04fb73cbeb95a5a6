"""Changes of sounds, over a batch [n, channels, samples]; lengths stay, what is missing is silence.

The channels of a sound change alike. Functions are called as those of images are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from attar.augment.images import Draw, Span
from attar.types import Array


@dataclass(frozen=True)
class Gain:
    """Louder or softer; what leaves the range is clipped."""

    decibels: float = field(default=6.0, metadata={"help": "most to either side", "low": 0.0, "high": 40.0})


@dataclass(frozen=True)
class Noise:
    """White noise, measured against the sound's own power."""

    snr: float = field(
        default=20.0, metadata={"help": "lowest ratio of signal to noise, in decibels", "low": -20.0, "high": 120.0}
    )
    share: float = field(default=1.0, metadata={"help": "share of sounds that get noise", "low": 0.0, "high": 1.0})


@dataclass(frozen=True)
class Shift:
    """Earlier or later; what leaves an end is lost."""

    reach: float = field(default=0.05, metadata={"help": "furthest, as a share of the length", "low": 0.0, "high": 0.5})


@dataclass(frozen=True)
class Speed:
    """Faster and higher, or slower and lower; what a slower sound has too much is cut off."""

    share: float = field(
        default=0.1, metadata={"help": "most that the speed changes by, in whole hundredths", "low": 0.0, "high": 0.5}
    )


LOUDEST_SNR = 20.0
"""Decibels above `snr` within which the ratio is drawn."""


def gain(x: Array, p: Gain, draw: Draw, span: Span) -> Array:
    """By decibels drawn evenly."""
    del span
    factor = 10 ** (p.decibels * (2 * draw() - 1) / 20)
    return x * factor.astype(np.float32)[:, None, None]


def noise(x: Array, p: Noise, draw: Draw, span: Span) -> Array:
    """At a ratio drawn evenly from `snr` to 20 decibels above; silence stays silent."""
    del span
    from scipy.special import ndtri

    chosen, ratio = draw() < p.share, p.snr + LOUDEST_SNR * draw()
    power = np.sqrt(np.mean(np.square(x, dtype=np.float64), (1, 2)))
    scale = np.where(chosen, power * 10 ** (-ratio / 20), 0.0)
    values = ndtri(np.maximum(draw(*x.shape[1:]), 1e-300))
    return x + (scale[:, None, None] * values).astype(np.float32)


def shift(x: Array, p: Shift, draw: Draw, span: Span) -> Array:
    """By whole samples, both ways drawn evenly."""
    del span
    length = x.shape[2]
    most = round(p.reach * length)
    by = np.floor(draw() * (2 * most + 1)).astype(np.int64) - most
    places = np.arange(length) - by[:, None]
    found = np.take_along_axis(x, np.clip(places, 0, length - 1)[:, None], 2)
    return np.where(((places >= 0) & (places < length))[:, None], found, x.dtype.type(0))


def speed(x: Array, p: Speed, draw: Draw, span: Span) -> Array:
    """By polyphase resampling; one sound at a time, since each has a rate of its own."""
    del span
    from scipy.signal import resample_poly

    most = round(100 * p.share)
    rates = 100 + np.floor(draw() * (2 * most + 1)).astype(np.int64) - most
    changed = np.zeros(x.shape, np.result_type(x.dtype, np.float32))
    for one, sound, rate in zip(changed, x, rates.tolist(), strict=True):
        found = sound if rate == 100 else resample_poly(sound.astype(one.dtype), 100, rate, axis=1)
        one[:, : found.shape[1]] = found[:, : x.shape[2]]
    return changed


def is_sounds(x: Array) -> bool:
    """Whether an array can be sounds: [n, samples], floats or int16."""
    return x.ndim == 2 and (x.dtype == np.int16 or x.dtype.kind == "f")


def sound_span(x: Array) -> Span:
    """The range of samples: that of int16, or -1 to 1 where floats are within it, or what occurs, to both sides."""
    if x.dtype == np.int16:
        return -32768.0, 32767.0
    most = float(np.nanmax(np.abs(x))) if x.size else 0.0
    return (-1.0, 1.0) if most <= 1 else (-most, most)
