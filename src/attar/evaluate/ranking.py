"""Metrics of rankings and of likelihoods: AUROC, perplexity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError
from attar.evaluate.base import IGNORED, Floats, SetMetric, finite_rows
from attar.evaluate.targets import aligned, is_probability, is_single, log_probabilities
from attar.types import Array


class Auroc(SetMetric):
    """Area under the ROC curve in percent, equal scores counting half; the mean over classes, each against the rest.

    Logits of more than one class are softmaxed first. Labels: class numbers [n], or 0 / 1 for each class, [n, classes].
    """

    name = "auroc"
    unit = "points"

    def check(self, outputs: Array, labels: Array | None) -> None:
        """Labels fit, and at least one class both occurs and does not; raises DataError."""
        assert labels is not None
        truth = self.ranked(outputs, labels, None)[1]
        if not np.any(truth.any(0) & ~truth.all(0)):
            raise DataError("metric 'auroc': labels must be of two classes at least. Received one class only.")

    def ranked(self, outputs: Array, labels: Array, original: Array | None) -> tuple[Floats, NDArray[np.bool_]]:
        """Scores [n, k] and truth [n, k], a column for each class (for two: one column)."""
        several = labels.ndim == 2 and labels.shape == outputs.shape and labels.shape[1] > 1
        if several and np.isin(labels, (0, 1)).all() and not (labels.sum(1) == 1).all():
            return outputs.astype(np.float64), labels.astype(bool)
        scores, target = aligned(outputs, labels, original)
        if target.ndim > 1:
            raise DataError(f"metric 'auroc': there must be one label for each example. Received shape {labels.shape}.")
        truth = target[:, None] == np.arange(scores.shape[1])
        if scores.shape[1] == 2:
            return (scores[:, 1:].astype(np.float64) - (0 if is_single(outputs) else scores[:, :1])), truth[:, 1:]
        reference = outputs if original is None else original
        return (outputs.astype(np.float64) if is_probability(reference) else np.exp(log_probabilities(outputs))), truth

    def weighted(self, outputs: Array, labels: Array | None, original: Array | None, weights: Floats) -> Floats:
        """Values [b]; an output that is not finite ranks worst on every side."""
        assert labels is not None
        scores, truth = self.ranked(outputs, labels, original)
        bad = ~finite_rows(outputs)[:, None]
        scores = np.where(bad, np.where(truth, -np.inf, np.inf), scores)
        columns = np.ascontiguousarray(weights.T)
        areas = [_area(scores[:, c], truth[:, c], columns) for c in range(scores.shape[1])]
        return np.asarray(100 * np.nanmean(np.stack(areas, 1), 1))


def _area(scores: Floats, truth: NDArray[np.bool_], columns: Floats) -> Floats:
    """Weighted Mann-Whitney statistic [b] over the number of pairs, for weights [n, b]; NaN where one side has none."""
    rest = np.flatnonzero(~truth)
    rest = rest[np.argsort(scores[rest], kind="stable")]
    below = np.zeros((len(rest) + 1, columns.shape[1]))
    np.cumsum(columns[rest], axis=0, out=below[1:])
    first = np.searchsorted(scores[rest], scores[truth], "left")
    last = np.searchsorted(scores[rest], scores[truth], "right")
    weight = columns[truth]
    pairs = weight.sum(0) * below[-1]
    won = np.einsum("nb,nb->b", weight, below[first]) + np.einsum("nb,nb->b", weight, below[last])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(pairs > 0, won / 2 / pairs, np.nan))


class Perplexity(SetMetric):
    """exp of the mean negative log-likelihood of the labels, over all positions that count.

    Outputs [n, t, vocabulary], labels [n, t]: what each position must predict. `score` takes them from the inputs where
    the data have none.
    """

    name = "perplexity"
    higher_is_better = False
    needs_labels = False

    def check(self, outputs: Array, labels: Array | None) -> None:
        """Labels are tokens of the vocabulary; raises DataError."""
        if labels is None:
            raise DataError(
                "metric 'perplexity': labels or token ids [n, t] are needed. Received neither. Give input_ids."
            )
        aligned(outputs, labels)

    def weighted(self, outputs: Array, labels: Array | None, original: Array | None, weights: Floats) -> Floats:
        """Values [b]; infinite where an output is not finite."""
        assert labels is not None
        loss, count = np.zeros(len(outputs)), np.zeros(len(outputs))
        like = outputs[:8] if original is None else original[:8]
        for row in range(0, len(outputs), 8):  # a vocabulary is wide: float64 copies of a few examples at a time
            scores, target = aligned(outputs[row : row + 8], labels[row : row + 8])
            counted = target != IGNORED
            found = np.take_along_axis(log_probabilities(scores, like), np.where(counted, target, 0)[..., None], -1)[
                ..., 0
            ]
            loss[row : row + 8] = np.where(counted, -found, 0).reshape(len(found), -1).sum(1)
            count[row : row + 8] = counted.reshape(len(found), -1).sum(1)
        loss[~finite_rows(outputs)] = np.inf
        if not np.isfinite(loss).all():
            return np.full(len(weights), np.inf)
        with np.errstate(over="ignore"):
            return np.asarray(np.exp((weights @ loss) / (weights @ count)))
