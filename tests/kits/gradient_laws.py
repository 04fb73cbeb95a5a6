"""The law of adapters that hand gradients back (`Differentiable`)."""

from __future__ import annotations

import numpy as np

from attar.adapters.base import Adapter, Differentiable
from attar.types import Array, Weight
from kits.adapter_case import Batch, Case, close, nearly, owners, same


def law_pullback(case: Case) -> None:
    """Gradients are what the outputs change by, layer by layer, and taking them changes nothing."""
    adapter = case.open()
    if not isinstance(adapter, Differentiable):
        return
    batch = case.batches[0]
    plain, rest = adapter.run(batch).copy(), {k: np.array(v) for k, v in adapter.remainder().items()}
    weights = {layer.name: adapter.read(layer.name) for layer in owners(adapter)}
    rng = np.random.default_rng(2)
    seed = rng.normal(size=plain.shape).astype(np.float32)
    seen: list[Array] = []

    def cotangent(outputs: Array) -> Array:
        seen.append(outputs.copy())
        return seed

    found = adapter.pullback(batch, cotangent)
    close(seen, [plain], case.tolerance, "outputs while gradients are taken")
    assert set(found.layers) <= set(weights) and set(found.others) <= set(rest)
    assert found.layers, "some layer must have a gradient"
    for name, gradient in found.layers.items():
        weight = weights[name]
        assert gradient.matrix.shape == weight.matrix.shape, name
        assert gradient.matrix.dtype == np.float32, name
        assert (gradient.bias is None) == (weight.bias is None), name
        if case.smooth and "16" not in next(layer for layer in adapter.layers() if layer.name == name).dtype:
            _check_slope(adapter, name, batch, seed, gradient)
    for name, other in found.others.items():
        assert other.shape == rest[name].shape, name
    (same if case.exact else nearly)([adapter.run(batch)], [plain], "outputs after taking gradients")
    for name, value in adapter.remainder().items():
        np.testing.assert_array_equal(value, rest[name], err_msg=f"{name}: pullback must leave the remainder alone")


def _check_slope(adapter: Adapter, name: str, batch: Batch, seed: Array, gradient: Weight) -> None:
    """A small step along the gradient of one layer moves sum(outputs * seed) by the gradient's squared length."""
    weight = adapter.read(name)
    parts = [gradient.matrix] if gradient.bias is None else [gradient.matrix, gradient.bias]
    length = float(np.sqrt(sum(np.square(part, dtype=np.float64).sum() for part in parts)))
    if length == 0:
        return
    expected, closest = 2 * length, np.inf
    for relative in (1e-2, 1e-3, 3e-4, 1e-4):  # kinks want small steps, float32 wants large ones: one of them must do
        step = relative * max(float(np.linalg.norm(weight.matrix)), 1e-3) / length
        values = []
        for sign in (1, -1):
            bias = None if weight.bias is None or gradient.bias is None else weight.bias + sign * step * gradient.bias
            adapter.write(name, Weight(weight.matrix + sign * step * gradient.matrix, bias))
            values.append(float(np.sum(adapter.run(batch).astype(np.float64) * seed)))
        closest = min(closest, abs((values[0] - values[1]) / (step * length) - expected))
    adapter.write(name, weight)
    assert closest < 0.05 * expected + 1e-4, f"{name}: the gradient's length is {length}, off by {closest / 2}"
