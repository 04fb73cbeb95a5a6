"""Sets of images for the tests: what they have in common, noise, and sizes at which something begins."""

from __future__ import annotations

import numpy as np


def blobs(n, height, width, channels, seed=0):
    """Bright ellipses on black with some noise, [n, height, width, channels]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    centre = rng.normal(0.5, 0.1, (n, 2, 1, 1)) * [[[height]], [[width]]]
    inside = ((y - centre[:, 0]) / height) ** 2 + ((x - centre[:, 1]) / width) ** 2 < rng.uniform(0.05, 0.2, (n, 1, 1))
    bright = rng.uniform(80, 250, (n, 1, 1, channels)) + rng.normal(0, 8, (n, height, width, channels))
    return np.where(inside[..., None], np.clip(bright, 0, 255), 0).astype(np.uint8)


CASES = {
    "grey": blobs(300, 12, 10, 1),
    "colour": blobs(70, 9, 11, 3),
    "alpha": blobs(5, 6, 6, 4),
    "one": blobs(1, 20, 16, 1),
    "sites of their own": blobs(1100, 8, 8, 1),
    "regimes": blobs(12100, 5, 4, 1),
    "noise": np.random.default_rng(1).integers(0, 256, (65, 8, 8, 1)).astype(np.uint8),
    "constant": np.full((130, 5, 7, 1), 200, np.uint8),
    "zeros": np.zeros((3, 4, 4, 1), np.uint8),
    "extremes": np.random.default_rng(2).choice([0, 255], (90, 8, 8, 3)).astype(np.uint8),
}
