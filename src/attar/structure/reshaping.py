"""Labels through a reshape: a map flattened for a dense layer, heads taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Labels: TypeAlias = NDArray[np.int64]
Unite: TypeAlias = Callable[[Labels, Labels], None]
LARGEST = 2**24
"""Elements of a run of axes that labels are spread over."""


def relabelled(
    labels: Sequence[Labels | None], before: Sequence[int], after: Sequence[int], unite: Unite, *, last: bool = False
) -> tuple[Labels | None, ...] | None:
    """The labels of each axis after a reshape from sizes `before`; None where channels do not survive it.

    Where an axis of channels is taken apart and its labels differ along several of the new axes, they stay with the
    first of these, and those that are then at one place are united: an attention head goes as a whole. With `last`
    they stay with the last: what is at one place in every head goes together.
    """
    made: list[Labels | None] = [None] * len(after)
    for old, new in runs(before, after) or ((range(len(before)), range(len(after))),):
        known = [axis for axis in old if labels[axis] is not None]
        if not known:
            continue
        size = prod(before[axis] for axis in old)
        if len(known) > 1 or size > LARGEST or size != prod(after[axis] for axis in new):
            return None
        own = labels[known[0]]
        assert own is not None
        shape = [before[axis] if axis == known[0] else 1 for axis in old]
        spread = np.broadcast_to(own.reshape(shape), [before[axis] for axis in old])
        _share(spread.reshape([after[axis] for axis in new]), new, made, unite, last=last)
    return tuple(made)


def _share(spread: Labels, axes: Sequence[int], made: list[Labels | None], unite: Unite, *, last: bool) -> None:
    """Give the labels to the one axis that they vary along, or to the first or last, after uniting along the others."""
    places = [place for place, size in enumerate(spread.shape) if size > 1] or [0]
    for place in places:
        moved = np.moveaxis(spread, place, 0).reshape(spread.shape[place], -1)
        if (moved == moved[:, :1]).all():
            made[axes[place]] = moved[:, 0]
            return
    place = places[-1 if last else 0]
    moved = np.moveaxis(spread, place, 0).reshape(spread.shape[place], -1)
    unite(moved, moved[:, :1])
    made[axes[place]] = moved[:, 0]


def runs(before: Sequence[int], after: Sequence[int]) -> list[tuple[range, range]] | None:
    """Runs of old and new axes that hold the same elements, as short as they can be; None where they do not match."""
    found = list(_runs(before, after))
    old, new = (found[-1][0].stop, found[-1][1].stop) if found else (0, 0)
    if prod(before[old:]) != 1 or prod(after[new:]) != 1:
        return None
    if found:  # trailing ones belong to the last run
        first = found[-1]
        found[-1] = range(first[0].start, len(before)), range(first[1].start, len(after))
    return found


def _runs(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[range, range]]:
    i = j = 0
    while i < len(before) and j < len(after):
        start, left, right = (i, j), before[i], after[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right and i < len(before):
                left, i = left * before[i], i + 1
            elif right < left and j < len(after):
                right, j = right * after[j], j + 1
            else:
                return
        yield range(start[0], i), range(start[1], j)
