"""Learned steps: one factor beside a layer's steps is trained with its weights (LSQ, Esser et al. 2020, section 2).

The gradient of a weight's rounded value with respect to its step is round(v) - v, v being the weight in steps, and not
the code itself: what lies behind the code stays where it is while the step moves (equation 3); beyond the largest code,
where there is one, it is the code. The penalty, which is a function of v, has a part of its own: larger steps
make smaller codes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attar import registry
from attar.methods.base import Rescalable
from attar.recover.base import F32, Latent
from attar.types import Array

UNIT = np.float32(0.1)
"""Natural logarithm of the factor in one unit of what Adam moves. Adam's steps do not depend on the gradient's size."""
FARTHEST = np.float32(np.log(16))
"""Largest natural logarithm of the factor either way: a step further from its plan has gone astray."""


class Step:
    """The factor of one layer. `place` [1] is what the optimiser moves; `settle` makes the latent follow it."""

    def __init__(self, latent: Latent) -> None:
        self.latent = latent
        self.place = np.zeros(1, np.float32)
        self._planned = latent.unit, latent.row_unit

    def gradient(self, loss: F32, pull: F32 | float, bias: Array | None) -> F32:
        """Nats per unit of `place` [1], times LSQ's 1 / sqrt(N Q), Q being the largest code.

        loss [rows, cols] and bias [rows] or None: nats per unit of the weights as the model computes with them, and of
        the bias; pull: nats per unit of the values by the penalty, broadcasts to [rows, cols].
        """
        latent = self.latent
        codes, values = latent.codes(), latent.values
        if latent.zeros is not None:
            values = np.where(latent.zeros, np.float32(0), values)  # zero by order, whatever the step
        error = np.where(np.abs(values) > latent.limit, codes, codes - values)
        total = np.vdot(loss, error) - np.sum(pull * values)
        if bias is not None and latent.bias is not None:
            total += np.vdot(bias, np.rint(latent.bias) - latent.bias)
        scale = UNIT / np.sqrt(codes.size * max(1.0, float(np.abs(codes).max(initial=0))))
        return np.full(1, total * scale, np.float32)

    def settle(self) -> None:
        """Units at their new size; values and bias in them stand for the same weights as before."""
        latent = self.latent
        np.clip(self.place, -FARTHEST / UNIT, FARTHEST / UNIT, out=self.place)
        factor = np.exp(self.place[0] * UNIT)
        if factor == latent.factor:
            return
        latent.values *= latent.factor / factor
        if latent.bias is not None:
            latent.bias *= latent.factor / factor
        latent.unit, latent.row_unit = (planned * factor for planned in self._planned)
        latent.factor = factor


def learned(latents: Sequence[Latent]) -> dict[str, Step]:
    """A step by name for each layer whose method can store another."""
    return {
        latent.layer.name: Step(latent)
        for latent in latents
        if latent.snapped and latent.priced and isinstance(registry.get("method", latent.encoded.method), Rescalable)
    }
