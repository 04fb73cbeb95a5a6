"""The stage: a model and its statistics in, a smaller model and a report of what went out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from attar.structure.base import Index, Structure, canonical, checked, kept_positions
from attar.structure.importance import RELATIVE, Subject, importances
from attar.structure.refit import RIDGE, refit
from attar.structure.select import Goal, cost_of, selected
from attar.types import Layer, Stats, Weight

if TYPE_CHECKING:
    from attar.adapters.base import Adapter, Grouped, Traced


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed: channels kept of each group, sizes before and after, and what had to stay with the reason."""

    keep: Mapping[str, Index]
    channels: Mapping[str, tuple[int, int]]
    """Group -> channels before and after."""
    macs: tuple[int, int]
    """Multiply-adds for one example, before and after."""
    weights: tuple[int, int]
    """Entries of weights that multiply or are looked up, before and after."""
    refitted: tuple[str, ...] = ()
    """Layers that were fitted to their fewer inputs."""
    fixed: Mapping[str, str] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Share of the multiply-adds that went."""
        return 1 - self.macs[1] / self.macs[0]


def remove(
    adapter: Grouped, stats: Mapping[str, Stats], goal: Goal, measure: str = "refitted", *, ridge: float | None = RIDGE
) -> tuple[Adapter, Removal]:
    """A new adapter with the channels that matter least removed, and what went; the given one is unchanged.

    stats are those of the model as it is (`Adapter.moments`), with row sensitivities where they were measured. What
    reads removed channels is refitted by this ridge; not so where it is None. Raises UsageError for a goal that cannot
    be reached.
    """
    subject = subject_of(adapter, stats)
    keep = selected(subject.structure, importances(subject, measure), goal, by_work=measure not in RELATIVE)
    return apart(adapter, subject, keep, ridge)


def subject_of(adapter: Traced, stats: Mapping[str, Stats]) -> Subject:
    """What measures look at, read from an adapter."""
    own: Adapter = adapter  # type: ignore[assignment]  # an adapter with one more capability
    layers = {layer.name: layer for layer in own.layers() if layer.tied_to is None}
    return Subject(adapter.structure(), layers, {name: own.read(name) for name in layers}, stats)


def apart(
    adapter: Grouped, subject: Subject, keep: Mapping[str, Index], ridge: float | None = RIDGE
) -> tuple[Adapter, Removal]:
    """The same for channels that are chosen already."""
    structure = subject.structure
    chosen = checked(structure.groups, keep)
    smaller = adapter.shrunk(chosen)
    shapes = {name: product.shape for name, product in structure.products.items()}
    positions = kept_positions(structure.groups, chosen, shapes)
    done = [] if ridge is None else _refit(smaller, subject, positions, ridge)
    return smaller, _report(structure, chosen, tuple(done))


def _refit(smaller: Adapter, subject: Subject, positions: Mapping[tuple[str, int], Index], ridge: float) -> list[str]:
    """Fit every layer that lost columns, in the model that lost them."""
    present = {layer.name for layer in smaller.layers() if layer.tied_to is None}
    readers = {m.tensor: m.axis for g in subject.structure.groups for m in g.of("in")}
    done = []
    for name, axis in readers.items():
        if (name, axis) not in positions or name not in present or name not in subject.stats:
            continue
        layer, weight = subject.layers[name], subject.weights[name]
        size = subject.structure.products[name].shape[axis]
        columns = canonical(layer, size, positions[name, axis], "in").ravel()
        fitted = refit(layer, weight, subject.stats[name], columns, ridge)
        smaller.write(name, _rows(layer, fitted, subject, positions))
        done.append(name)
    return done


def _rows(layer: Layer, fitted: Weight, subject: Subject, positions: Mapping[tuple[str, int], Index]) -> Weight:
    """The rows that stay, where some of the layer's own outputs went as well."""
    for group in subject.structure.groups:
        for member in group.members:
            if member.tensor == layer.name and member.side != "in" and (layer.name, member.axis) in positions:
                size = subject.structure.products[layer.name].shape[member.axis]
                rows = canonical(layer, size, positions[layer.name, member.axis], "out").ravel()
                bias = None if fitted.bias is None else fitted.bias[rows]
                return Weight(np.ascontiguousarray(fitted.matrix[rows]), bias)
    return fitted


def _report(structure: Structure, keep: Mapping[str, Index], refitted: tuple[str, ...]) -> Removal:
    counts = {group.name: (group.channels, len(keep[group.name])) for group in structure.groups}
    weights = cost_of(structure, {}, "bytes") // 4, cost_of(structure, keep, "bytes") // 4
    return Removal(keep, counts, (structure.macs, cost_of(structure, keep)), weights, refitted, structure.fixed)
