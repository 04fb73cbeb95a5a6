"""Where channels are: the axes that hold each, and its positions there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from attar.structure.base import Index

Key = TypeVar("Key", bound=tuple[object, ...])


def alike(
    axes: Mapping[Key, Index], classes: Index, reasons: Mapping[int, str]
) -> dict[tuple[tuple[Key, int], ...], Index]:
    """Channels that may change, by the axes that they are in with the number of positions in each; in order."""
    occurrences: dict[int, list[tuple[Key, int]]] = {}
    for key, labels in axes.items():
        for channel, count in zip(*np.unique(classes[labels], return_counts=True), strict=True):
            occurrences.setdefault(int(channel), []).append((key, int(count)))
    found: dict[tuple[tuple[Key, int], ...], list[int]] = {}
    for channel, places in occurrences.items():
        if channel not in reasons:
            found.setdefault(tuple(places), []).append(channel)
    return {places: np.asarray(channels) for places, channels in found.items()}


def index_of(owners: Index, numbers: Index, count: int) -> Index:
    """Where each of the channels `numbers` is among an axis' owners, [channels, count], ascending."""
    place = np.full(int(max(owners.max(initial=0), numbers.max(initial=0))) + 1, -1)
    place[numbers] = np.arange(len(numbers))
    own = place[owners]
    positions = np.flatnonzero(own >= 0)
    return positions[np.argsort(own[positions], kind="stable")].reshape(len(numbers), count)
