"""How far a fixed-rate grid reaches: by the largest value, by the least squared error, or by the least divergence.

Sources: Nagel et al. 2021 (A White Paper on Neural Network Quantization, section 3.1: min-max and MSE ranges);
Migacz 2017 (8-bit Inference with TensorRT: the divergence of the histogram before and after).
"""

from __future__ import annotations

import numpy as np

from attar.methods.grid import F32

RANGES = ("mse", "kl", "minmax")
SHRINKS = np.linspace(1.0, 0.3, 22)
"""Reaches that are tried, as shares of the largest value."""
BINS = 96


def reach(values: F32, weights: F32, top: int, rule: str) -> F32:
    """Each slice's largest representable magnitude [slices], of values and weights [slices, n]; codes are -top .. top.

    weights say what a squared error matters; raises ValueError for an unknown rule.
    """
    if rule not in RANGES:
        raise ValueError(f"range: it must be one of {', '.join(RANGES)}. Received {rule!r}.")
    largest = np.abs(values).max(1, initial=0)
    if rule == "minmax":
        return np.asarray(largest, np.float32)
    loss = _error if rule == "mse" else _divergence
    losses = np.stack([loss(values, weights, np.asarray(largest * share, np.float32), top) for share in SHRINKS])
    return np.asarray(largest * SHRINKS[np.argmin(losses, axis=0)], np.float32)


def _error(values: F32, weights: F32, far: F32, top: int) -> F32:
    """Weighted squared error of each slice."""
    step = np.maximum(far / top, np.float32(1e-30))[:, None]
    error = values - np.clip(np.rint(values / step), -top, top) * step
    return np.asarray((weights * np.square(error)).sum(1))


def _divergence(values: F32, weights: F32, far: F32, top: int) -> F32:
    """KL of each slice's histogram of magnitudes to that of its quantised values, spread evenly over their cells."""
    del weights
    slices = len(values)
    largest = np.maximum(np.abs(values).max(1, initial=0), 1e-30)[:, None]
    place = np.minimum((np.abs(values) / largest * BINS).astype(np.int64), BINS - 1)
    flat = (place + BINS * np.arange(slices)[:, None]).ravel()
    before = np.bincount(flat, minlength=slices * BINS).reshape(slices, BINS).astype(np.float64) + 1e-3
    middle = (np.arange(BINS) + 0.5) / BINS * largest
    step = np.maximum(far / top, np.float32(1e-30))[:, None]
    cell = np.minimum(np.rint(middle / step), top).astype(np.int64) + (top + 1) * np.arange(slices)[:, None]
    mass = np.bincount(cell.ravel(), before.ravel(), slices * (top + 1))
    # What is clipped falls into the last cell's own bins: those beyond the reach get next to nothing.
    inside = np.where(middle <= far[:, None] + step / 2, 1.0, 1e-3)
    width = np.bincount(cell.ravel(), inside.ravel(), slices * (top + 1))
    after = mass[cell] / width[cell] * inside
    total = before.sum(1)
    return np.asarray((before * np.log(before / after)).sum(1) / total, np.float32)
