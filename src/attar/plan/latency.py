"""Channels and number formats that compete for the same milliseconds: what costs least distortion for each one saved.

A plan starts with every weight in float inside an integer graph and all channels, and takes the move with the least
nats of output KL per millisecond, again and again: a layer into integers, or a group of channels down to one of its
levels. Levels are not taken one by one, since kernels work on blocks: the step to 48 channels may save nothing where
that to 32 does. After ZipLM (Kurtic et al. 2023, section 3: removal by measured latency), with formats beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

FLOAT, INT8, ISLAND = FORMATS = ("float", "int8", "island")
"""In a float graph, in an integer graph, and in float inside an integer graph, with what turns one into the other."""
LEAST_GAIN = 1e-4
"""Milliseconds, relative to the whole, below which a move saves nothing."""


@dataclass(frozen=True, slots=True)
class Work:
    """One use of a weight: operator, attributes, the input's shape without its channels, the weight's own shape."""

    op: str
    attributes: tuple[tuple[str, tuple[int, ...]], ...]
    x: tuple[int, ...]
    weight: tuple[int, ...]
    format: str = FLOAT

    @property
    def key(self) -> str:
        """Text that names it, for a table."""
        return json.dumps([self.op, dict(self.attributes), self.x, self.weight, self.format], separators=(",", ":"))

    @property
    def groups(self) -> int:
        """Of a convolution."""
        return dict(self.attributes).get("group", (1,))[0]

    def resized(self, weight: tuple[int, ...]) -> Work:
        """With a weight of another shape; a depthwise convolution has as many groups as channels."""
        if self.groups > 1 and self.groups == self.weight[0] and self.weight[1] == 1:
            named = {**dict(self.attributes), "group": (weight[0],)}
            return replace(self, weight=weight, attributes=tuple(named.items()))
        return replace(self, weight=weight)


Costs = Callable[[Work], float]
"""Milliseconds of a work."""


@dataclass(frozen=True, slots=True)
class Channels:
    """A group of channels: the counts that may stay, falling from all of them, and the nats that each has cost."""

    name: str
    levels: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Weighted:
    """A layer: its works (one for each use), which axes shrink with which group, and the nats that int8 costs it.

    axes: (group, axis of the weight, positions of a channel). noise is None where it cannot be in integers.
    """

    name: str
    works: tuple[Work, ...]
    axes: tuple[tuple[str, int, int], ...] = ()
    noise: float | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """A point on the way: channels left by group, layers in integers, nats lost, milliseconds of all weights' works.

    slope is the nats per millisecond of the move that led here.
    """

    left: Mapping[str, int]
    integers: frozenset[str]
    distortion: float
    milliseconds: float
    slope: float = 0.0


@dataclass
class _Way:
    """The state of a greedy descent."""

    groups: Mapping[str, Channels]
    layers: Sequence[Weighted]
    costs: Costs
    other: str
    """The format of what is not in integers."""
    left: dict[str, int]
    integers: set[str] = field(default_factory=set)
    known: dict[tuple[str, tuple[tuple[int, ...], ...], str], float] = field(default_factory=dict)

    def of(self, layer: Weighted, left: Mapping[str, int], *, integer: bool) -> float:
        """Milliseconds of a layer."""
        works = [sized(layer, work, self.groups, left) for work in layer.works]
        kind = INT8 if integer else self.other
        key = layer.name, tuple(work.weight for work in works), kind
        if key not in self.known:
            self.known[key] = sum(self.costs(replace(work, format=kind)) for work in works)
        return self.known[key]

    def total(self, layers: Iterable[Weighted], left: Mapping[str, int]) -> float:
        return sum(self.of(layer, left, integer=layer.name in self.integers) for layer in layers)

    def moves(self) -> Iterable[tuple[float, float, str, int]]:
        """(nats, milliseconds saved, name, level or -1 for integers) of everything that may come next."""
        for layer in self.layers:
            if layer.noise is not None and layer.name not in self.integers and self.other == ISLAND:
                saved = self.of(layer, self.left, integer=False) - self.of(layer, self.left, integer=True)
                yield layer.noise, saved, layer.name, -1
        for group in self.groups.values():
            touched = [layer for layer in self.layers if any(name == group.name for name, _, _ in layer.axes)]
            before = self.total(touched, self.left)
            lost = group.losses[group.levels.index(self.left[group.name])]
            for level, loss in zip(group.levels, group.losses, strict=True):
                if level < self.left[group.name]:
                    after = self.total(touched, {**self.left, group.name: level})
                    yield loss - lost, before - after, group.name, level


def sized(layer: Weighted, work: Work, groups: Mapping[str, Channels], left: Mapping[str, int]) -> Work:
    """A layer's work with so many channels left."""
    shape = list(work.weight)
    for name, axis, positions in layer.axes:
        shape[axis] -= (groups[name].levels[0] - left[name]) * positions
    return work.resized(tuple(shape))


def descent(
    groups: Sequence[Channels], layers: Sequence[Weighted], costs: Costs, *, integers: bool = True
) -> list[Stage]:
    """The stages from all channels down, each faster than the one before; with or without an integer graph.

    Deterministic for given costs: of equal moves the first by name goes first.
    """
    named = {group.name: group for group in groups}
    way = _Way(named, layers, costs, ISLAND if integers else FLOAT, {g.name: g.levels[0] for g in groups})
    whole = now = way.total(layers, way.left)
    stages, distortion = [Stage(dict(way.left), frozenset(), 0.0, now)], 0.0
    while True:
        able = [(max(loss, 0.0) / gain, name, level, loss, gain) for loss, gain, name, level in way.moves()
                if gain > LEAST_GAIN * whole]  # fmt: skip
        if not able:
            return stages
        slope, name, level, loss, gain = min(able)
        if level < 0:
            way.integers.add(name)
        else:
            way.left[name] = level
        now, distortion = now - gain, distortion + loss
        stages.append(Stage(dict(way.left), frozenset(way.integers), distortion, now, slope))


def priced(
    groups: Sequence[Channels], layers: Sequence[Weighted], costs: Costs, integers: Collection[str] | None
) -> float:
    """Milliseconds of all weights' works with all channels: these layers in integers, the others as islands.

    None for integers: a float graph.
    """
    named = {group.name: group for group in groups}
    whole = {group.name: group.levels[0] for group in groups}
    other = FLOAT if integers is None else ISLAND
    return _Way(named, layers, costs, other, whole, set(integers or ())).total(layers, whole)
