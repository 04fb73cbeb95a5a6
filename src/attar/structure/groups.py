"""The groups that labels make, and what is left of every axis when channels go: what adapters work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from attar.structure.base import Group, Index, Member, Product, Structure, checked, kept_positions
from attar.structure.coupling import Walk, walked
from attar.structure.graph import Graph, Multiply
from attar.structure.occurrences import alike, index_of
from attar.structure.scalable import scalable
from attar.types import Array

Occurrence = tuple[tuple[tuple[str, int], int], ...]
"""The axes that a channel is in, with the number of its positions in each."""


@dataclass(frozen=True)
class Coupled:
    """A graph's structure, and the channel at each position of its values' axes (None: no channels)."""

    structure: Structure
    graph: Graph
    values: Mapping[str, tuple[Index | None, ...]]
    channels: Mapping[str, Index]
    """The channel numbers, of the whole graph, of each group."""

    def positions(self, keep: Mapping[str, Array]) -> dict[tuple[str, int], Index]:
        """(tensor, axis) -> positions that stay, where some go; raises UsageError for a keep that cannot be."""
        groups = self.structure.groups
        return kept_positions(groups, checked(groups, keep), self.graph.tensors)

    def removed(self, keep: Mapping[str, Array]) -> Index:
        """The channel numbers that go."""
        chosen = checked(self.structure.groups, keep)
        parts = [np.delete(self.channels[name], kept) for name, kept in chosen.items()]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def size(self, value: str, axis: int, removed: Index) -> int:
        """What is left of a value's axis."""
        channels = self.values[value][axis] if value in self.values else None
        whole = self.graph.values[value][axis]
        return whole if channels is None else int(whole - np.isin(channels, removed).sum())


def coupled(graph: Graph) -> Coupled:
    """The channels of a graph: which go together, and which must stay."""
    walk = walked(graph)
    classes, reasons = walk.classes()
    groups, channels = _named(walk, classes, alike(walk.axes, classes, reasons))
    structure = Structure(groups, _fixed(walk, classes, reasons), products(graph), scalable(graph))
    values = {
        name: tuple(None if labels is None else classes[labels] for labels in axes)
        for name, axes in walk.values.items()
    }
    return Coupled(structure, graph, values, channels)


def _named(walk: Walk, classes: Index, found: Mapping[Occurrence, Index]) -> tuple[tuple[Group, ...], dict[str, Index]]:
    """Groups of two or more channels that are made somewhere and read somewhere, named by what first makes them."""
    groups: list[Group] = []
    channels: dict[str, Index] = {}
    for places, unordered in found.items():
        sides = {walk.sides[key] for key, _ in places}
        if len(unordered) < 2 or not {"out", "in"} <= sides:
            continue
        first = next(key for key, _ in places if walk.sides[key] == "out")
        order = classes[walk.axes[first]]
        _, starts = np.unique(order, return_index=True)
        in_order = order[np.sort(starts)]
        numbers = in_order[np.isin(in_order, unordered)]
        members = tuple(
            Member(*key, index_of(classes[walk.axes[key]], numbers, count), walk.sides[key]) for key, count in places
        )
        name, number = first[0], 1
        while name in channels:
            number += 1
            name = f"{first[0]}#{number}"
        groups.append(Group(name, len(numbers), members))
        channels[name] = numbers
    return tuple(groups), channels


def _fixed(walk: Walk, classes: Index, reasons: Mapping[int, str]) -> dict[str, str]:
    """Weights whose rows must stay, all or some, with the first reason."""
    found: dict[str, str] = {}
    for (tensor, axis), labels in walk.axes.items():
        if walk.sides[tensor, axis] != "out":
            continue
        why = [reasons[int(channel)] for channel in np.unique(classes[labels]) if int(channel) in reasons]
        if why:
            found[tensor] = why[0]
    return found


def products(graph: Graph) -> dict[str, Product]:
    """Every weight that multiplies, with its uses added up."""
    found: dict[str, Product] = {}
    for node in graph.nodes:
        if not isinstance(node, Multiply) or node.outputs[0] not in graph.values:
            continue
        shape, sizes = graph.tensors[node.weight], graph.values[node.outputs[0]]
        positions = max(prod(sizes) // graph.examples // sizes[node.y_axis], 1) if node.in_axis is not None else 0
        before = found[node.weight].positions if node.weight in found else 0
        found[node.weight] = Product(shape, before + positions)
    return found
