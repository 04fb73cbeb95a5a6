"""Metrics that compare a candidate's outputs with the original model's: no labels are needed."""

from __future__ import annotations

import numpy as np

from attar.errors import DataError
from attar.evaluate.base import Floats, MeanMetric, finite_rows
from attar.evaluate.targets import is_probability, is_single, log_probabilities, two_sided
from attar.types import Array


class _Relative(MeanMetric):
    """Base: no labels, and outputs of the original's shape."""

    needs_labels = False
    relative_to_original = True

    def examples(self, outputs: Array, labels: Array | None, original: Array | None) -> Floats | None:  # noqa: ARG002
        """Per-example values [n]; the outputs' own where there is no original to compare with."""
        reference = outputs if original is None else original
        if reference.shape != outputs.shape:
            raise DataError(
                f"metric {self.name!r}: outputs must have the original's shape {reference.shape}. "
                f"Received {outputs.shape}. Compare the model with its own original."
            )
        return self.compare(outputs, reference)

    def compare(self, outputs: Array, original: Array) -> Floats:
        """Per-example values [n] of outputs beside the original's, of equal shape."""
        raise NotImplementedError


class Agreement(_Relative):
    """Percent of examples whose answer (highest score; binary: which side of the threshold) is the original's.

    Where there are several positions (tokens, pixels), the mean over examples of the percentage that agrees.
    """

    name = "agreement"
    unit = "points"
    limits = (0.0, 100.0)

    def compare(self, outputs: Array, original: Array) -> Floats:
        """100 or 0 for each example [n]; a share of it where an example has several positions."""
        good = finite_rows(outputs)
        if is_single(original):
            outputs, original = two_sided(outputs, original), two_sided(original)
        axis = class_axis(original)
        same = (outputs.argmax(axis) == original.argmax(axis)).reshape(len(outputs), -1)
        return np.asarray(100.0 * np.where(good, same.mean(1), 0.0))


class Cosine(_Relative):
    """Mean cosine between the outputs and the original's, each example's flattened; 1 is identical direction.

    An output of all zeros has cosine 1 with another such and 0 with any else; one that is not finite has -1.
    """

    name = "cosine"
    limits = (-1.0, 1.0)

    def compare(self, outputs: Array, original: Array) -> Floats:
        """Cosines [n]."""
        good = finite_rows(outputs)
        left = np.where(good[:, None], outputs.reshape(len(outputs), -1), 0).astype(np.float64)
        right = original.reshape(len(original), -1).astype(np.float64)
        lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        same = (left == right).all(1)
        cosine = np.divide(np.einsum("nd,nd->n", left, right), lengths, out=np.zeros(len(left)), where=lengths > 0)
        return np.where(good, np.where(same, 1.0, np.clip(cosine, -1, 1)), -1.0)


class KlToOriginal(_Relative):
    """Mean KL(original || candidate) in nats, of softmaxed logits or of probabilities, whichever the original gives.

    Binary outputs [n] or [n, 1]: of the two-sided distribution. Several positions are averaged within an example.
    """

    name = "kl"
    unit = "nats"
    higher_is_better = False

    def compare(self, outputs: Array, original: Array) -> Floats:
        """KL [n]; infinite where an output is not finite."""
        good = finite_rows(outputs)
        outputs = np.where(good.reshape(-1, *[1] * (outputs.ndim - 1)), outputs, 0)
        if is_single(original):
            outputs, original = _both_sides(outputs, original), _both_sides(original, original)
        axis = class_axis(original)
        outputs, original = np.moveaxis(outputs, axis, -1), np.moveaxis(original, axis, -1)
        before, after = log_probabilities(original), log_probabilities(outputs, original)
        with np.errstate(invalid="ignore"):
            each = np.where(np.isneginf(before), 0.0, np.exp(before) * (before - after)).sum(-1)
        return np.where(good, np.maximum(each.reshape(len(each), -1).mean(1), 0), np.inf)


def _both_sides(outputs: Array, like: Array) -> Array:
    """Binary outputs as two columns: probabilities p as (1-p, p), logits l as (0, l)."""
    score = outputs.reshape(len(outputs)).astype(np.float64)
    other = 1 - score if is_probability(like) else np.zeros_like(score)
    return np.stack([other, score], 1)


def class_axis(original: Array) -> int:
    """Where the classes are when no labels tell: last; for images whose last axis does not sum to one and whose second
    axis is the shorter, second (PyTorch, ONNX)."""
    if original.ndim < 4 or is_probability(original) or original.shape[1] >= original.shape[-1]:
        return -1
    return 1
