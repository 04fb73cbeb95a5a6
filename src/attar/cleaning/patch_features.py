"""Features of images for a linear model: how well their patches fit filters that are patches themselves."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from attar.types import Array

FILTERS, SIDE, STRIDE, POOLS = 128, 6, 2, 4
SAMPLED = 40_000
"""Patches that whitening is estimated from."""
THRESHOLD = 0.5
BATCH = 250
Floats = NDArray[np.float32]


def patch_features(images: Array, seed: int = 0) -> Floats:
    """Images uint8 [n, h, w] or [n, h, w, c], with sides of at least 9, as features [n, 4 * 4 * 2 * 128].

    Filters are random whitened patches of 6 x 6 pixels, their responses rectified on both sides and averaged in 4 x 4
    fields (Coates and Ng, Learning feature representations with k-means, 2012, with drawn patches as the dictionary).
    """
    stack = images[..., None] if images.ndim == 3 else images
    rng = np.random.default_rng(seed)
    sample = _normalised(_sampled(stack, rng))
    mean = sample.mean(0)
    values, vectors = np.linalg.eigh(np.cov(sample.T) + 0.0)
    whiten = ((vectors / np.sqrt(np.maximum(values, 0) + 0.1)) @ vectors.T).astype(np.float32)
    chosen = ((sample - mean) @ whiten)[rng.choice(len(sample), FILTERS, replace=False)]
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True) + 1e-6
    filters = whiten @ chosen.T
    features = np.empty((len(stack), POOLS * POOLS * 2 * FILTERS), np.float32)
    for at in range(0, len(stack), BATCH):
        features[at : at + BATCH] = _pooled(stack[at : at + BATCH], mean, filters)
    return features


def _sampled(stack: Array, rng: np.random.Generator) -> Floats:
    """Random patches [SAMPLED, SIDE * SIDE * c]."""
    n, height, width = stack.shape[:3]
    which = rng.integers(0, n, SAMPLED)
    down, right = rng.integers(0, height - SIDE + 1, SAMPLED), rng.integers(0, width - SIDE + 1, SAMPLED)
    rows = down[:, None, None] + np.arange(SIDE)[:, None]
    columns = right[:, None, None] + np.arange(SIDE)
    return stack[which[:, None, None], rows, columns].reshape(SAMPLED, -1).astype(np.float32) / 255


def _normalised(patches: Floats) -> Floats:
    """Patches without their mean and contrast."""
    centred = patches - patches.mean(1, keepdims=True)
    return centred / np.sqrt(patches.var(1, keepdims=True) + 0.01)


def _pooled(stack: Array, mean: Floats, filters: Floats) -> Floats:
    """The features of some images."""
    windows = sliding_window_view(stack, (SIDE, SIDE), (1, 2))[:, ::STRIDE, ::STRIDE]
    n, down, right, channels = windows.shape[:4]
    patches = np.moveaxis(windows, 3, -1).reshape(n * down * right, SIDE * SIDE * channels).astype(np.float32) / 255
    response = ((_normalised(patches) - mean) @ filters).reshape(n, down, right, -1)
    both = np.concatenate([np.maximum(response - THRESHOLD, 0), np.maximum(-response - THRESHOLD, 0)], -1)
    rows, columns = (np.linspace(0, size, POOLS + 1).astype(int)[:-1] for size in (down, right))
    summed = np.add.reduceat(np.add.reduceat(both, rows, 1), columns, 2)
    return summed.reshape(n, -1)
