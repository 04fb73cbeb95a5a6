"""What changes together when a channel goes: plain data, which adapters make and methods choose from.

Coupling as data follows Torch-Pruning (Fang et al. 2023, "DepGraph: Towards Any Structural Pruning").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attar.errors import UsageError
from attar.types import Array, Layer

Index: TypeAlias = NDArray[np.int64]
Side = Literal["out", "in", "with"]
"""Of a weight that makes the channel, of one that reads it, or of what goes along: bias, norm, depthwise kernel."""


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One axis of one tensor in which a group's channels are: index [channels, k], the k positions of each.

    k is more than one where a channel is several columns (a map flattened for a dense layer), or one of each group.
    A tensor that is a layer's weight has the layer's name; the axis is that of the tensor as it is stored.
    """

    tensor: str
    axis: int
    index: Index
    side: Side


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Channels of which any may go, each with all its positions in every member at once."""

    name: str
    channels: int
    members: tuple[Member, ...]

    def of(self, side: Side) -> list[Member]:
        """The members on one side."""
        return [member for member in self.members if member.side == side]


@dataclass(frozen=True, slots=True, eq=False)
class Scalable:
    """Channels that can be scaled: `made` times s and `read` through s, all at once, leave the model's function.

    Indices are [channels, k], as in a group. Of a layer, the side "in" is its columns, any other its rows: a depthwise
    kernel that reads a channel does so with its rows. A layer's bias goes with its rows where they are made.
    """

    name: str
    channels: int
    made: tuple[Member, ...]
    read: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """A weight's own shape, and how many times an example multiplies by each of its entries (0 for a lookup)."""

    shape: tuple[int, ...]
    positions: int

    @property
    def macs(self) -> int:
        """Multiply-adds for one example."""
        return prod(self.shape) * self.positions


@dataclass(frozen=True, slots=True)
class Structure:
    """A model's groups, the weights whose outputs must stay with the reason, every weight that multiplies.

    scalable: what can be scaled without a change of the function; see `attar.structure.scalable`.
    """

    groups: tuple[Group, ...] = ()
    fixed: Mapping[str, str] = field(default_factory=dict)
    products: Mapping[str, Product] = field(default_factory=dict)
    scalable: tuple[Scalable, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-adds for one example, of the weights that are known."""
        return sum(product.macs for product in self.products.values())


def checked(groups: tuple[Group, ...], keep: Mapping[str, Array]) -> dict[str, Index]:
    """The channels to keep of every group, ascending; all of those that are not named.

    Raises UsageError for an unknown group, and for channels that are none, repeated or beyond the group.
    """
    known = {group.name: group for group in groups}
    odd = next((name for name in keep if name not in known), None)
    if odd is not None:
        raise UsageError(
            f"group {odd!r}: it must be one of the model's. Received a model with {', '.join(known) or 'none'}. "
            "Use the names that structure() gives."
        )
    return {name: _channels(group, keep.get(name)) for name, group in known.items()}


def _channels(group: Group, given: Array | None) -> Index:
    if given is None:
        return np.arange(group.channels)
    found = np.unique(np.asarray(given).astype(np.int64))
    if not len(found) or len(found) != np.size(given) or found[0] < 0 or found[-1] >= group.channels:
        raise UsageError(
            f"group {group.name!r}: channels to keep must be at least one, each once, below {group.channels}. "
            f"Received {np.asarray(given).tolist()}. Pass their numbers."
        )
    return found


def kept_positions(
    groups: tuple[Group, ...], keep: Mapping[str, Index], sizes: Mapping[str, tuple[int, ...]]
) -> dict[tuple[str, int], Index]:
    """(tensor, axis) -> the positions that stay, for every axis of which something goes; of tensors in `sizes` only."""
    gone: dict[tuple[str, int], list[Index]] = {}
    for group in groups:
        lost = np.setdiff1d(np.arange(group.channels), keep[group.name])
        for member in group.members if len(lost) else ():
            if member.tensor not in sizes:
                continue
            gone.setdefault((member.tensor, member.axis), []).append(member.index[lost].ravel())
    return {
        (tensor, axis): np.setdiff1d(np.arange(sizes[tensor][axis]), np.concatenate(parts))
        for (tensor, axis), parts in gone.items()
    }


def canonical(layer: Layer, size: int, index: Index, side: Side) -> Index:
    """Rows (side "out", "with") or columns ("in") of a layer's matrix that positions of an axis of `size` are.

    index [...] gives [..., block]: a convolution's column block is its kernel's window, since columns are in
    (C, kh, kw) order. The axis must be the first of those that make the rows or columns, as channels are.
    """
    whole = layer.cols if side == "in" else layer.rows
    block = whole // size
    return np.asarray(index[..., None] * block + np.arange(block))
