"""How much each channel of a group matters: numbers [channels] by one of several measures, in numpy alone.

`l1`, `l2` and `activation` compare channels of one group; they are divided by the group's mean, so that groups can be
ranked together. `taylor`, `distortion` and `refitted` are nats of output KL as the quadratic model has it, where row
sensitivities were measured, and are compared as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from attar.errors import UsageError
from attar.structure.base import Group, Index, Member, Structure, canonical
from attar.structure.elimination import Reader, eliminated
from attar.structure.moments import Scores, damped, sensitivity, stacked
from attar.types import Layer, Stats, Weight

DAMPING = 0.01
"""Share of the mean diagonal that is added to a second moment before it is inverted."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What measures look at: a model's structure, its layers and weights, and statistics of those that were reached."""

    structure: Structure
    layers: Mapping[str, Layer]
    weights: Mapping[str, Weight]
    stats: Mapping[str, Stats]

    def places(self, group: Group, side: str) -> Iterator[tuple[Member, Layer, Index]]:
        """The members on one side that are layers, with their rows or columns [channels, k]."""
        for member in group.members:
            if member.side == side and member.tensor in self.weights:
                layer, size = self.layers[member.tensor], self.structure.products[member.tensor].shape[member.axis]
                yield member, layer, canonical(layer, size, member.index, member.side).reshape(group.channels, -1)

    def readers(self, group: Group) -> Iterator[tuple[Layer, Stats, Index]]:
        """Layers that read a group and were reached by data, with its columns [channels, k]."""
        for _, layer, columns in self.places(group, "in"):
            stats = self.stats.get(layer.name)
            if stats is not None and stats.hessian.ndim == 3:
                yield layer, stats, columns


Measure = Callable[[Subject, Group], Scores]


def importances(subject: Subject, measure: str = "taylor") -> dict[str, Scores]:
    """Importance [channels] of each group's channels, not negative; raises UsageError for an unknown measure."""
    if measure not in MEASURES:
        raise UsageError(
            f"importance: the measure must be one of {', '.join(MEASURES)}. Received {measure!r}. Use 'taylor'."
        )
    found: dict[str, Scores] = {}
    for group in subject.structure.groups:
        scores = np.maximum(MEASURES[measure](subject, group), 0)
        mean = scores.mean()
        found[group.name] = scores / mean if measure in RELATIVE and mean > 0 else scores
    return found


def l1(subject: Subject, group: Group) -> Scores:
    """Mean magnitude of what makes the channel (Li et al. 2017, "Pruning Filters for Efficient ConvNets")."""
    return _magnitude(subject, group, np.abs)


def l2(subject: Subject, group: Group) -> Scores:
    """Root mean square of what makes the channel."""
    return np.asarray(np.sqrt(_magnitude(subject, group, np.square)))


def _magnitude(subject: Subject, group: Group, function: Callable[[Scores], Scores]) -> Scores:
    total = np.zeros(group.channels)
    for _, layer, rows in subject.places(group, "out"):
        matrix = function(subject.weights[layer.name].matrix[rows].astype(np.float64))
        total += matrix.mean((1, 2))
    return total


def activation(subject: Subject, group: Group) -> Scores:
    """|w| times the root mean square of its input, over what reads the channel (Sun et al. 2024, "Wanda")."""
    total = np.zeros(group.channels)
    for layer, stats, columns in subject.readers(group):
        square = np.einsum("gcc->gc", stats.hessian) + np.square(stats.mean)
        matrix = np.abs(stacked(layer, subject.weights[layer.name])).mean(1) * np.sqrt(np.maximum(square, 0))
        total += matrix[:, columns].sum((0, 2))
    return total


def taylor(subject: Subject, group: Group) -> Scores:
    """1/2 s_r var_r summed over what makes the channel: its output replaced by its mean (Molchanov et al. 2019)."""
    total = np.zeros(group.channels)
    for _, layer, rows in subject.places(group, "out"):
        stats = subject.stats.get(layer.name)
        if stats is None:
            continue
        moment, matrix = stats.hessian, stacked(layer, subject.weights[layer.name])
        if moment.ndim == 2:  # a lookup
            variance = np.einsum("grc,gc->gr", np.square(matrix), moment)
        else:
            variance = np.einsum("grc,grc->gr", matrix @ moment, matrix)
        total += 0.5 * (sensitivity(layer, stats) * variance).ravel()[rows].sum(1)
    return total


def distortion(subject: Subject, group: Group) -> Scores:
    """1/2 sum_r s_r w_rS H_SS w_rS^T over what reads the channel as its columns S: they go, their mean stays."""
    total = np.zeros(group.channels)
    for layer, stats, columns in subject.readers(group):
        own = stats.hessian[:, columns[:, :, None], columns[:, None, :]]  # [groups, channels, k, k]
        parts = stacked(layer, subject.weights[layer.name])[:, :, columns]  # [groups, rows, channels, k]
        weighed = parts * np.sqrt(sensitivity(layer, stats))[:, :, None, None]
        total += 0.5 * np.einsum("grck,gckl,grcl->c", weighed, own, weighed, optimize=True)
    return total


def refitted(subject: Subject, group: Group) -> Scores:
    """The same after other columns have made up for it, channel after channel; see `attar.structure.elimination`."""
    readers = [
        Reader(matrix, rows, moment, columns)
        for layer, stats, columns in subject.readers(group)
        for matrix, rows, moment in zip(
            stacked(layer, subject.weights[layer.name]),
            sensitivity(layer, stats),
            damped(stats.hessian, DAMPING),
            strict=True,
        )
    ]
    return eliminated(readers, group.channels) if readers else np.zeros(group.channels)


MEASURES: dict[str, Measure] = {
    "l1": l1,
    "l2": l2,
    "activation": activation,
    "taylor": taylor,
    "distortion": distortion,
    "refitted": refitted,
}
RELATIVE = ("l1", "l2", "activation")
"""Measures that are relative to the group."""
