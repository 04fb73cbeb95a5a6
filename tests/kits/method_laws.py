"""The laws of compression methods, for every registered one: see attar/methods/base.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from attar import registry
from attar.coding import encode_array
from attar.methods.base import RATE_MARGIN, declined, distortion
from attar.types import Layer, Stats, Weight

FIXED_BYTES = 64


def problem(
    rows: int, cols: int, groups: int = 1, *, seed: int = 0, bias: bool = True, samples: int = 4000
) -> tuple[Layer, Weight, Stats]:
    """A layer with correlated inputs of unequal variance, unequal rows, and a dead input."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(0, 1, (groups, cols, cols)) * np.exp(rng.normal(0, 0.7, (groups, 1, cols)))
    hessian = mix.transpose(0, 2, 1) @ mix / cols
    hessian[:, -1, :] = hessian[:, :, -1] = 0
    mean = rng.normal(0, 0.5, (groups, cols))
    matrix = (rng.laplace(0, 0.05, (rows, cols)) * np.exp(rng.normal(0, 0.5, (rows, 1)))).astype(np.float32)
    weight = Weight(matrix, rng.normal(0, 0.1, rows).astype(np.float32) if bias else None)
    layer = Layer("layer", "conv" if groups > 1 else "dense", rows, cols, (rows, cols), groups, has_bias=bias)
    return layer, weight, Stats(hessian, mean, samples, samples, np.exp(rng.normal(0, 1, rows)))


def check_method(name: str, layer: Layer, weight: Weight, stats: Stats, slopes: Sequence[float]) -> None:
    """Every law on one layer; a method that declines it has a reason, and is asked for nothing more."""
    method = registry.get("method", name)
    reason = declined(method, layer, stats)
    if reason is not None:
        assert len(reason) > 10, f"{name}: a reason is a sentence"
        return
    before = [np.array(a) for a in _arrays(weight, stats)]
    points = list(method.points(layer, weight, stats, slopes, method.Params()))
    assert points, "a method offers at least one point"
    for point in points:
        assert json.loads(json.dumps(point.choice)) == point.choice and point.choice["method"] == name
        encoded = method.encode(layer, weight, stats, point.choice)
        again = method.encode(layer, weight, stats, point.choice)
        for key, array in encoded.arrays.items():
            np.testing.assert_array_equal(array, again.arrays[key], err_msg=f"{name}: encode is deterministic")
        decoded = method.decode(encoded)
        assert decoded.matrix.shape == weight.matrix.shape and decoded.matrix.dtype == np.float32
        assert (decoded.bias is None) == (weight.bias is None)
        measured = distortion(layer, weight, decoded, stats)
        np.testing.assert_allclose(measured, point.distortion, rtol=1e-6, atol=1e-12)
        size = sum(len(encode_array(array)[1]) for array in encoded.arrays.values())
        allowed = RATE_MARGIN * point.rate_bits / 8 + FIXED_BYTES
        assert size <= allowed, f"{name}: {size} bytes coded, {point.rate_bits / 8:.0f} stated"
    for array, copy in zip(_arrays(weight, stats), before, strict=True):
        np.testing.assert_array_equal(array, copy, err_msg=f"{name}: the input is not modified")


def _arrays(weight: Weight, stats: Stats) -> list[Any]:
    arrays = [weight.matrix, weight.bias, stats.hessian, stats.mean, stats.sensitivity]
    return [array for array in arrays if array is not None]
