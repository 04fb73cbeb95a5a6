"""What recovery works on: a layer's weights in units of their steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar import registry
from attar.types import Encoded, Layer, Weight

F32 = NDArray[np.float32]


@dataclass
class Latent:
    """One layer in training: weights and bias in units, moved by steps far smaller than those that the file can hold.

    values [rows, cols] and bias [rows] (in units of row_unit) are what the optimiser moves; `unit` broadcasts to
    [rows, cols]. snapped: whether the model sees values on the grid, or as they are. priced: whether a penalty counts.
    limit: the largest code. factor: how much larger the units are than those of `encoded`. zeros [rows, cols]: where
    the model computes with nothing, whatever the values. The layer is a part of one where the method is composed.
    """

    layer: Layer
    encoded: Encoded
    unit: F32
    row_unit: F32
    values: F32
    bias: F32 | None
    snapped: bool = True
    priced: bool = True
    limit: float = np.inf
    factor: np.float32 = field(default_factory=lambda: np.float32(1))
    zeros: NDArray[np.bool_] | None = None

    def codes(self) -> F32:
        """Whole numbers nearest to the values, nothing at `zeros`."""
        return self._cleared(np.clip(np.rint(self.values), -self.limit, self.limit))

    def weight(self) -> Weight:
        """What the model computes with."""
        values = self.codes() if self.snapped else self._cleared(self.values)
        bias = self.bias
        if bias is not None:
            bias = (np.rint(bias) if self.snapped else bias) * self.row_unit
        return Weight(values * self.unit, bias)

    def _cleared(self, values: F32) -> F32:
        return values if self.zeros is None else np.where(self.zeros, np.float32(0), values)


@dataclass
class Form:
    """A layer in training: itself under the name "", or the parts that its method composes it of."""

    layer: Layer
    encoded: Encoded
    latents: Mapping[str, Latent]

    def weight(self, parts: Mapping[str, Weight]) -> Weight:
        """The layer that weights of its parts make."""
        if "" in parts:
            return parts[""]
        made: Weight = self._method.composed(self.encoded, parts)
        return made

    def spread(self, parts: Mapping[str, Weight], gradient: Weight) -> Mapping[str, Weight]:
        """The gradient of each part, in the layer's own units, at these weights of the parts."""
        if "" in parts:
            return {"": gradient}
        found: Mapping[str, Weight] = self._method.spread(self.encoded, parts, gradient)
        return found

    @property
    def _method(self) -> Any:
        return registry.get("method", self.encoded.method)
