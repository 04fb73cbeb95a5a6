"""How far a model's outputs have moved, in nats: the currency of distortion, sensitivity and prediction."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attar.types import Array

Kind = Literal["logits", "probabilities", "regression"]
FLOOR = 1e-12


def kind_of(outputs: Array, classification: bool) -> Kind:
    """What the outputs are: rows of probabilities, logits, or plain numbers (with a Gaussian of their own variance)."""
    if not classification or outputs.ndim < 2:
        return "regression"
    rows = outputs.reshape(-1, outputs.shape[-1])
    if rows.shape[1] < 2:
        return "regression"
    if rows.min() >= 0 and np.allclose(rows.sum(1), 1, atol=1e-3):
        return "probabilities"
    return "logits"


def divergence(original: Array, changed: Array, kind: Kind) -> NDArray[np.float64]:
    """KL(original || changed) in nats for each example, [n]; positions of one example (tokens) are averaged.

    For plain numbers: squared change over twice the variance of the original outputs, averaged over the elements,
    which is the KL between two Gaussians of that variance.
    """
    before, after = original.astype(np.float64), changed.astype(np.float64)
    if kind == "regression":
        variance = before.reshape(len(before), -1).var(0).mean() + FLOOR
        return np.asarray(np.square(after - before).reshape(len(before), -1).mean(1) / (2 * variance))
    left, right = _log_probabilities(before, kind), _log_probabilities(after, kind)
    each = np.sum(np.exp(left) * (left - right), -1)
    return np.asarray(np.maximum(each.reshape(len(each), -1).mean(1), 0))


def probabilities(outputs: Array, kind: Kind) -> NDArray[np.float64]:
    """p along the last axis, of logits or probabilities."""
    return np.asarray(np.exp(_log_probabilities(outputs.astype(np.float64), kind)))


def _log_probabilities(outputs: NDArray[np.float64], kind: Kind) -> NDArray[np.float64]:
    """log p along the last axis."""
    if kind == "probabilities":
        return np.asarray(np.log(np.maximum(outputs, FLOOR)))
    shifted = outputs - outputs.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
