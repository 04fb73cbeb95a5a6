"""What recovery is told, and what it works on: the settings, and one layer's weights in units of their steps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attar.types import Encoded, Layer, Weight

F32 = NDArray[np.float32]
PENALTIES = ("none", "entropy", "l1", "group", "variational")
CHANGES = ("shift", "flip")
"""Label-preserving changes of images."""
PARTS = ("all", "norms")
"""What is trained: everything, or biases and the scales of norms alone."""


@dataclass(frozen=True)
class RecoverySettings:
    """What can be tuned; defaults are those that did best on the example models."""

    epochs: int = field(
        default=10, metadata={"help": "passes over the training set for a candidate", "low": 1, "high": 10000}
    )
    candidates: int = field(default=4, metadata={"help": "most candidates that are trained", "low": 1, "high": 32})
    rate: float = field(
        default=0.01, metadata={"help": "first step of Adam, in steps of the grid", "low": 1e-5, "high": 1.0}
    )
    distill: float = field(
        default=0.9, metadata={"help": "weight of the original's answers beside labels", "low": 0.0, "high": 1.0}
    )
    temperature: float = field(
        default=1.0, metadata={"help": "softening of the original's answers", "low": 0.1, "high": 100.0}
    )
    penalty: str = field(
        default="entropy", metadata={"help": "what pulls weights together while they move", "choices": PENALTIES}
    )
    pressure: float = field(
        default=4.0, metadata={"help": "slope of the penalty over that of the grid", "low": 1.0, "high": 1000.0}
    )
    batch: int = field(default=128, metadata={"help": "examples of a step", "low": 1, "high": 65536})
    augment: tuple[str, ...] = field(
        default=(), metadata={"help": "label-preserving changes of images", "choices": CHANGES}
    )
    train: str = field(
        default="all", metadata={"help": "everything, or biases and the scales of norms alone", "choices": PARTS}
    )


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
