"""What recovery works on: one layer's weights in units of their steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.types import Encoded, Layer, Weight

F32 = NDArray[np.float32]


@dataclass
class Latent:
    """One layer in training: weights and bias in units, moved by steps far smaller than those that the file can hold.

    values [rows, cols] and bias [rows] (in units of row_unit) are what the optimiser moves; `unit` broadcasts to
    [rows, cols]. snapped: whether the model sees values on the grid, or as they are.
    """

    layer: Layer
    encoded: Encoded
    unit: F32
    row_unit: F32
    values: F32
    bias: F32 | None
    snapped: bool = True

    def codes(self) -> F32:
        """Whole numbers nearest to the values."""
        return np.rint(self.values)

    def weight(self) -> Weight:
        """What the model computes with."""
        values = self.codes() if self.snapped else self.values
        bias = self.bias
        if bias is not None:
            bias = (np.rint(bias) if self.snapped else bias) * self.row_unit
        return Weight(values * self.unit, bias)
