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
        """Values [b], exact for equal weights and to first order otherwise.

        Each example's share is its placement among the examples of the other side (DeLong, DeLong and Clarke-Pearson,
        Biometrics 44 (1988) 837-845). An output that is not finite ranks worst on every side.
        """
        assert labels is not None
        scores, truth = self.ranked(outputs, labels, original)
        scores = np.where(finite_rows(outputs)[:, None], scores, np.where(truth, -np.inf, np.inf))
        ranked = np.flatnonzero(truth.any(0) & ~truth.all(0))
        shares = np.mean([_shares(scores[:, c], truth[:, c]) for c in ranked], axis=0)
        return np.asarray(100 * (weights @ shares) / weights.sum(1))


def _shares(scores: Floats, truth: NDArray[np.bool_]) -> Floats:
    """Values [n] whose mean is the area: the area, plus each example's influence on it."""
    yes, no = np.sort(scores[truth]), np.sort(scores[~truth])
    beaten = (np.searchsorted(no, scores, "left") + np.searchsorted(no, scores, "right")) / (2 * len(no))
    beaten_by = 1 - (np.searchsorted(yes, scores, "left") + np.searchsorted(yes, scores, "right")) / (2 * len(yes))
    area = float(beaten[truth].mean())
    share = float(truth.mean())
    return np.asarray(area + np.where(truth, (beaten - area) / share, (beaten_by - area) / (1 - share)))


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
