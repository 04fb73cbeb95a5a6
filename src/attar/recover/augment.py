"""Label-preserving changes of image batches, drawn anew for every epoch."""

from __future__ import annotations

import numpy as np

from attar.types import Array, Dataset

CHANGES = ("shift", "flip")
SHIFT = 2
"""Pixels by which a batch moves at most."""


def augmented(data: Dataset, changes: tuple[str, ...], rng: np.random.Generator) -> Dataset:
    """The examples flipped left to right by a coin's toss, and moved by up to SHIFT pixels; labels as they are.

    Inputs of four axes are images [n, channels, h, w] or [n, h, w, channels]; others stay.
    """
    if not changes:
        return data
    inputs = {
        name: _changed(values, changes, rng) if values.ndim == 4 else values for name, values in data.inputs.items()
    }
    return Dataset(inputs, data.labels, data.origin, data.class_names)


def _changed(images: Array, changes: tuple[str, ...], rng: np.random.Generator) -> Array:
    """One batch of images."""
    across, down = (2, 1) if images.shape[-1] < min(images.shape[1:3]) else (3, 2)
    if "flip" in changes:
        images = np.array(images)
        chosen = np.flatnonzero(rng.random(len(images)) < 0.5)
        images[chosen] = np.flip(images[chosen], across)
    if "shift" in changes:
        padding = [(SHIFT, SHIFT) if axis in (across, down) else (0, 0) for axis in range(4)]
        wide = np.pad(images, padding)
        starts = rng.integers(0, 2 * SHIFT + 1, 2)
        window = [slice(None)] * 4
        for axis, start in zip((down, across), starts.tolist(), strict=True):
            window[axis] = slice(start, start + images.shape[axis])
        images = np.ascontiguousarray(wide[tuple(window)])
    return images
