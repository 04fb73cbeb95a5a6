"""The planner's laws: the budget holds, more budget never means more distortion, the order of layers is nothing."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.plan.planner import at_slope, earned, lower_hull, under_size
from attar.types import Point

points = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=8).map(
    lambda pairs: [Point(float(r), float(d), {"k": i}) for i, (r, d) in enumerate(pairs)]
)
curves = st.dictionaries(st.sampled_from("abcdef"), points, min_size=1)


@given(points)
def test_hull_is_convex_and_lowest(all_points: list[Point]) -> None:
    hull = lower_hull(all_points)
    for left, right in itertools.pairwise(hull):
        assert left.rate_bits < right.rate_bits and left.distortion > right.distortion
    steep = [(a.distortion - b.distortion) / (b.rate_bits - a.rate_bits) for a, b in itertools.pairwise(hull)]
    assert steep == sorted(steep, reverse=True)
    for slope in (0.0, 0.1, 1.0, 10.0):
        best = min(p.distortion + slope * p.rate_bits for p in all_points)
        assert min(p.distortion + slope * p.rate_bits for p in hull) == best


@given(curves, st.floats(0, 100))
def test_one_slope_minimises_the_sum(layers: dict[str, list[Point]], slope: float) -> None:
    plan = at_slope(layers, slope)
    total = sum(min(p.distortion + slope * p.rate_bits for p in options) for options in layers.values())
    assert plan.distortion + slope * plan.rate_bits <= total * (1 + 1e-12) + 1e-9


@given(curves, st.integers(0, 3000), st.integers(0, 500))
def test_size_budget(layers: dict[str, list[Point]], bits: int, more: int) -> None:
    smallest = sum(min(p.rate_bits for p in options) for options in layers.values())
    plan, larger = under_size(layers, bits), under_size(layers, bits + more)
    if bits < smallest:
        assert plan is None
        return
    assert plan is not None and larger is not None
    assert plan.rate_bits <= bits
    assert larger.distortion <= plan.distortion


@given(curves, st.integers(0, 3000))
def test_order_of_layers_is_nothing(layers: dict[str, list[Point]], bits: int) -> None:
    turned = dict(reversed(layers.items()))
    one, other = under_size(layers, bits), under_size(turned, bits)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert dict(one.choices) == dict(other.choices)


def test_what_methods_earn_is_what_the_plan_would_lose_without_them() -> None:
    rng = np.random.default_rng(0)
    curves = {
        f"layer{i}": [Point(float(rng.uniform(1, 100)), float(rng.uniform(0, 10)), {"method": m}) for m in "aabbc"]
        for i in range(20)
    }
    slope = 0.1

    def cost(without: str) -> float:
        left = {n: [p for p in points if p.choice["method"] != without] for n, points in curves.items()}
        plan = at_slope(left, slope)
        return plan.distortion + slope * plan.rate_bits

    found = earned(curves, slope)
    assert set(found) == {"a", "b", "c"}
    assert sum(count for count, _ in found.values()) == 20
    for name, (_, bits) in found.items():
        assert bits * slope == pytest.approx(cost(name) - cost(""), rel=1e-9)
    assert earned({"x": [Point(1, 1, {"method": "a"})]}, slope) == {"a": (1, 0.0)}
