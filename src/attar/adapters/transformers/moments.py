"""Second moments of the inputs of a block's layers, once for layers that see the same (queries, keys and values).

As in moments.py products are made in float32 and summed in float64, the first part's mean taken away; parts come one
after the other, so that no more than one is held, and nothing is kept of positions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from attar.adapters.torch.forms import Site
from attar.adapters.torch.products import Product
from attar.types import Stats


class MatrixSum:
    """Mean and centred second moment of columns x[cols, n]."""

    def __init__(self, cols: int) -> None:
        self.count = self.samples = 0
        self._shift: np.ndarray | None = None
        self._first, self._second = np.zeros(cols), np.zeros((cols, cols))

    def add(self, x: np.ndarray, samples: int) -> None:
        """Add columns that came from so many examples."""
        self.samples += samples
        self.count += x.shape[1]
        if not x.shape[1]:
            return
        rows = np.ascontiguousarray(x.T, np.float32)
        if self._shift is None:
            self._shift = rows.mean(0)
        rows = rows - self._shift
        self._first += rows.sum(0, dtype=np.float64)
        self._second += rows.T @ rows

    def stats(self) -> Stats | None:
        """The statistics; None where nothing was seen. The sums are of no use afterwards."""
        if self._shift is None:
            return None
        mean = self._first / self.count
        self._second /= self.count
        for start in range(0, len(mean), 256):  # no second matrix of this size
            self._second[start : start + 256] -= np.outer(mean[start : start + 256], mean)
        return Stats(self._second[None], (mean + self._shift)[None], self.count, self.samples)


class SharedMoments:
    """Statistics of dense layers by name."""

    def __init__(self, sites: Mapping[str, Site]) -> None:
        self.sites = dict(sites)
        self._sums: dict[str, MatrixSum] = {}
        self._owner: dict[str, str] = {}
        self._seen: list[tuple[str, torch.Tensor]] = []
        self._reached: set[str] = set()
        self._examples = 0

    def begin(self, examples: int) -> None:
        """A further forward, of so many examples."""
        self._seen, self._reached, self._examples = [], set(), examples

    def add(self, product: Product) -> None:
        """One product; of a tensor that another layer has multiplied in this forward, nothing is computed."""
        name, x = product.name, product.call.x
        # Held until the forward ends: memory that is free again could be another tensor's.
        twin = next((owner for owner, other in self._seen if _same(x, other)), None)
        first = name not in self._sums and name not in self._owner
        if twin is not None and self._fits(name, twin) and (first or self._owner.get(name) == twin):
            self._owner[name] = twin
            return
        assert name not in self._owner, f"{name} sees what {self._owner[name]} sees, or never does"
        self._seen.append((name, x))
        new = 0 if name in self._reached else self._examples
        self._reached.add(name)
        self._sums.setdefault(name, MatrixSum(self.sites[name].form.cols)).add(product.columns()[0], new)

    def _fits(self, name: str, twin: str) -> bool:
        return twin != name and self.sites[name].form.cols == self.sites[twin].form.cols

    def stats(self) -> dict[str, Stats]:
        """By name; layers that share an input share the arrays."""
        self._seen = []
        own = {name: found for name, each in self._sums.items() if (found := each.stats()) is not None}
        return own | {name: own[owner] for name, owner in self._owner.items() if owner in own}


def _same(x: torch.Tensor, other: torch.Tensor) -> bool:
    return x.data_ptr() == other.data_ptr() and x.shape == other.shape and x.stride() == other.stride()
