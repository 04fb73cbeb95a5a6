"""Feature hashing (Weinberger et al., Feature hashing for large scale multitask learning, ICML 2009).

Features are those of scikit-learn's FeatureHasher over one mapping for each row, so that a service can hash
its requests with it: `column=value` counts 1, a number counts its value under its column's name, and of free text each
word counts, as `column=word`. Signs alternate by the hash, so that what collides cancels on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.data.extras import extra
from attar.hashing.blocks import Survey
from attar.types import Json

IDS = NDArray[np.uint64]


@dataclass
class Seen:
    """The distinct features so far, by a 64-bit hash of their own: ids, buckets and occurrences, all [features]."""

    ids: IDS = field(default_factory=lambda: np.zeros(0, np.uint64))
    buckets: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, ids: IDS, buckets: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        """More of them, each id at most once."""
        every = np.concatenate([self.ids, ids])
        self.ids, first, owner = np.unique(every, return_index=True, return_inverse=True)
        self.buckets = np.concatenate([self.buckets, buckets])[first]
        self.counts = np.bincount(owner, np.concatenate([self.counts, counts]), len(self.ids)).astype(np.int64)

    def facts(self, dims: int) -> dict[str, Json]:
        """The collision report: features, buckets in use, and which share of features and occurrences share one.

        `expected` is the share of features that a perfect hash would leave with company, `larger` the dims that would
        bring it below 1 %.
        """
        n = len(self.ids)
        shared = np.bincount(self.buckets, minlength=dims)[self.buckets] > 1
        larger = dims
        while n > 1 and expected(n, larger) >= 0.01:
            larger *= 2
        return {
            "features": n, "buckets": len(np.unique(self.buckets)), "collided": float(shared.mean()) if n else 0.0,
            "occurrences": float(self.counts[shared].sum() / max(self.counts.sum(), 1)), "expected": expected(n, dims),
            "larger": larger,
        }  # fmt: skip


def expected(features: int, dims: int) -> float:
    """The chance that a feature shares its bucket."""
    return 1 - (1 - 1 / dims) ** max(features - 1, 0)


class Hasher:
    """Blocks of rows as sparse float32 [rows, dims]; what was seen is in `seen`."""

    def __init__(self, survey: Survey, dims: int, target: str | None) -> None:
        hashing = extra("sklearn.feature_extraction", "feature hashing")
        self._hasher = hashing.FeatureHasher(dims, input_type="string", dtype=np.float32)
        self._survey, self._target = survey, target
        self.seen = Seen()

    def __call__(self, frame: Any) -> Any:
        """Of one block."""
        sparse = extra("scipy.sparse", "feature hashing")
        total = sparse.csr_array((len(frame), self._hasher.n_features), dtype=np.float32)
        for name in self._survey.columns:
            if name != self._target and name in frame.columns:
                total = total + self._column(name, frame[name])
        return total

    def _column(self, name: str, column: Any) -> Any:
        """What one column adds."""
        sparse = extra("scipy.sparse", "feature hashing")
        present = np.flatnonzero(column.notna().to_numpy())
        cells = column.iloc[present]
        shape = (len(column), len(present))
        spread = sparse.csr_array((np.ones(len(present), np.float32), (present, np.arange(len(present)))), shape)
        if name in self._survey.numbers:
            values = np.asarray(cells.astype(np.float64), np.float64)
            unit = self._known([name], np.array([np.count_nonzero(values)]))
            return spread @ (sparse.csr_array(values.astype(np.float32)[:, None]) @ unit)
        cells = cells.astype(str)
        return spread @ (self._words(name, cells) if name in self._survey.texts else self._categories(name, cells))

    def _categories(self, name: str, cells: Any) -> Any:
        """Each distinct cell hashed once."""
        codes, values = extra("pandas", "tables").factorize(cells)
        known = self._known([f"{name}={value}" for value in values], np.bincount(codes, minlength=len(values)))
        return known[codes]

    def _words(self, name: str, cells: Any) -> Any:
        """Each distinct word in small letters hashed once; a row counts each of its words."""
        sparse = extra("scipy.sparse", "feature hashing")
        lists = cells.str.casefold().str.split()
        lengths = lists.str.len().to_numpy(np.int64)
        words = extra("pandas", "tables").Series(np.concatenate([*lists, np.zeros(0, object)]))
        codes, values = extra("pandas", "tables").factorize(words)
        counts = np.bincount(codes, minlength=len(values))
        known = self._known([f"{name}={value}" for value in values], counts)
        rows = np.repeat(np.arange(len(cells)), lengths)
        return sparse.csr_array((np.ones(len(rows), np.float32), (rows, codes)), (len(cells), len(values))) @ known

    def _known(self, tokens: Sequence[str], counts: NDArray[np.int64]) -> Any:
        """One row [dims] with a 1 or -1 for each token, noted."""
        sparse = extra("scipy.sparse", "feature hashing")
        rows = sparse.csr_array(self._hasher.transform([[token] for token in tokens]))
        ids = extra("pandas", "tables").util.hash_array(np.array(tokens, object), categorize=False)
        # A token may be there twice only where two values print alike; the first stands for both.
        _, first = np.unique(ids, return_index=True)
        self.seen.add(ids[first], rows.indices[first].astype(np.int64), counts[first].astype(np.int64))
        return rows
