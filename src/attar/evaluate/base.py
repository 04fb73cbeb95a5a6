"""What a metric offers: a direction, a unit, and values for each example, a data set and resampled data sets."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from attar.types import Array

Floats = NDArray[np.float64]
IGNORED = -100
"""Label of a position (a token, a pixel) that does not count."""


@runtime_checkable
class Metric(Protocol):
    """A number that says how good outputs are; `outputs` [n, ...] are the model's first output.

    A metric either is the mean of per-example values (`examples` returns them) or is not (it returns None; then
    `weighted` says what the value would be if each example counted so many times, which the bootstrap needs).
    """

    @property
    def name(self) -> str:
        """As in the registry."""
        ...

    @property
    def unit(self) -> str:
        """ "points" for percentages, "nats", or "" for a plain number."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """The direction."""
        ...

    @property
    def needs_labels(self) -> bool:
        """Whether it cannot be computed without labels."""
        ...

    @property
    def relative_to_original(self) -> bool:
        """Whether it compares with the original model's outputs rather than with labels."""
        ...

    @property
    def limits(self) -> tuple[float, float] | None:
        """Least and greatest value of one example where every value lies between them, otherwise None."""
        ...

    def check(self, outputs: Array, labels: Array | None) -> None:
        """Raise DataError where the labels do not fit the outputs."""
        ...

    def examples(self, outputs: Array, labels: Array | None, original: Array | None) -> Floats | None:
        """Per-example values [n] whose mean is the value; right or wrong is 100 or 0."""
        ...

    def value(self, outputs: Array, labels: Array | None, original: Array | None) -> float:
        """The value on the data set."""
        ...

    def weighted(self, outputs: Array, labels: Array | None, original: Array | None, weights: Floats) -> Floats:
        """The values [b] with each example counted weights[b, n] times."""
        ...


class MeanMetric:
    """Base of metrics that are a mean over examples; a subclass gives the attributes and `examples`."""

    name = ""
    unit = ""
    higher_is_better = True
    needs_labels = True
    relative_to_original = False
    limits: tuple[float, float] | None = None

    def check(self, outputs: Array, labels: Array | None) -> None:
        """Anything fits, unless a subclass says otherwise."""

    def examples(self, outputs: Array, labels: Array | None, original: Array | None) -> Floats | None:
        """Per-example values [n]."""
        raise NotImplementedError

    def value(self, outputs: Array, labels: Array | None, original: Array | None) -> float:
        """The mean of the per-example values."""
        return float(np.mean(self._each(outputs, labels, original)))

    def weighted(self, outputs: Array, labels: Array | None, original: Array | None, weights: Floats) -> Floats:
        """Weighted means [b]."""
        return np.asarray(weights @ self._each(outputs, labels, original) / weights.sum(1))

    def _each(self, outputs: Array, labels: Array | None, original: Array | None) -> Floats:
        each = self.examples(outputs, labels, original)
        assert each is not None
        return each


class SetMetric:
    """Base of metrics of a whole data set; a subclass gives the attributes and `weighted`."""

    name = ""
    unit = ""
    higher_is_better = True
    needs_labels = True
    relative_to_original = False
    limits: tuple[float, float] | None = None

    def check(self, outputs: Array, labels: Array | None) -> None:
        """Anything fits, unless a subclass says otherwise."""

    def examples(self, outputs: Array, labels: Array | None, original: Array | None) -> Floats | None:  # noqa: ARG002
        """There are no per-example values."""
        return None

    def value(self, outputs: Array, labels: Array | None, original: Array | None) -> float:
        """The value with every example counted once."""
        return float(self.weighted(outputs, labels, original, np.ones((1, len(outputs))))[0])

    def weighted(self, outputs: Array, labels: Array | None, original: Array | None, weights: Floats) -> Floats:
        """The values [b] with each example counted weights[b, n] times."""
        raise NotImplementedError


def finite_rows(outputs: Array) -> NDArray[np.bool_]:
    """Which examples [n] have no NaN and no +inf in their outputs (a logit of -inf is a probability of zero)."""
    if not np.issubdtype(outputs.dtype, np.inexact):
        return np.ones(len(outputs), bool)
    return np.asarray(~(np.isnan(outputs) | (outputs == np.inf)).reshape(len(outputs), -1).any(1))
