"""A user's own metric: any function of (outputs, labels)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from attar.errors import DataError
from attar.evaluate.base import Floats
from attar.types import Array


class Custom:
    """fn(outputs [n, ...], labels) -> a number, or one number (or truth value) for each example, [n].

    labels are None where the data have none. `limits` are the least and the greatest value of one example where every
    value is sure to lie between them: with them the certificate is a bound, without them an approximate bootstrap.
    """

    unit = ""
    needs_labels = False
    relative_to_original = False

    def __init__(
        self, fn: Callable[..., Any], higher_is_better: bool = True, name: str | None = None,
        limits: tuple[float, float] | None = None,
    ) -> None:  # fmt: skip
        self.fn = fn
        self.higher_is_better = higher_is_better
        self.name = name or str(getattr(fn, "__name__", type(fn).__name__))
        self.limits = limits

    def check(self, outputs: Array, labels: Array | None) -> None:
        """Only the user's function knows what fits."""

    def examples(self, outputs: Array, labels: Array | None, original: Array | None) -> Floats | None:  # noqa: ARG002
        """What the function returned, if it is one number for each example."""
        values = self._call(outputs, labels)
        return None if values.ndim == 0 else values

    def value(self, outputs: Array, labels: Array | None, original: Array | None) -> float:  # noqa: ARG002
        """What the function returned, or its mean."""
        return float(self._call(outputs, labels).mean())

    def weighted(self, outputs: Array, labels: Array | None, original: Array | None, weights: Floats) -> Floats:
        """The function called on each resampled data set: weights are whole numbers, examples are repeated."""
        each = self.examples(outputs, labels, original)
        if each is not None:
            return np.asarray(weights @ each / weights.sum(1))
        rows = (np.repeat(np.arange(len(outputs)), counts) for counts in weights.astype(np.int64))
        return np.array([float(self._call(outputs[r], None if labels is None else labels[r])) for r in rows])

    def _call(self, outputs: Array, labels: Array | None) -> Floats:
        """The function's result as float64, [] or [n]; raises DataError."""
        values = np.asarray(self.fn(outputs, labels))
        if values.ndim == 2 and values.shape == (len(outputs), 1):
            values = values[:, 0]
        if not (np.issubdtype(values.dtype, np.number) or values.dtype == bool) or values.shape not in (
            (), (len(outputs),),
        ):  # fmt: skip
            raise DataError(
                f"metric {self.name!r}: the function must return a number, or one for each of the {len(outputs)} "
                f"examples. Received {values.dtype} of shape {values.shape}."
            )
        values = values.astype(np.float64)
        if self.limits and not np.all((values >= self.limits[0]) & (values <= self.limits[1])):
            raise DataError(f"metric {self.name!r}: values must lie in {self.limits}. Received some outside.")
        return values
