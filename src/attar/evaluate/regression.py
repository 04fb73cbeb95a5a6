"""Metrics of numbers: squared and absolute error, R2."""

from __future__ import annotations

import numpy as np

from attar.errors import DataError
from attar.evaluate.base import Floats, MeanMetric, SetMetric, finite_rows
from attar.evaluate.targets import same_shape
from attar.types import Array


class Mse(MeanMetric):
    """Mean squared error, averaged over the elements of each example."""

    name = "mse"
    higher_is_better = False

    def check(self, outputs: Array, labels: Array | None) -> None:
        """Labels are numbers in the outputs' shape; raises DataError."""
        assert labels is not None
        same_shape(outputs, labels)

    def examples(self, outputs: Array, labels: Array | None, original: Array | None) -> Floats | None:  # noqa: ARG002
        """Errors [n]; infinite where an output is not finite."""
        assert labels is not None
        with np.errstate(invalid="ignore", over="ignore"):
            error = self.error(outputs.astype(np.float64) - same_shape(outputs, labels)).reshape(len(outputs), -1)
        return np.where(finite_rows(outputs), error.mean(1), np.inf)

    @staticmethod
    def error(difference: Floats) -> Floats:
        """The error of each element."""
        return np.square(difference)


class Mae(Mse):
    """Mean absolute error, averaged over the elements of each example."""

    name = "mae"

    @staticmethod
    def error(difference: Floats) -> Floats:
        """The error of each element."""
        return np.abs(difference)


class R2(SetMetric):
    """Coefficient of determination, 1 - squared error / variance, the mean over the outputs' elements."""

    name = "r2"

    def check(self, outputs: Array, labels: Array | None) -> None:
        """Labels are numbers in the outputs' shape, and none of their elements is constant; raises DataError."""
        assert labels is not None
        target = same_shape(outputs, labels).reshape(len(outputs), -1)
        if np.any(np.ptp(target, 0) == 0):
            raise DataError(
                "metric 'r2': labels must vary. Received an element that is the same in all examples. Use mse."
            )

    def weighted(self, outputs: Array, labels: Array | None, original: Array | None, weights: Floats) -> Floats:  # noqa: ARG002
        """Values [b]; minus infinity where an output is not finite."""
        assert labels is not None
        if not finite_rows(outputs).all():
            return np.full(len(weights), -np.inf)
        target = same_shape(outputs, labels).reshape(len(outputs), -1)
        target = target - target.mean(0)
        error = np.square(
            outputs.reshape(target.shape).astype(np.float64) - same_shape(outputs, labels).reshape(target.shape)
        )
        total = weights.sum(1, keepdims=True)
        variance = weights @ np.square(target) - np.square(weights @ target) / total
        return np.asarray((1 - (weights @ error) / np.maximum(variance, 1e-300)).mean(1))
