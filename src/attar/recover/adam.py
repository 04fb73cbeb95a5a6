"""Adam (Kingma and Ba 2015, algorithm 1) over named float32 arrays, which it moves in place."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from attar.recover.base import F32

BETA1, BETA2 = np.float32(0.9), np.float32(0.999)
EPSILON = np.float32(1e-12)
WARM = 50
"""Steps over which the rate rises to its full size."""


class Adam:
    """Steps of at most about `rate` units; the rate rises for WARM steps and falls to zero like half a cosine."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._moments: dict[str, tuple[F32, F32, F32]] = {}

    def step(self, values: Mapping[str, F32], gradients: Mapping[str, F32], rate: float) -> None:
        """One step of every array that has a gradient."""
        share = 0.5 * (1 + np.cos(np.pi * self._done / self._steps)) * min(1.0, (self._done + 1) / WARM)
        self._done += 1
        first = np.float32(rate * share / (1 - 0.9**self._done))
        second = np.float32(1 / (1 - 0.999**self._done))
        for name, gradient in gradients.items():
            if name not in self._moments:
                self._moments[name] = tuple(np.zeros_like(gradient) for _ in range(3))  # type: ignore[assignment]
            mean, square, spare = self._moments[name]
            mean *= BETA1
            np.multiply(gradient, 1 - BETA1, out=spare)
            mean += spare
            square *= BETA2
            np.multiply(gradient, gradient, out=spare)
            spare *= 1 - BETA2
            square += spare
            np.multiply(square, second, out=spare)
            np.sqrt(spare, out=spare)
            spare += EPSILON
            np.divide(mean, spare, out=spare)
            spare *= first
            values[name][...] -= spare
