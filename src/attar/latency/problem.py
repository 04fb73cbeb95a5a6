"""A model as the planner of milliseconds sees it: groups of channels with what they cost in nats, layers with works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from attar.exports.ranges import Seen
from attar.plan.latency import Channels, Stage, Weighted, Work
from attar.structure.base import Index
from attar.structure.importance import Subject, importances
from attar.structure.moments import sensitivity, stacked
from attar.structure.select import Goal
from attar.types import Layer, Stats, Weight

MOST_LEVELS = 8
LEVELS = 255
"""Steps of an activation's grid, and of a weight's."""


@dataclass(frozen=True)
class Problem:
    """What a plan is made from; orders: the channels of each group, those that go first in front."""

    groups: tuple[Channels, ...]
    layers: tuple[Weighted, ...]
    orders: Mapping[str, Index]

    def keep(self, stage: Stage) -> dict[str, Index]:
        """The channels that stay, ascending, of groups that lose any."""
        return {
            group.name: np.sort(self.orders[group.name][group.levels[0] - stage.left[group.name] :])
            for group in self.groups
            if stage.left[group.name] < group.levels[0]
        }


def posed(subject: Subject, goal: Goal, works: Mapping[str, Sequence[Work]], noises: Mapping[str, float]) -> Problem:
    """The problem of a model. Losses are the importances `refitted`, added up in the order in which channels go.

    works: of each weight; noises: nats that int8 costs each layer that can be in integers.
    """
    scores = importances(subject, "refitted")
    groups, orders = [], {}
    for group in subject.structure.groups:
        order = np.lexsort((-np.arange(group.channels), scores[group.name]))
        lost = np.concatenate([[0.0], np.cumsum(scores[group.name][order])])
        levels = levels_of(group.channels, goal)
        groups.append(Channels(group.name, levels, tuple(float(lost[group.channels - level]) for level in levels)))
        orders[group.name] = order
    axes: dict[str, list[tuple[str, int, int]]] = {}
    for group in subject.structure.groups:
        for member in group.members:
            axes.setdefault(member.tensor, []).append((group.name, member.axis, member.index.shape[1]))
    layers = tuple(
        Weighted(name, tuple(some), tuple(axes.get(name, ())), noises.get(name)) for name, some in works.items()
    )
    return Problem(tuple(groups), layers, orders)


def levels_of(channels: int, goal: Goal) -> tuple[int, ...]:
    """How many channels may stay, falling: all, then multiples down to the least, at most MOST_LEVELS of them."""
    least = goal.least(channels)
    multiples = [count for count in range(least, channels) if count % goal.multiple == 0]
    if len(multiples) >= MOST_LEVELS:
        wider = goal.multiple * -(-len(multiples) // (MOST_LEVELS - 1))
        multiples = sorted({least, *(count for count in multiples if count % wider == 0)})
    return (channels, *reversed(multiples))


def noise_of(layer: Layer, weight: Weight, stats: Stats, span: float) -> float:
    """Nats that 8-bit weights and inputs cost a layer: 1/2 sum_r s_r (error of the weights + error of the inputs).

    Errors are those of rounding to nearest, evenly spread over a step; span is that of the input's range.
    """
    matrix = stacked(layer, weight).astype(np.float64)
    steps = 2 * np.abs(matrix).max(-1) / LEVELS
    if stats.hessian.ndim == 3:
        power = np.einsum("gcc->g", stats.hessian) + np.square(stats.mean).sum(-1)
    else:
        power = stats.hessian.sum(-1)
    weights = np.square(steps) / 12 * power[:, None]
    inputs = np.square(matrix).sum(-1) * (span / LEVELS) ** 2 / 12
    return float(0.5 * (sensitivity(layer, stats) * (weights + inputs)).sum())


def spans(model: onnx.ModelProto, found: Mapping[str, Seen]) -> dict[str, float]:
    """The span of the range of each weight's input, where it was seen."""
    wide = {}
    for node in model.graph.node:
        if len(node.input) > 1 and node.input[0] in found:
            wide[node.input[1]] = found[node.input[0]].high - found[node.input[0]].low
    return wide
