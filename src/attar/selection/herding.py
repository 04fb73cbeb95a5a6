"""Kernel herding: examples whose mean, in the feature space of a Gaussian kernel, is nearest to that of all."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from attar.selection.base import F32, Indices, Pool, least_sum

COSINES = 512
"""Random Fourier features that stand for the kernel (Rahimi and Recht, NIPS 2007)."""
PAIRS = 2000
"""Pairs of examples whose median distance is the kernel's width."""


class Herding:
    """Welling, Herding dynamical weights to learn (ICML 2009); Chen, Welling and Smola (UAI 2010), section 3."""

    summary: ClassVar[str] = "kernel herding: examples distributed as all are"
    needs: ClassVar[str] = "layers"

    @staticmethod
    def choose(pool: Pool, k: int, rng: np.random.Generator) -> Indices:
        """See `attar.selection.base.Choice`; without replacement."""
        cosines = _cosines(pool.features, rng)
        return least_sum(cosines, k, np.zeros(pool.size), 1.0)


def _cosines(features: F32, rng: np.random.Generator) -> F32:
    """cos(W x + b) sqrt(2 / COSINES) [n, COSINES]."""
    one, other = rng.integers(0, len(features), (2, PAIRS))
    apart = np.square(features[one] - features[other]).sum(1)
    width = float(np.sqrt(np.median(apart[one != other]))) if (one != other).any() else 0.0
    weights = rng.standard_normal((features.shape[1], COSINES)).astype(np.float32) / np.float32(max(width, 1e-6))
    shift = rng.uniform(0, 2 * np.pi, COSINES).astype(np.float32)
    return np.asarray(np.cos(features @ weights + shift) * np.float32(np.sqrt(2 / COSINES)), np.float32)
