"""Labels made to fit outputs: where the classes are, which positions count, what a language model must predict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError
from attar.evaluate.base import IGNORED, Floats
from attar.types import Array


def is_probability(outputs: Array) -> bool:
    """Whether rows along the last axis are non-negative and sum to one (single numbers: lie between 0 and 1)."""
    rows = outputs.reshape(-1, outputs.shape[-1]) if outputs.ndim > 1 else outputs[:, None]
    rows = rows[np.isfinite(rows).all(1)]
    if not len(rows) or rows.min() < 0:
        return False
    if rows.shape[1] == 1:
        return bool(rows.max() <= 1)
    return bool(np.allclose(rows.sum(1, dtype=np.float64), 1, atol=1e-3))


def is_single(outputs: Array) -> bool:
    """Whether there is one number for each example: the score of a binary decision."""
    return outputs.ndim == 1 or (outputs.ndim == 2 and outputs.shape[1] == 1)


def two_sided(outputs: Array, like: Array | None = None) -> Array:
    """Binary scores [n] or [n, 1] as two columns [n, 2], the greater deciding: at 0.5 for probabilities, 0 for logits.

    `like` are the outputs that decide which of the two they are: the original's, so that both models have one rule.
    """
    score = outputs.reshape(len(outputs)).astype(np.float64)
    threshold = 0.5 if is_probability(outputs if like is None else like) else 0.0
    return np.stack([np.full_like(score, threshold), score], 1)


def aligned(outputs: Array, labels: Array, like: Array | None = None) -> tuple[Array, NDArray[np.int64]]:
    """Scores [n, ..., classes] and labels [n, ...] (IGNORED where a position does not count); raises DataError.

    Takes one label for each example, token or pixel; labels as one-hot rows; binary outputs [n] or [n, 1]; class axis
    second (PyTorch, ONNX) or last (Keras, tokens).
    """
    scores = two_sided(outputs, like) if is_single(outputs) else outputs
    target = _plain(scores, labels)
    if np.issubdtype(target.dtype, np.floating) and np.array_equal(target, np.rint(target)):
        target = target.astype(np.int64)
    if target.dtype != bool and not np.issubdtype(target.dtype, np.integer):
        raise DataError(
            f"labels: a classification needs whole numbers. Received {_not_whole(target)}. Give each example's class "
            "number."
        )
    target = target.astype(np.int64)
    scores = _classes_last(scores, target)
    counted = target != IGNORED
    if np.any(counted & ((target < 0) | (target >= scores.shape[-1]))):
        low, high, classes = target[counted].min(), target[counted].max(), scores.shape[-1]
        remedy = f"Use labels of this model ({IGNORED} marks a position that does not count)."
        if (low, high) == (1, classes):
            remedy = f"They go from 1 to {classes}: subtract 1."
        raise DataError(
            f"labels: each must be a class from 0 to {classes - 1}, for the model has {classes} outputs. "
            f"Received {high if high >= classes else low}. {remedy}"
        )
    if not counted.reshape(len(counted), -1).any(1).all():
        raise DataError(
            f"labels: each example needs a label that counts. Received one with {IGNORED} only. Leave it out."
        )
    return scores, target


def _not_whole(labels: Array) -> str:
    """What is there in place of whole numbers."""
    if not np.issubdtype(labels.dtype, np.floating):
        return str(labels.dtype)
    missing = np.count_nonzero(~np.isfinite(labels))
    if missing:
        return f"{missing:,} that are NaN or infinite, among {labels.size:,}"
    return f"{labels.dtype} such as {labels[labels != np.rint(labels)][0]:.6g}"


def _plain(scores: Array, labels: Array) -> Array:
    """Labels without a superfluous axis of one, and as class numbers where they are one-hot rows."""
    if len(labels) != len(scores):
        raise DataError(
            f"labels: there must be one for each example. Received {len(labels)} for {len(scores)} examples."
        )
    if labels.shape == scores.shape and scores.ndim > 1 and _one_hot(labels):
        return np.asarray(labels.argmax(-1))
    if labels.ndim == 2 and labels.shape[1] == 1:
        return labels[:, 0]
    if labels.ndim == 4 and 1 in (labels.shape[1], labels.shape[3]):
        return labels.squeeze(1 if labels.shape[1] == 1 else 3)
    return labels


def _one_hot(labels: Array) -> bool:
    """Whether rows along the last axis hold a single one."""
    return bool(np.isin(labels, (0, 1)).all() and (labels.sum(-1) == 1).all())


def _classes_last(scores: Array, target: NDArray[np.int64]) -> Array:
    """Scores with the class axis last. Where both places fit: last for sequences, second for images."""
    last = scores.shape[:-1] == target.shape
    second = scores.ndim > 2 and scores.shape[:1] + scores.shape[2:] == target.shape
    if last and not (second and scores.ndim > 3):
        return scores
    if second:
        return np.moveaxis(scores, 1, -1)
    raise DataError(
        f"labels: there must be one class number for each example, token or pixel. Received shape {target.shape} for "
        f"outputs {scores.shape}. Give shape {scores.shape[:1]}, {scores.shape[:-1]} or one-hot rows."
    )


def same_shape(outputs: Array, labels: Array) -> Floats:
    """Numeric labels in the outputs' shape, float64; raises DataError. Axes of one may differ, nothing broadcasts."""
    if not (np.issubdtype(labels.dtype, np.number) or labels.dtype == bool):
        raise DataError(f"labels: a regression needs numbers. Received {labels.dtype}.")
    squeezed = [tuple(size for size in shape[1:] if size != 1) for shape in (outputs.shape, labels.shape)]
    if len(outputs) != len(labels) or squeezed[0] != squeezed[1]:
        raise DataError(f"labels: they must have the outputs' shape {outputs.shape}. Received {labels.shape}.")
    if not np.isfinite(labels).all():
        raise DataError(
            "labels: a regression needs finite numbers. Received NaN or infinity. Leave those examples out."
        )
    return labels.reshape(outputs.shape).astype(np.float64)


def next_tokens(inputs: Mapping[str, Array], labels: Array | None) -> Array | None:
    """What a causal language model's logits [n, t] must predict; None where the inputs are no token ids.

    Without labels: the inputs moved by one, IGNORED at the end and at padding (where the attention mask is 0). Labels
    that repeat the inputs wherever they count, as data collators make them, are moved by one; others stay as they are.
    """
    ids = inputs.get("input_ids", next(iter(inputs.values())))
    if labels is not None and not (labels.shape == ids.shape and np.all((labels == ids) | (labels == IGNORED))):
        return labels
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        return labels
    target = (ids if labels is None else labels).astype(np.int64)
    mask = inputs.get("attention_mask")
    if labels is None and mask is not None and mask.shape == ids.shape:
        target = np.where(mask != 0, target, IGNORED)
    end = np.full((len(target), 1), IGNORED, np.int64)
    moved = np.concatenate([target[:, 1:], end], 1)
    return moved if mask is None or mask.shape != ids.shape else np.where(mask != 0, moved, IGNORED)


def log_probabilities(outputs: Array, like: Array | None = None) -> Floats:
    """log p along the last axis, float64, from logits or probabilities (`like`, where given, tells which)."""
    values = outputs.astype(np.float64)
    if is_probability(outputs if like is None else like):
        return np.asarray(np.log(np.maximum(values, 1e-12)))
    return log_softmax(values)


def log_softmax(logits: Floats) -> Floats:
    """log p along the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
