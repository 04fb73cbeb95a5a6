"""From a plan to weights that can be trained, and back to what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attar import entropy, registry
from attar.methods.base import Scaled, Tunable
from attar.recover.base import Latent
from attar.types import Encoded, Layer, Weight

INSIDE = 0.45
"""How far from its code, in steps, a weight may begin: the codes know more than the weights' own rounding."""


def latents_of(layers: Sequence[Layer], encoded: Mapping[str, Encoded], weights: Mapping[str, Weight]) -> list[Latent]:
    """The layers whose method can be tuned, from their codes and the weights that these were made of."""
    return [
        _latent(layer, encoded[layer.name], weights[layer.name])
        for layer in layers
        if isinstance(registry.get("method", encoded[layer.name].method), Tunable)
    ]


def stored(latent: Latent) -> Encoded:
    """What the file holds of a layer as it stands."""
    method = registry.get("method", latent.encoded.method)
    told: Encoded = method.retold(latent.encoded, latent.values, latent.bias)
    return told


def weight_of(latent: Latent) -> Weight:
    """A layer's unrounded weights, from which the next training begins."""
    bias = None if latent.bias is None else latent.bias * latent.row_unit
    return Weight(latent.values * latent.unit, bias)


def decoded(encoded: Encoded) -> Weight:
    """A layer as the model computes with it."""
    weight: Weight = registry.get("method", encoded.method).decode(encoded)
    return weight


def bits(encoded: Encoded) -> float:
    """About what a layer's arrays take in a file: integers by their entropy in scale classes, floats as they are."""
    total = 0.0
    for array in encoded.arrays.values():
        if array.dtype.kind not in "iu":
            total += 8.0 * array.nbytes
            continue
        plain = entropy.ideal_bits(array, None)
        if array.ndim == 2 and array.size:
            levels = entropy.levels(array)
            side = sum(entropy.ideal_bits(level, None) for level in levels)
            plain = min(plain, entropy.ideal_bits(array, entropy.classes(*levels)) + side)
        total += plain
    return total


def _latent(layer: Layer, encoded: Encoded, weight: Weight) -> Latent:
    method: Any = registry.get("method", encoded.method)
    unit, row_unit = method.units(encoded)
    values = np.array(weight.matrix / unit, np.float32)
    bias = None if weight.bias is None else np.array(weight.bias / row_unit, np.float32)
    if not isinstance(method, Scaled):
        return Latent(layer, encoded, unit, row_unit, values, bias, snapped=False)
    rounded = decoded(encoded)
    codes = encoded.arrays[method.CODES].astype(np.float32)
    values = np.clip(values, codes - np.float32(INSIDE), codes + np.float32(INSIDE))
    bias = None if rounded.bias is None else np.array(rounded.bias / row_unit, np.float32)
    return Latent(layer, encoded, unit, row_unit, values, bias)
