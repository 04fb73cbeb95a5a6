"""The original model's answers, given by the working copy with the original's tensors put into it for a moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attar.adapters.base import Adapter
from attar.recover.augment import augmented
from attar.types import Array, Dataset, Weight

CHUNK = 8192
"""Examples that are changed and answered at once."""
BATCH = 256


@dataclass
class Teacher:
    """The original's weights, and what it said on the training set where that stays the same."""

    adapter: Adapter
    weights: Mapping[str, Weight]
    rest: Mapping[str, Array]
    data: Dataset
    changes: Mapping[str, Any] = field(default_factory=dict)
    _said: Array | None = field(default=None, init=False)

    def put(self) -> None:
        """Write the original into the working copy."""
        for name, weight in self.weights.items():
            self.adapter.write(name, weight)
        if self.rest:
            self.adapter.restore(self.rest)

    def answers(self, data: Dataset) -> Array:
        """The original's outputs [n, ...]; the working copy is left holding the original."""
        self.put()
        return np.concatenate([self.adapter.run(batch) for batch in data.batches(BATCH)])

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[Dataset, Array]]:
        """The training set in a new order, changed anew, chunk by chunk with the original's answers."""
        if not self.changes and self._said is None:
            self._said = self.answers(self.data)
        order = rng.permutation(len(self.data))
        for start in range(0, len(order), CHUNK):
            rows = order[start : start + CHUNK]
            chunk = self.data.take(rows)
            if self._said is not None:
                yield chunk, self._said[rows]
            else:
                changed = augmented(chunk, self.changes, rng)
                yield changed, self.answers(changed)
