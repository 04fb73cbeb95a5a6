"""Which channels to keep for a share of the work: greedily, what matters least, for what it saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, prod

import numpy as np

from attar.errors import UsageError
from attar.structure.base import Group, Index, Structure
from attar.structure.moments import Scores

UNITS = ("macs", "bytes")
STEPS = 64
"""Parts that a group is taken down in at most, so that wide models take no longer."""


@dataclass(frozen=True)
class RemovalSettings:
    """How channels are removed, in a recipe; the share is its `remove`.

    Runtimes work on blocks of 8 or 16 channels: odd counts make many models slower than they were.
    """

    unit: str = field(default="macs", metadata={"help": "what the share is of", "choices": UNITS, "tune": False})
    multiple: int = field(
        default=8, metadata={"help": "kept channels are a multiple of it", "low": 1, "high": 256, "tune": False}
    )
    floor: float = field(
        default=0.1,
        metadata={"help": "least share of a group that stays", "low": 0.0, "high": 1.0, "tune": (0.05, 0.5)},
    )


@dataclass(frozen=True, slots=True)
class Goal:
    """What to remove: share of the multiply-adds (or bytes) in 0..1; kept channels of a group are a multiple.

    floor is the share of each group's channels that stays at least; one multiple of them always stays.
    """

    share: float = 0.3
    unit: str = RemovalSettings.unit
    multiple: int = RemovalSettings.multiple
    floor: float = RemovalSettings.floor

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1 or self.unit not in UNITS or self.multiple < 1 or not 0 <= self.floor <= 1:
            raise UsageError(
                f"removal: share must be in 0 to below 1, unit one of {', '.join(UNITS)}, multiple 1 or more, floor in "
                f"0 to 1. Received {self.share}, {self.unit!r}, {self.multiple}, {self.floor}. Use share=0.3."
            )

    def least(self, channels: int) -> int:
        """Channels of a group of so many that stay at least."""
        whole = max(ceil(self.floor * channels), 1)
        return min(-(-whole // self.multiple) * self.multiple, channels)

    def step(self, left: int, channels: int) -> int:
        """Channels to take next from a group of which so many are left."""
        size = -(-max(channels // STEPS, 1) // self.multiple) * self.multiple
        return left % self.multiple or size


class Cost:
    """What a model takes with fewer channels: each weight's entries that are left, times its positions or bytes."""

    def __init__(self, structure: Structure, unit: str = "macs"):
        self._shapes = {name: list(product.shape) for name, product in structure.products.items()}
        self._each = {name: p.positions if unit == "macs" else 4 for name, p in structure.products.items()}

    def total(self) -> int:
        """Of the whole model as it is now."""
        return sum(self._each[name] * prod(shape) for name, shape in self._shapes.items())

    def saved(self, group: Group, channels: int) -> int:
        """What is saved if so many more channels of a group go."""
        names = {member.tensor for member in group.members if member.tensor in self._shapes}
        before = sum(self._each[name] * prod(self._shapes[name]) for name in names)
        self._change(group, -channels)
        after = sum(self._each[name] * prod(self._shapes[name]) for name in names)
        self._change(group, channels)
        return before - after

    def remove(self, group: Group, channels: int) -> None:
        """Take channels of a group off."""
        self._change(group, -channels)

    def _change(self, group: Group, channels: int) -> None:
        for member in group.members:
            if member.tensor in self._shapes:
                self._shapes[member.tensor][member.axis] += channels * member.index.shape[1]


def cost_of(structure: Structure, keep: Mapping[str, Index], unit: str = "macs") -> int:
    """Multiply-adds for one example, or bytes in float32, of a model with these channels of each named group."""
    cost = Cost(structure, unit)
    for group in structure.groups:
        if group.name in keep:
            cost.remove(group, group.channels - len(keep[group.name]))
    return cost.total()


def selected(
    structure: Structure, scores: Mapping[str, Scores], goal: Goal, *, by_work: bool = True
) -> dict[str, Index]:
    """The channels to keep of each group, ascending; deterministic: of equal ones the first group's last go first.

    scores are importances [channels] by group. by_work: they are weighed by what each channel saves; scores that are
    relative to their group have no unit to weigh, and rank better as they are. Raises UsageError where the floor does
    not allow the share.
    """
    cost = Cost(structure, goal.unit)
    whole = cost.total()
    orders = {g.name: np.lexsort((-np.arange(g.channels), scores[g.name])) for g in structure.groups}
    left = {group.name: group.channels for group in structure.groups}
    while cost.total() > (1 - goal.share) * whole:
        best = _cheapest(structure, scores, orders, left, cost, goal, by_work)
        if best is None:
            raise UsageError(
                f"removal: no more than {1 - cost.total() / whole:.0%} of the {goal.unit} can go with a floor of "
                f"{goal.floor:g} of each group. Received a share of {goal.share:.0%}. Lower the share or the floor."
            )
        group, step = best
        cost.remove(group, step)
        left[group.name] -= step
    return {g.name: np.sort(orders[g.name][g.channels - left[g.name] :]) for g in structure.groups}


def _cheapest(
    structure: Structure, scores: Mapping[str, Scores], orders: Mapping[str, Index], left: Mapping[str, int],
    cost: Cost, goal: Goal, by_work: bool,
) -> tuple[Group, int] | None:  # fmt: skip
    """The group to take channels from next, and how many; None where no group can lose any."""
    best: tuple[float, Group, int] | None = None
    for group in structure.groups:
        step = min(goal.step(left[group.name], group.channels), left[group.name] - goal.least(group.channels))
        step = step if goal.multiple == 1 or (left[group.name] - step) % goal.multiple == 0 else 0
        if step <= 0 or (saved := cost.saved(group, step)) <= 0:
            continue
        start = group.channels - left[group.name]
        loss = float(scores[group.name][orders[group.name][start : start + step]].sum()) / (saved if by_work else step)
        if best is None or loss < best[0]:
            best = loss, group, step
    return None if best is None else best[1:]
