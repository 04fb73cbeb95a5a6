"""From rate-distortion curves to one choice for each layer: one slope for all of them; numbers only.

Source: Shoham and Gersho 1988 (bit allocation by the lower convex hull and a common Lagrange multiplier).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from attar.types import Point

Curves = Mapping[str, Sequence[Point]]


@dataclass(frozen=True, slots=True)
class Plan:
    """One point for each layer, and what they add up to."""

    choices: Mapping[str, Point]
    slope: float

    @property
    def rate_bits(self) -> float:
        """Coded size of all layers, in bits."""
        return sum(point.rate_bits for point in self.choices.values())

    @property
    def distortion(self) -> float:
        """Predicted nats of output KL: the layers' distortions added up."""
        return sum(point.distortion for point in self.choices.values())


def lower_hull(points: Sequence[Point]) -> list[Point]:
    """The vertices of the lower convex hull, by ascending rate and descending distortion.

    >>> [p.rate_bits for p in lower_hull([Point(8, 1, {}), Point(4, 2, {}), Point(6, 3, {}), Point(2, 9, {})])]
    [2, 4, 8]
    """
    hull: list[Point] = []
    for point in sorted(points, key=lambda p: (p.rate_bits, p.distortion)):
        if hull and point.distortion >= hull[-1].distortion:
            continue
        while len(hull) > 1 and _steepness(hull[-2], hull[-1]) <= _steepness(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _steepness(left: Point, right: Point) -> float:
    """Nats saved for each bit spent between two points of a hull."""
    return (left.distortion - right.distortion) / max(right.rate_bits - left.rate_bits, 1e-300)


def at_slope(curves: Curves, slope: float) -> Plan:
    """Each layer's point of least distortion + slope * rate; ties go to the smaller rate."""
    choices = {
        name: min(points, key=lambda p: (p.distortion + slope * p.rate_bits, p.rate_bits))
        for name, points in curves.items()
    }
    return Plan(choices, slope)


def earned(curves: Curves, slope: float) -> dict[str, tuple[int, float]]:
    """What every method was good for at a slope: layers that it takes, and the bits that it saves there.

    Saved beside the best of the other methods, with distortion counted in bits at the slope; a layer that one method
    alone takes counts without a saving. Methods that offer points and take no layer have 0 and 0.

    >>> points = [Point(8, 1, {"method": "a"}), Point(6, 1, {"method": "b"})]
    >>> earned({"layer": points}, 0.5)
    {'a': (0, 0.0), 'b': (1, 2.0)}
    """
    found = {str(p.choice.get("method")): (0, 0.0) for points in curves.values() for p in points}
    for points in curves.values():
        costs: dict[str, float] = {}
        for point in points:
            name = str(point.choice.get("method"))
            costs[name] = min(costs.get(name, float("inf")), point.distortion + slope * point.rate_bits)
        best, *others = sorted(costs, key=lambda name: costs[name])
        count, bits = found[best]
        saved = (costs[others[0]] - costs[best]) / slope if others and slope > 0 else 0.0
        found[best] = (count + 1, bits + saved)
    return found


def under_size(curves: Curves, max_bits: float) -> Plan | None:
    """The plan of least distortion on the common hull whose size is at most max_bits; None where none is."""
    hulls = {name: lower_hull(points) for name, points in curves.items()}
    slopes = sorted({_steepness(a, b) for hull in hulls.values() for a, b in pairwise(hull)})
    if not slopes:
        plan = at_slope(hulls, 0.0)
        return plan if plan.rate_bits <= max_bits else None
    low, high = -1, len(slopes)
    while high - low > 1:
        middle = (low + high) // 2
        if at_slope(hulls, slopes[middle]).rate_bits <= max_bits:
            high = middle
        else:
            low = middle
    steepest = slopes[high] if high < len(slopes) else 2 * slopes[-1] + 1e-300
    plan = at_slope(hulls, steepest)
    smaller = at_slope(hulls, 0.0)
    if smaller.rate_bits <= max_bits:
        return smaller
    return plan if plan.rate_bits <= max_bits else None
