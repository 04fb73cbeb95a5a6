"""Ranges of activations for 8-bit integers: what was seen as a histogram, and four rules that make a range of it.

Sources: Nagel et al. 2021 (A White Paper on Neural Network Quantization, section 3.1: min-max and MSE ranges);
Migacz 2017 (8-bit Inference with TensorRT: the divergence of the histogram before and after).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.types import Array

BINS = 2048
LEVELS = 256
RULES = ("minmax", "percentile", "mse", "kl")
TAIL = 1e-4
"""Share of the values that the percentile rule leaves out, in both tails together."""
SHRINKS = np.linspace(1.0, 0.2, 33)
"""Ends of a range that are tried, as shares of what was seen."""
Floats = NDArray[np.float64]
Range = tuple[float, float]


@dataclass
class Seen:
    """The values of one tensor: least and largest, and how many fell into each of BINS equal cells between them."""

    low: float
    high: float
    counts: Floats

    @classmethod
    def between(cls, low: float, high: float) -> Seen:
        """Nothing yet; zero is always inside, so that it is represented exactly."""
        return cls(min(low, 0.0), max(high, 0.0), np.zeros(BINS))

    def add(self, values: Array) -> None:
        """More values; what is beyond the ends counts in the last cells."""
        width = max(self.high - self.low, 1e-30)
        place = ((np.asarray(values, np.float32).ravel() - np.float32(self.low)) * np.float32(BINS / width)).astype(
            np.int32
        )
        self.counts += np.bincount(np.clip(place, 0, BINS - 1), minlength=BINS)

    @property
    def middles(self) -> Floats:
        """The middle of each cell."""
        return self.low + (np.arange(BINS) + 0.5) * (self.high - self.low) / BINS


Loss = Callable[[Seen, float, float], float]
"""(seen, low, high) -> what a range loses."""


def range_of(seen: Seen, rule: str) -> Range:
    """(low, high) with low <= 0 <= high by one of RULES; raises ValueError for another rule."""
    if rule not in RULES:
        raise ValueError(f"range: the rule must be one of {', '.join(RULES)}. Received {rule!r}.")
    if rule == "minmax" or seen.high <= seen.low or not seen.counts.any():
        return seen.low, seen.high
    if rule == "percentile":
        return _percentile(seen)
    return _least(seen, _squared if rule == "mse" else _divergence)


def _percentile(seen: Seen) -> Range:
    """Without half of TAIL at each end; an end at zero stays."""
    share = np.cumsum(seen.counts) / seen.counts.sum()
    width = (seen.high - seen.low) / BINS
    low = seen.low + width * int(np.searchsorted(share, TAIL / 2, side="right"))
    high = seen.low + width * (int(np.searchsorted(share, 1 - TAIL / 2)) + 1)
    return min(low, 0.0) if seen.low < 0 else seen.low, max(high, 0.0) if seen.high > 0 else seen.high


def _least(seen: Seen, loss: Loss) -> Range:
    """The ends, the upper one first, that make a loss least; two rounds."""
    low, high = seen.low, seen.high
    for _ in range(2):
        if seen.high > 0:
            high = seen.high * float(SHRINKS[np.argmin([loss(seen, low, seen.high * s) for s in SHRINKS])])
        if seen.low < 0:
            low = seen.low * float(SHRINKS[np.argmin([loss(seen, seen.low * s, high) for s in SHRINKS])])
    return low, high


def _squared(seen: Seen, low: float, high: float) -> float:
    """Squared error of rounding inside of a range, and of what is clipped."""
    x, step = seen.middles, (high - low) / (LEVELS - 1)
    outside = x - np.clip(x, low, high)
    inside = np.where(outside == 0, step * step / 12, 0.0)
    # A cell that holds one value, as zero after a ReLU, is met exactly.
    inside[np.abs(x) <= (seen.high - seen.low) / BINS] = 0
    return float((seen.counts * (outside * outside + inside)).sum())


def _divergence(seen: Seen, low: float, high: float) -> float:
    """KL of the histogram to that of its quantised values, spread evenly over the cells that each level stands for."""
    x, step = seen.middles, max((high - low) / (LEVELS - 1), 1e-30)
    before = _without_zeros(seen)
    before += 1e-6 * before.sum() / BINS
    level = np.clip(np.rint((x - low) / step), 0, LEVELS - 1).astype(np.int64)
    mass = np.bincount(level, before, LEVELS)
    # What is clipped falls into the last level's own cells: those beyond the range get next to nothing.
    inside = np.where((x >= low - step / 2) & (x <= high + step / 2), 1.0, 1e-3)
    width = np.bincount(level, inside, LEVELS)
    after = mass[level] / width[level] * inside
    return float((before * np.log(before / after)).sum() / before.sum())


def _without_zeros(seen: Seen) -> Floats:
    """The counts with as many in zero's cell as in its neighbours: zero itself is met exactly, however frequent."""
    counts = seen.counts.copy()
    at = int(np.clip(-seen.low / max(seen.high - seen.low, 1e-30) * BINS, 0, BINS - 1))
    beside = [counts[k] for k in (at - 1, at + 1) if 0 <= k < BINS]
    counts[at] = min(counts[at], max(beside))
    return counts
