"""Input statistics of many layers, their second moments held as triangles: half the memory, with the same bits.

Second moments are symmetric to the last bit, as BLAS makes them of one matrix (syrk); one that is not is held whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attar.types import Stats

F64 = NDArray[np.float64]
MOMENTS = ("hessian", "pooled")


@dataclass(frozen=True, slots=True)
class Folded:
    """Statistics of a layer, of which the second moments in `parts` are triangles [groups, cols * (cols + 1) / 2]."""

    stats: Stats
    parts: tuple[str, ...] = ()

    def whole(self) -> Stats:
        """The statistics as they were, made anew where a part is a triangle."""
        if not self.parts:
            return self.stats
        cols = self.stats.mean.shape[1]
        return replace(self.stats, **{part: unfolded(getattr(self.stats, part), cols) for part in self.parts})

    def told(self, sensitivity: F64 | None) -> Folded:
        """The same moments, not copied, with another sensitivity."""
        return replace(self, stats=replace(self.stats, sensitivity=sensitivity))


class Moments(MutableMapping[str, Stats]):
    """Statistics by layer: folded when they are put in, whole when they are asked for."""

    def __init__(self, held: Mapping[str, Folded] | None = None) -> None:
        self._held = dict(held or {})

    def __getitem__(self, name: str) -> Stats:
        return self._held[name].whole()

    def __setitem__(self, name: str, stats: Stats) -> None:
        self._held[name] = folded(stats)

    def __delitem__(self, name: str) -> None:
        del self._held[name]

    def __contains__(self, name: object) -> bool:
        return name in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def held(self, name: str) -> Folded:
        """The statistics of a layer as they are held; raises KeyError."""
        return self._held[name]


def held(stats: Mapping[str, Stats], name: str) -> Folded:
    """The statistics of a layer as a mapping of any kind holds them, not copied; raises KeyError."""
    return stats.held(name) if isinstance(stats, Moments) else Folded(stats[name])


def with_sensitivity(stats: Mapping[str, Stats], rows: Mapping[str, F64 | None]) -> MutableMapping[str, Stats]:
    """The same statistics with other sensitivities [rows] of some layers; moments are not copied."""
    if isinstance(stats, Moments):
        every = {name: stats.held(name) for name in stats}
        return Moments({name: one.told(rows[name]) if name in rows else one for name, one in every.items()})
    return {name: replace(one, sensitivity=rows[name]) if name in rows else one for name, one in stats.items()}


def folded(stats: Stats) -> Folded:
    """Statistics with every second moment as a triangle that is symmetric to the last bit; a diagonal stays."""
    found = {part: array for part in MOMENTS if _symmetric(array := getattr(stats, part))}
    return Folded(replace(stats, **{part: triangle(array) for part, array in found.items()}), tuple(found))


def _symmetric(moment: F64 | None) -> bool:
    """Whether a moment [groups, cols, cols] is, bit by bit: 0 and -0 are not alike."""
    if moment is None or moment.ndim != 3 or moment.shape[2] < 2 or moment.dtype != np.float64:
        return False
    bits = np.ascontiguousarray(moment).view(np.int64)
    return np.array_equal(bits, bits.transpose(0, 2, 1))


def triangle(moment: F64) -> F64:
    """The lower triangles [groups, cols * (cols + 1) / 2] of matrices [groups, cols, cols], row by row."""
    groups, cols, _ = moment.shape
    found = np.empty((groups, cols * (cols + 1) // 2))
    for row, at in _rows(cols):
        found[:, at : at + row + 1] = moment[:, row, : row + 1]
    return found


def unfolded(triangles: F64, cols: int) -> F64:
    """The symmetric matrices [groups, cols, cols] of lower triangles."""
    found = np.empty((len(triangles), cols, cols))
    for row, at in _rows(cols):
        found[:, row, : row + 1] = found[:, : row + 1, row] = triangles[:, at : at + row + 1]
    return found


def _rows(cols: int) -> Iterator[tuple[int, int]]:
    """Every row, and where its part of a triangle begins."""
    return ((row, row * (row + 1) // 2) for row in range(cols))
