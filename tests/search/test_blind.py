"""The slope of a wished rate: found on falling curves, also on those with steps, and held on real matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.recipe import Recipe
from attar.search.blind import NEAR, Rounding, slope_for, slope_of_bits, slope_of_error, solved, stats_of, within
from attar.types import Layer, Point, Weight


class Matrices:
    def __init__(self, **matrices: np.ndarray) -> None:
        self.matrices = {name: matrix.astype(np.float32) for name, matrix in matrices.items()}

    def read(self, name: str) -> Weight:
        return Weight(self.matrices[name])

    def layers(self) -> list[Layer]:
        return [Layer(n, "dense", *m.shape, m.shape) for n, m in self.matrices.items()]


@given(st.floats(0.2, 12), st.floats(-3, 3), st.floats(0.3, 3))
def test_falling_curves_are_solved(bits: float, shift: float, steep: float) -> None:
    def rate(slope: float) -> float:
        return 14 / (1 + float(np.exp(steep * (np.log(slope) + 8 + shift) / 4)))

    slope = solved(rate, bits, slope_of_bits(bits))
    assert rate(slope) == pytest.approx(bits, rel=2 * NEAR)


@pytest.mark.parametrize("bits", [1.5, 3, 5])
def test_the_rate_of_samples_is_that_of_the_whole(bits: float) -> None:
    rng = np.random.default_rng(0)
    model = Matrices(
        a=rng.normal(size=(1500, 80)), b=1e-3 * rng.standard_t(3, size=(700, 200)), c=rng.normal(size=(40, 96))
    )
    rounding, layers = Rounding(Recipe(), model), model.layers()
    slope = slope_for(rounding, layers, bits, 1)
    found = sum(rounding.best(x, model.read(x.name), slope).rate_bits for x in layers) / sum(x.size for x in layers)
    assert found == pytest.approx(bits, rel=0.02)


def test_equal_matrices_of_other_scale_get_equal_errors() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(200, 64))
    model = Matrices(a=matrix, b=1e4 * matrix)
    points = [Rounding(Recipe(), model).best(x, model.read(x.name), 1e-3) for x in model.layers()]
    assert points[0].rate_bits == pytest.approx(points[1].rate_bits, rel=0.05)
    assert points[0].distortion == pytest.approx(points[1].distortion, rel=0.2)


def test_distortion_is_half_the_squared_relative_error_times_the_weights() -> None:
    rng = np.random.default_rng(2)
    model = Matrices(a=3 * rng.normal(size=(128, 64)))
    layer, weight = model.layers()[0], model.read("a")
    for error in (0.02, 0.2):
        point = Rounding(Recipe(), model).best(layer, weight, slope_of_error(error))
        assert np.sqrt(2 * point.distortion / layer.size) == pytest.approx(error, rel=0.12)
    zero = Weight(np.zeros((128, 64), np.float32))
    assert np.isfinite(stats_of(layer, zero).sensitivity).all()
    assert Rounding(Recipe(), model).best(layer, zero, 1e-3).distortion == 0


def test_floats_stay_where_no_rounding_is_fine_enough() -> None:
    model = Matrices(a=np.random.default_rng(3).normal(size=(64, 64)))
    layer = model.layers()[0]
    tried: list[Point] = []

    def lost(point: Point) -> float:
        tried.append(point)
        return 1.0

    kept = within(Rounding(Recipe(), model), layer, model.read("a"), 0.1, lost)
    assert kept.choice["method"] == "keep" and kept.distortion == 0
    assert len({point.choice["slope"] for point in tried}) == len(tried) > 3
