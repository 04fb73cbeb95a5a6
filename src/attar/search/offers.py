"""What methods offer for one layer: a task that runs anywhere, of plain values alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from attar import registry
from attar.adapters.folded import Folded
from attar.coding import encode_array
from attar.errors import UsageError
from attar.methods.base import RIVAL, Screened, declined
from attar.search.params import Settings, params_of
from attar.types import Layer, Point, Stats, Weight

Rows = NDArray[Any]
CLOSE = 1.25
"""Least cost of a layer by the entropy model, times this: what is above it will not be the smaller one when coded."""
PLAINLY = 0.8
"""Cost beside RIVAL's: with low rank at 0.6 to 0.75 of it, certified files of three networks were smaller for most
seeds; at 0.85 to 0.95 (LeNet-300-100) divergence fell and files did not, over nine seeds."""


def offers(
    layer: Layer, weight: Weight, stats: Stats, methods: Sequence[str], settings: Settings, slopes: Sequence[float]
) -> Iterator[Point]:
    """What every method offers at each slope, made when it is asked for; raises UsageError where all decline."""
    reasons = []
    for name in methods:
        method = registry.get("method", name)
        reason = declined(method, layer, stats)
        if reason is not None:
            reasons.append(f"{name}: {reason}")
            continue
        params, worth = params_of(name, settings), slopes
        if RIVAL in methods and isinstance(method, Screened):
            worth = method.worth(layer, weight, stats, slopes, params)
        if worth:
            yield from method.points(layer, weight, stats, worth, params)
    if len(reasons) == len(methods):
        raise UsageError(
            f"layer {layer.name!r}: one of the methods must take it. Received {'; '.join(reasons)}. "
            "Add 'keep' to the methods."
        )


def every(
    layer: Layer, weight: Weight, moments: Folded, sensitivity: Rows | None, methods: Sequence[str], settings: Settings,
    slopes: Sequence[float],
) -> list[Point]:  # fmt: skip
    """All offers. moments are statistics without a sensitivity: they are shared, and stay when it is corrected."""
    stats = moments.told(sensitivity).whole()
    return list(offers(layer, weight, stats, methods, settings, slopes))


def sized(effort: str, *task: Any) -> list[Point]:
    """All offers at one slope, task being what `every` takes; those of methods that are close have their coded sizes.

    What the entropy model leaves out differs from method to method: the dense coder takes 15 % off the codes of a grid
    where it takes 5 % off factors of low rank. What a screened method offers is left out unless it is PLAINLY better.
    """
    points, (slope,) = every(*task), task[-1]
    least = min(_cost(point, slope) for point in points)
    close = [_cost(point, slope) <= CLOSE * least and point.encoded is not None for point in points]
    if len({point.choice["method"] for point, near in zip(points, close, strict=True) if near}) > 1:
        points = [_coded(point, effort) if near else point for point, near in zip(points, close, strict=True)]
    rival = min((_cost(point, slope) for point in points if point.choice["method"] == RIVAL), default=None)
    return [p for p in points if rival is None or not _screened(p) or _cost(p, slope) <= PLAINLY * rival]


def _screened(point: Point) -> bool:
    """Whether a point is of a method that is taken only where it is plainly better than RIVAL."""
    return isinstance(registry.get("method", point.choice["method"]), Screened)


def _cost(point: Point, slope: float) -> float:
    """What the plan makes least."""
    return point.distortion + slope * point.rate_bits


def _coded(point: Point, effort: str) -> Point:
    """A point with what its arrays take in a file."""
    assert point.encoded is not None
    size = sum(len(encode_array(array, effort)[1]) for array in point.encoded.arrays.values())
    return replace(point, rate_bits=8.0 * size)


def first(
    layer: Layer, weight: Weight, moments: Folded, sensitivity: Rows | None, methods: Sequence[str], settings: Settings,
    slopes: Sequence[float],
) -> tuple[Point, Weight]:  # fmt: skip
    """The first offer, and the weights that come back from it."""
    stats = moments.told(sensitivity).whole()
    point = next(offers(layer, weight, stats, methods, settings, slopes))
    method = registry.get("method", point.choice["method"])
    encoded = point.encoded or method.encode(layer, weight, stats, point.choice)
    return point, method.decode(encoded)
