"""From a plan to weights that can be trained, and back to what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from attar import entropy, registry
from attar.methods.base import BIAS_PART, Tunable, trainable
from attar.recover.base import Form, Latent
from attar.types import Encoded, Layer, Weight

INSIDE = 0.45
"""How far from its code, in steps, a weight may begin: the codes know more than the weights' own rounding."""


def forms_of(layers: Sequence[Layer], encoded: Mapping[str, Encoded], weights: Mapping[str, Weight]) -> list[Form]:
    """The layers that training can move, from their codes and the weights that these were made of."""
    methods = {layer.name: registry.get("method", encoded[layer.name].method) for layer in layers}
    return [
        _form(layer, encoded[layer.name], weights[layer.name]) for layer in layers if trainable(methods[layer.name])
    ]


def stored(form: Form) -> Encoded:
    """What the file holds of a layer as it stands."""
    told: dict[str, Encoded] = {}
    for name, latent in form.latents.items():
        method, encoded = registry.get("method", latent.encoded.method), latent.encoded
        if latent.factor != 1:
            encoded = method.rescaled(encoded, float(latent.factor))
        told[name] = method.retold(encoded, latent.values, latent.bias)
    if "" in told:
        return told[""]
    joined: Encoded = registry.get("method", form.encoded.method).joined(form.encoded, told)
    return joined


def weight_of(form: Form) -> Weight:
    """A layer's unrounded weights, from which the next training begins."""
    return form.weight({name: _unrounded(latent) for name, latent in form.latents.items()})


def _unrounded(latent: Latent) -> Weight:
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


def _form(layer: Layer, encoded: Encoded, weight: Weight) -> Form:
    """A layer at its weights, or its parts at their codes."""
    method: Any = registry.get("method", encoded.method)
    if isinstance(method, Tunable):
        return Form(layer, encoded, {"": _latent(layer, encoded, weight)})
    latents = {}
    for name, part in method.parts(encoded).items():
        matrix = decoded(part)
        rows, cols = matrix.matrix.shape
        own = Layer(f"{layer.name}/{name}", layer.kind, rows, cols, (rows, cols), has_bias=matrix.bias is not None)
        latents[name] = replace(_latent(own, part, matrix), priced=name != BIAS_PART)
    return Form(layer, encoded, latents)


def _latent(layer: Layer, encoded: Encoded, weight: Weight) -> Latent:
    method: Any = registry.get("method", encoded.method)
    unit, row_unit = method.units(encoded)
    values = np.divide(weight.matrix, unit, out=np.zeros(weight.matrix.shape, np.float32), where=unit != 0)
    bias = None if weight.bias is None else np.array(weight.bias / row_unit, np.float32)
    if not hasattr(method, "CODES"):
        return Latent(layer, encoded, unit, row_unit, values, bias, snapped=False)
    rounded = decoded(encoded)
    codes = encoded.arrays[method.CODES].astype(np.float32)
    values = np.clip(values, codes - np.float32(INSIDE), codes + np.float32(INSIDE))
    bias = None if rounded.bias is None else np.array(rounded.bias / row_unit, np.float32)
    limit = method.limit(encoded) if hasattr(method, "limit") else np.inf
    return Latent(layer, encoded, unit, row_unit, values, bias, limit=limit)
