"""What pulls weights together while they are trained: each penalty is a gradient in units of the grid's steps.

A penalty is made for one layer, told now and then how its values stand, and asked before every step what it adds to the
gradient of the loss (nats per example). It speaks the search's currency: bits, which the slope turns into nats.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from attar import entropy
from attar.recover.base import F32, Latent

RADIUS = 255
REMOVED = 3.0
"""log alpha above which a weight is all noise (Molchanov, Ashukha and Vetrov 2017, section 4.3)."""
K1, K2, K3 = 0.63576, 1.87320, 1.48695
"""Of their approximation of the Kullback-Leibler term, equation 14."""
NOISE_RATE = 0.02
"""Largest step of a weight's log sigma^2."""
MEMORY, SCALE_MEMORY = 0.99, 0.999
"""Of the mean and of the mean square of its gradient, of which most is chance."""


class Penalty:
    """Nothing: the base of the others."""

    name: ClassVar[str] = "none"

    def refresh(self, latent: Latent) -> None:
        """Look at the values anew."""

    def noise(self, latent: Latent, rng: np.random.Generator) -> F32 | None:  # noqa: ARG002
        """What is added to what the model computes with, for one step, in units; None for nothing."""
        return None

    def gradient(self, latent: Latent, loss: F32, slope: float) -> F32 | float:  # noqa: ARG002
        """Nats per unit of `latent.values`, given the loss's own gradient; broadcasts to [rows, cols]."""
        return 0.0

    def finish(self, latent: Latent) -> None:
        """Leave the values as they are to be stored."""


class Entropy(Penalty):
    """The coded size itself: the price of the next code less that of this one, by the tables of attar/entropy.py.

    Linear interpolation of the rate of an entropy-constrained quantiser (Chou, Lookabaugh and Gray 1989).
    """

    name: ClassVar[str] = "entropy"

    def __init__(self) -> None:
        self._rise = np.zeros(0, np.float32)
        self._offset = np.zeros((0, 0), np.int32)
        self._radius = 0

    def refresh(self, latent: Latent) -> None:
        """Classes and price tables from the present codes."""
        codes = latent.codes().astype(np.int32)
        self._radius = int(min(RADIUS, np.abs(codes).max(initial=0) + 2))
        class_of = entropy.classes(*entropy.levels(codes))
        table = entropy.bits_table(codes, class_of, self._radius)
        self._rise = np.ascontiguousarray(np.diff(table, axis=1), np.float32).ravel()
        self._offset = class_of.astype(np.int32) * (2 * self._radius) + self._radius

    def gradient(self, latent: Latent, loss: F32, slope: float) -> F32 | float:  # noqa: ARG002
        """The rise between the two codes around each value."""
        below = np.floor(latent.values).astype(np.int32)
        np.clip(below, -self._radius, self._radius - 1, out=below)
        below += self._offset
        return self._rise[below] * np.float32(slope)


class L1(Penalty):
    """One bit for each step away from zero (Tibshirani 1996)."""

    name: ClassVar[str] = "l1"

    def gradient(self, latent: Latent, loss: F32, slope: float) -> F32 | float:  # noqa: ARG002
        """Signs."""
        return np.sign(latent.values) * np.float32(slope)


class GroupLasso(Penalty):
    """The length of each row, times the root of its width: whole outputs go (Yuan and Lin 2006)."""

    name: ClassVar[str] = "group"

    def gradient(self, latent: Latent, loss: F32, slope: float) -> F32 | float:  # noqa: ARG002
        """The rows' directions."""
        length = np.linalg.norm(latent.values, axis=1, keepdims=True)
        width = np.float32(slope * np.sqrt(latent.values.shape[1]))
        return np.asarray(latent.values * width / np.maximum(length, np.float32(1e-6)), np.float32)


class Variational(Penalty):
    """Sparse variational dropout (Molchanov, Ashukha and Vetrov 2017): noise whose variance each weight learns.

    A weight whose noise outgrows it carries nothing and is removed. The penalty's weight is the slope in nats per bit.
    """

    name: ClassVar[str] = "variational"

    def __init__(self) -> None:
        self._log_variance = np.zeros((0, 0), np.float32)
        self._drawn = np.zeros((0, 0), np.float32)
        self._mean = np.zeros((0, 0), np.float32)
        self._square = np.zeros((0, 0), np.float32)

    def refresh(self, latent: Latent) -> None:
        """Noise of a tenth of a step to begin with."""
        if not self._log_variance.size:
            self._log_variance = np.full(latent.values.shape, 2 * np.log(0.1), np.float32)
            self._mean, self._square = np.zeros((2, *latent.values.shape), np.float32)

    def noise(self, latent: Latent, rng: np.random.Generator) -> F32 | None:
        """sigma times a standard normal."""
        self._drawn = rng.standard_normal(latent.values.shape, np.float32) * np.exp(self._log_variance / 2)
        return self._drawn

    def gradient(self, latent: Latent, loss: F32, slope: float) -> F32 | float:
        """That of the Kullback-Leibler term; log sigma^2 takes a step of its own.

        The step is the mean gradient over its root mean square: where a step says little of the loss, as for a weight
        that is needed a little, the signs of single gradients would leave the pull alone to decide.
        """
        pull = self._log_alpha_gradient(latent) * np.float32(slope / np.log(2))
        toward = 0.5 * loss * self._drawn + pull
        self._mean += np.float32(1 - MEMORY) * (toward - self._mean)
        self._square += np.float32(1 - SCALE_MEMORY) * (np.square(toward) - self._square)
        size = np.sqrt(self._square) + np.float32(1e-12)
        self._log_variance -= np.float32(NOISE_RATE) * np.clip(self._mean / size, -1, 1)
        np.clip(self._log_variance, -20, 6, out=self._log_variance)
        value = np.where(np.abs(latent.values) < 1e-3, np.float32(1e-3), latent.values)
        return np.asarray(-2 * pull / value, np.float32)

    def _log_alpha(self, latent: Latent) -> F32:
        return np.asarray(self._log_variance - 2 * np.log(np.abs(latent.values) + np.float32(1e-6)), np.float32)

    def _log_alpha_gradient(self, latent: Latent) -> F32:
        """d KL / d log alpha, [rows, cols]; negative: more noise is cheaper."""
        log_alpha = np.clip(self._log_alpha(latent), -20, 20)
        gate = 1 / (1 + np.exp(-(K2 + K3 * log_alpha)))
        return np.asarray(-K1 * K3 * gate * (1 - gate) - 0.5 / (1 + np.exp(log_alpha)), np.float32)

    def finish(self, latent: Latent) -> None:
        """What is all noise becomes zero."""
        latent.values[self._log_alpha(latent) > REMOVED] = 0


PENALTIES: dict[str, type[Penalty]] = {one.name: one for one in (Penalty, Entropy, L1, GroupLasso, Variational)}


def penalty(name: str) -> Penalty:
    """A new penalty for one layer."""
    return PENALTIES[name]()
