"""What methods offer for one layer: a task that runs anywhere, of plain values alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from attar import registry
from attar.adapters.folded import Folded
from attar.errors import UsageError
from attar.methods.base import declined
from attar.search.params import Settings, params_of
from attar.types import Layer, Point, Stats, Weight

Rows = NDArray[Any]


def offers(
    layer: Layer, weight: Weight, stats: Stats, methods: Sequence[str], settings: Settings, slopes: Sequence[float]
) -> Iterator[Point]:
    """What every method offers at each slope, made when it is asked for; raises UsageError where all decline."""
    reasons = []
    for name in methods:
        method = registry.get("method", name)
        reason = declined(method, layer, stats)
        if reason is None:
            yield from method.points(layer, weight, stats, slopes, params_of(name, settings))
        else:
            reasons.append(f"{name}: {reason}")
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
