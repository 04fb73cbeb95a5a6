"""The metrics by registry name: classification here, others in `regression`, `ranking`, `relative` and `custom`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar import registry
from attar.errors import DataError, UsageError
from attar.evaluate.base import IGNORED, Floats, MeanMetric, Metric, SetMetric, finite_rows
from attar.evaluate.custom import Custom
from attar.evaluate.ranking import Auroc, Perplexity
from attar.evaluate.regression import R2, Mae, Mse
from attar.evaluate.relative import Agreement, Cosine, KlToOriginal
from attar.evaluate.targets import aligned
from attar.types import Array
from attar.user_code import user_function

__all__ = [
    "F1",
    "R2",
    "Accuracy",
    "Agreement",
    "Auroc",
    "Cosine",
    "Custom",
    "KlToOriginal",
    "Mae",
    "Mse",
    "Perplexity",
    "Top5",
    "TopK",
    "resolve_metric",
]  # fmt: skip


class TopK(MeanMetric):
    """Percent of examples whose label is among the k highest scores; of equal scores the lower class comes first.

    With a label for each token or pixel: the mean over examples of the percentage within each. An output that is not
    finite is wrong.
    """

    unit = "points"
    limits = (0.0, 100.0)

    def __init__(self, k: int) -> None:
        self.k = k
        self.name = f"top{k}"

    def check(self, outputs: Array, labels: Array | None) -> None:
        """Labels are classes of the outputs, and k is less than their number; raises DataError."""
        assert labels is not None
        scores, _ = aligned(outputs, labels)
        if not 0 < self.k < scores.shape[-1]:
            raise DataError(
                f"metric {self.name!r}: k must be from 1 to {scores.shape[-1] - 1}, below the number of classes. "
                f"Received {self.k}. With k of all classes every answer would be right."
            )

    def examples(self, outputs: Array, labels: Array | None, original: Array | None) -> Floats | None:
        """100 or 0 for each example [n]; a share of it where an example has several positions."""
        assert labels is not None
        scores, target = aligned(outputs, labels, original)
        counted = target != IGNORED
        right = _hits(scores, np.where(counted, target, 0), self.k) & counted
        right &= finite_rows(outputs).reshape(-1, *[1] * (right.ndim - 1))
        rows = right.reshape(len(right), -1).sum(1) / counted.reshape(len(right), -1).sum(1)
        return np.asarray(100.0 * rows)


def _hits(scores: Array, target: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether fewer than k classes come before the target: those with a higher score, or an equal one further left."""
    if k == 1:
        return np.asarray(scores.argmax(-1) == target)
    wanted = np.take_along_axis(scores, target[..., None], -1)
    earlier = np.arange(scores.shape[-1]) < target[..., None]
    return np.asarray(((scores > wanted) | ((scores == wanted) & earlier)).sum(-1) < k)


class Accuracy(TopK):
    """Percent of right answers: of examples, or the mean over examples of the percentage of tokens or pixels."""

    def __init__(self) -> None:
        super().__init__(1)
        self.name = "accuracy"


class Top5(TopK):
    """Percent of examples whose label is among the five highest scores."""

    def __init__(self) -> None:
        super().__init__(5)


class F1(SetMetric):
    """Macro F1 in percent: the mean of 2 tp / (2 tp + fp + fn) over classes that occur as label or as answer."""

    name = "f1"
    unit = "points"

    def check(self, outputs: Array, labels: Array | None) -> None:
        """Labels are classes of the outputs; raises DataError."""
        assert labels is not None
        aligned(outputs, labels)

    def weighted(self, outputs: Array, labels: Array | None, original: Array | None, weights: Floats) -> Floats:
        """Values [b]; an answer that is not finite is an answer of no class."""
        assert labels is not None
        scores, target = aligned(outputs, labels, original)
        answer = np.where(finite_rows(outputs).reshape(-1, *[1] * (target.ndim - 1)), scores.argmax(-1), -1)
        classes = scores.shape[-1]
        said, true = _counts(answer, target, classes), _counts(target, target, classes)
        both = _counts(np.where(answer == target, answer, -1), target, classes)
        total = weights @ said + weights @ true
        with np.errstate(invalid="ignore"):
            each = np.where(total > 0, 2 * (weights @ both) / total, np.nan)
        return np.asarray(100 * np.nanmean(each, 1))


def _counts(values: Array, target: Array, classes: int) -> Floats:
    """How often each class occurs in each example, [n, classes], where the target counts."""
    width = classes + 1  # the last column takes what is of no class or does not count
    column = np.where((target == IGNORED) | (values < 0), classes, values).reshape(len(values), -1)
    cell = (column + width * np.arange(len(values))[:, None]).ravel()
    counts = np.bincount(cell, minlength=width * len(values)).reshape(len(values), width)
    return np.asarray(counts[:, :-1], np.float64)


def resolve_metric(spec: object) -> Metric:
    """The metric of a registered name, "topk:3", "top1" to "top10", "package.module:function", a function or a Metric.

    Raises UsageError that lists the names.
    """
    if isinstance(spec, type):
        spec = spec()
    if isinstance(spec, Metric):
        return spec
    if callable(spec):
        return Custom(spec)
    if not isinstance(spec, str):
        raise UsageError(f"metric: it must be a name, a function or a Metric. Received {spec!r}.")
    found = re.fullmatch(r"top(?:k:)?(\d{1,4})", spec)
    if found and int(found[1]) > 0:
        return TopK(int(found[1]))
    if ":" in spec:
        function: Callable[..., Any] = user_function(spec, "metric")
        return resolve_metric(function) if isinstance(function, type | Metric) else Custom(function, name=spec)
    named: Metric = registry.get("metric", spec)()
    return named
