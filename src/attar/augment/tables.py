"""Changes of tables: columns of numbers only, as float64 [rows, columns] with NaN for what is missing.

Each takes the rows, its parameters, `draw`, the facts of the whole table and which of its rows these are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.augment.images import Draw
from attar.types import Array

Numbers = NDArray[np.float64]
Step = tuple[Callable[..., Numbers], Any, Draw]


@dataclass(frozen=True)
class Jitter:
    """Normal noise on every number."""

    share: float = field(
        default=0.05, metadata={"help": "standard deviation as a share of the column's", "low": 0.0, "high": 2.0}
    )


@dataclass(frozen=True)
class Interpolate:
    """Part of the way to one of the nearest rows of the same class; needs classes."""

    neighbours: int = field(default=5, metadata={"help": "rows among which one is drawn", "low": 1, "high": 100})
    share: float = field(default=1.0, metadata={"help": "most of the way", "low": 0.0, "high": 1.0})


@dataclass(frozen=True)
class Missing:
    """Gaps where another row has them, beside its own: columns without gaps get none."""

    share: float = field(
        default=0.5, metadata={"help": "share of rows that get another's gaps", "low": 0.0, "high": 1.0}
    )


@dataclass(frozen=True)
class Facts:
    """The whole table: its numbers [rows, columns], and the class of each row, or None."""

    values: Numbers
    classes: Array | None = None

    @cached_property
    def deviation(self) -> Numbers:
        """Standard deviation of each column."""
        return self._of_columns(np.nanstd)

    @cached_property
    def least(self) -> Numbers:
        """Smallest number of each column."""
        return self._of_columns(np.nanmin)

    @cached_property
    def most(self) -> Numbers:
        """Largest number of each column."""
        return self._of_columns(np.nanmax)

    def _of_columns(self, function: Any) -> Numbers:
        """Of what is there; 0 for a column in which nothing is."""
        finite = np.where(np.isfinite(self.values), self.values, np.nan)
        there = ~np.isnan(finite).all(0)
        found = np.zeros(finite.shape[1])
        found[there] = function(finite[:, there], axis=0)
        return found

    @cached_property
    def standard(self) -> Numbers:
        """Numbers over their column's deviation, for distances; what is missing is the column's mean."""
        values = np.where(np.isfinite(self.values), self.values, np.nan)
        there = np.where(np.isnan(values), 0.0, values).sum(0) / np.maximum((~np.isnan(values)).sum(0), 1)
        filled = np.where(np.isnan(values), there, values)
        return np.asarray((filled - there) / np.where(self.deviation > 0, self.deviation, 1.0))

    @cached_property
    def trees(self) -> dict[int, tuple[NDArray[np.int64], Any]]:
        """For each class its rows and a k-d tree over them."""
        from scipy.spatial import cKDTree

        assert self.classes is not None
        _, codes = np.unique(self.classes, return_inverse=True)
        rows = {code: np.flatnonzero(codes == code) for code in range(int(codes.max()) + 1)}
        return {code: (inside, cKDTree(self.standard[inside])) for code, inside in rows.items()}

    def neighbours(self, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """The nearest other rows of the same class [rows, count], nearest first; a row without one is its own."""
        found = np.repeat(rows[:, None], count, 1)
        for inside, tree in self.trees.values():
            here = np.flatnonzero(np.isin(rows, inside, assume_unique=True))
            if len(here) and len(inside) > 1:
                near = tree.query(self.standard[rows[here]], k=range(1, min(count + 1, len(inside)) + 1))[1]
                others = inside[near]
                # Among equal rows it need not be itself that comes first: whatever is itself goes to the end.
                order = np.argsort(others == rows[here][:, None], 1, kind="stable")[:, : others.shape[1] - 1]
                others = np.take_along_axis(others, order, 1)
                found[here] = others[:, np.arange(count) % others.shape[1]]
        return found


MOST_LEVELS = 10
"""Distinct whole numbers up to which a column is one of categories, and stays as it is."""
MOST_DECIMALS = 6
"""Decimals up to which a column's numbers count as rounded, and its copies are rounded as well."""


class Columns:
    """Columns of numbers [rows, columns], some of them changed: within their range, and rounded as they are."""

    def __init__(self, values: Numbers, classes: Array | None = None) -> None:
        self.values = values
        self.free = np.flatnonzero([not is_category(column) for column in values.T])
        self.facts = Facts(values[:, self.free], classes)
        self.decimals = [decimals_of(column) for column in self.facts.values.T]

    def changed(self, rows: NDArray[np.int64], steps: Iterable[Step]) -> Numbers:
        """The rows with the changes done in order: each a function, its parameters and its draws."""
        facts, changed = self.facts, self.values[rows]
        if not len(self.free):
            return changed
        x = facts.values[rows]
        for apply, params, draw in steps:
            x = apply(x, params, draw, facts, rows)
        x = np.where(np.isfinite(x), np.clip(x, facts.least, facts.most), x)
        for at, decimals in enumerate(self.decimals):
            if decimals is not None:
                x[:, at] = np.round(x[:, at], decimals)
        changed[:, self.free] = x
        return changed


def is_category(column: Numbers) -> bool:
    """Whether numbers are rather names: a few whole ones."""
    there = column[~np.isnan(column)]
    return bool(np.all(there % 1 == 0)) and len(np.unique(there)) <= MOST_LEVELS


def decimals_of(column: Numbers) -> int | None:
    """To how many decimals all numbers of a column are rounded, None where they are not."""
    there = column[np.isfinite(column)]
    return next((d for d in range(MOST_DECIMALS + 1) if np.array_equal(np.round(there, d), there)), None)


def jitter(x: Numbers, p: Jitter, draw: Draw, facts: Facts, rows: NDArray[np.int64]) -> Numbers:
    """A draw for each number."""
    del rows
    from scipy.special import ndtri

    values = ndtri(np.maximum(draw(x.shape[1]), 1e-300))
    return np.asarray(x + p.share * facts.deviation * values)


def interpolate(x: Numbers, p: Interpolate, draw: Draw, facts: Facts, rows: NDArray[np.int64]) -> Numbers:
    """SMOTE (Chawla et al. 2002, section 4.2): one draw for the neighbour and one for the way to it."""
    near = facts.neighbours(rows, p.neighbours)
    chosen = near[np.arange(len(rows)), np.floor(draw() * p.neighbours).astype(np.int64)]
    way = p.share * draw()[:, None]
    target = facts.values[chosen]
    there = np.isfinite(x) & np.isfinite(target)
    return np.where(there, x + way * (np.where(there, target, 0.0) - np.where(there, x, 0.0)), x)


def missing(x: Numbers, p: Missing, draw: Draw, facts: Facts, rows: NDArray[np.int64]) -> Numbers:
    """Another row's gaps beside one's own."""
    del rows
    other = np.floor(draw() * len(facts.values)).astype(np.int64)
    gaps = np.isnan(facts.values[other]) & (draw() < p.share)[:, None]
    return np.where(gaps, np.nan, x)
