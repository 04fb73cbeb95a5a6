"""Rounding without data: every matrix for the least relative error at its rate, and the slope of a wished rate.

A matrix of n weights with relative error e counts as n e^2 / 2: what is equal for all is the relative error (that a
model's loss rises in proportion to the matrices' squared relative errors is the linearity theorem of Malinovskii et al.
2024, HIGGS, section 3; their factors take data to find and are taken as alike).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attar.errors import ModelError
from attar.plan.planner import at_slope
from attar.recipe import Recipe, methods_of
from attar.run.executor import map_in_order
from attar.search.subject import Subject
from attar.types import Layer, Point, Stats, Weight

SAMPLE, LEAST, TOGETHER = 1 << 16, 1 << 12, 1 << 23
"""Weights of a matrix from which its rate is estimated, at most and at least, and of all of them together, about."""
SAMPLES = 10**6
"""Examples that the statistics pretend to come from: enough that nothing is shrunk."""
NEAR = 0.002
"""Relative distance from the wished rate at which the search on samples ends."""
TRIES = 16
METHODS = ("uniform",)
"""What rounds where a recipe says nothing: floats would win nowhere."""
FINEST = 2.0**-14
"""Relative error below which floats are no larger than codes."""


@dataclass(frozen=True)
class Rounding:
    """How matrices are rounded: the recipe's methods and settings; all but `uniform` only where they are asked for."""

    recipe: Recipe
    adapter: Any

    def points(self, layer: Layer, weight: Weight, slope: float) -> list[Point]:
        """What the methods offer for a matrix at a slope."""
        subject = Subject(
            self.adapter, [layer], {layer.name: weight}, {layer.name: stats_of(layer, weight)}, {}, None, {},
            methods_of(self.recipe, METHODS), self.recipe.settings, rules=self.recipe.layers,
        )  # fmt: skip
        return subject.points(layer, slope)

    def best(self, layer: Layer, weight: Weight, slope: float) -> Point:
        """The one of least distortion and rate together."""
        return at_slope({layer.name: self.points(layer, weight, slope)}, slope).choices[layer.name]


def stats_of(layer: Layer, weight: Weight) -> Stats:
    """Inputs that are all alike, independent and centred, and rows weighed so that distortion is n e^2 / 2."""
    norm = float(np.square(weight.matrix, dtype=np.float64).sum())
    even = np.full(layer.rows, layer.size / max(norm, 1e-30))
    return Stats(np.ones((1, layer.cols)), np.zeros((1, layer.cols)), SAMPLES, SAMPLES, even)


def read(adapter: Any, layer: Layer) -> Weight:
    """A matrix; raises ModelError where a value is no finite number."""
    weight: Weight = adapter.read(layer.name)
    bad = int(weight.matrix.size - np.isfinite(weight.matrix).sum())
    if bad:
        raise ModelError(
            f"layer {layer.name!r}: every weight must be a finite number. Received {bad} NaN or infinite values. "
            "The training has diverged: use an earlier checkpoint."
        )
    return weight


def slope_of_error(error: float) -> float:
    """The slope at which a matrix gets this relative error, by high resolution: step 1.5 times the optimum's."""
    return float(np.log(2)) * error**2 / 2.25


def slope_of_bits(bits: float) -> float:
    """The slope at which Gaussian weights take so many bits, about."""
    return slope_of_error(1.2 * 2.0**-bits)


def slope_for(rounding: Rounding, layers: Sequence[Layer], bits: float, jobs: int | None) -> float:
    """The slope at which all matrices together take so many bits a weight, estimated on some rows of each."""
    most = int(np.clip(TOGETHER // len(layers), LEAST, SAMPLE))
    samples = list(map_in_order(lambda layer: _sample(rounding.adapter, layer, most), layers, jobs))
    total = sum(layer.size for layer in layers)

    def rate(slope: float) -> float:
        parts = map_in_order(lambda one: rounding.best(one[1], one[2], slope).rate_bits * one[0], samples, jobs)
        return sum(parts) / total

    return solved(rate, bits, slope_of_bits(bits))


def _sample(adapter: Any, layer: Layer, most: int) -> tuple[float, Layer, Weight]:
    """How many times as large a matrix is as some of its rows, and these rows as a layer of their own."""
    weight = read(adapter, layer)
    count = int(np.clip(most // layer.cols, 1, layer.rows))
    rows = np.linspace(0, layer.rows - 1, count).astype(int)
    few = Layer(layer.name, layer.kind, count, layer.cols, (count, layer.cols), dtype=layer.dtype)
    return layer.rows / count, few, Weight(np.ascontiguousarray(weight.matrix[rows]))


def solved(rate: Callable[[float], float], bits: float, slope: float) -> float:
    """The slope at which a falling rate is within NEAR of `bits`: secants on a logarithm, within a bracket."""
    low, high = -np.inf, np.inf
    x, per = float(np.log(slope)), -0.72  # bits for each e-fold of the slope at high resolution: 1 / (2 ln 2)
    before: tuple[float, float] | None = None
    for _ in range(TRIES):
        found = rate(float(np.exp(x)))
        if abs(found - bits) <= NEAR * bits:
            break
        low, high = (x, high) if found > bits else (low, x)
        if before is not None and before[0] != x and (found - before[1]) / (x - before[0]) < -1e-3:
            per = (found - before[1]) / (x - before[0])
        before, x = (x, found), float(np.clip(x + (bits - found) / per, x - 4, x + 4))
        if not low < x < high:
            x = (low + high) / 2
    return float(np.exp(x))


def within(rounding: Rounding, layer: Layer, weight: Weight, limit: float, lost: Callable[[Point], float]) -> Point:
    """The smallest point found whose relative error, as `lost` measures it, is within the limit; else the floats."""
    slope = slope_of_error(limit)
    for _ in range(TRIES):
        if slope < slope_of_error(FINEST):
            break
        point = rounding.best(layer, weight, slope)
        error = lost(point)
        if error <= limit:
            return point
        slope *= min(0.98 * (limit / error) ** 2, 0.995)
    return _kept(rounding, layer, weight)


def _kept(rounding: Rounding, layer: Layer, weight: Weight) -> Point:
    """The floats themselves."""
    plain = rounding.recipe.model_copy(
        update={"methods": ["keep"], "settings": {"keep": {"half": False}}, "layers": {}}
    )
    return Rounding(plain, rounding.adapter).best(layer, weight, 0.0)
