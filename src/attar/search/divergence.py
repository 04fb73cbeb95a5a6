"""How far a model's outputs have moved, in nats: the currency of distortion, sensitivity and prediction."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attar.evaluate.relative import class_axis
from attar.evaluate.targets import is_probability, is_single, log_softmax
from attar.types import Array

Kind = Literal["logits", "probabilities", "regression"]
FLOOR = 1e-12


def kind_of(outputs: Array, classification: bool) -> Kind:
    """What the outputs are: rows of probabilities, logits, or plain numbers (with a Gaussian of their own variance)."""
    if not classification or is_single(outputs):
        return "regression"
    return "probabilities" if is_probability(np.moveaxis(outputs, class_axis(outputs), -1)) else "logits"


def divergence(original: Array, changed: Array, kind: Kind) -> NDArray[np.float64]:
    """KL(original || changed) in nats for each example, [n]; positions of one example (tokens) are averaged.

    For plain numbers: squared change over twice the variance of the original outputs, averaged over the elements,
    which is the KL between two Gaussians of that variance.
    """
    if kind == "regression":
        before, after = (part.reshape(len(part), -1).astype(np.float64) for part in (original, changed))
        variance = before.var(0).mean() + FLOOR
        return np.asarray(np.square(after - before).mean(1) / (2 * variance))
    axis = class_axis(original)
    left, right = (_logs(np.moveaxis(part, axis, -1), kind) for part in (original, changed))
    each = np.sum(np.exp(left) * (left - right), -1)
    return np.asarray(np.maximum(each.reshape(len(each), -1).mean(1), 0))


def probabilities(outputs: Array, kind: Kind) -> NDArray[np.float64]:
    """p along the last axis, of logits or probabilities with the classes wherever they are."""
    return np.asarray(np.exp(_logs(np.moveaxis(outputs, class_axis(outputs), -1), kind)))


def _logs(outputs: Array, kind: Kind) -> NDArray[np.float64]:
    """log p along the last axis."""
    values = outputs.astype(np.float64)
    return np.asarray(np.log(np.maximum(values, FLOOR))) if kind == "probabilities" else log_softmax(values)
