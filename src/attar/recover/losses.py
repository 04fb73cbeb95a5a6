"""Losses as gradients with respect to a model's outputs, in nats per example: labels, and the original's answers.

The gradient of -sum t log softmax(z) is softmax(z) - t. Distillation (Hinton, Vinyals and Dean 2015, section 2) does
the same at a temperature T, times T^2 so that its gradients keep their size. Models that end in a softmax put out p:
their logits are log p, and d log p = dp / p.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from attar.evaluate.base import IGNORED
from attar.evaluate.relative import class_axis
from attar.evaluate.targets import aligned, is_probability, is_single, same_shape
from attar.recover.base import F32
from attar.recover.settings import RecoverySettings
from attar.types import Array

Loss = Callable[[Array, Array, Array | None], Array]
"""(outputs, the original's outputs, labels or None) of one batch -> gradient of the mean loss, like outputs."""
LEAST = 1e-7
"""Probabilities are not taken for less: their logarithm's gradient would be without bound."""


def loss_for(original: Array, classification: bool, settings: RecoverySettings) -> Loss:
    """The loss that fits a model's outputs [n, ...]: classes (logits or probabilities), or numbers."""
    if not classification:
        scale = float(original.var(0).mean()) + 1e-12
        return lambda outputs, target, labels: _numbers(outputs, target, labels, scale, settings)
    if is_single(original):
        inner = _binary_probability if is_probability(original) else _binary
        return lambda outputs, target, labels: inner(outputs, target, labels, settings)
    probability = is_probability(np.moveaxis(original, class_axis(original), -1))
    return lambda outputs, target, labels: _classes(outputs, target, labels, probability, settings)


def _classes(
    outputs: Array, original: Array, labels: Array | None, probability: bool, settings: RecoverySettings
) -> Array:
    """Cross-entropy with the labels and with the original, averaged over positions, then over examples."""
    axis = class_axis(original)
    logits, target = (_logits(np.moveaxis(part, axis, -1), probability) for part in (outputs, original))
    share = settings.distill if labels is not None else 1.0
    heat = settings.temperature
    gradient = share * heat * (softmax(logits / heat) - softmax(target / heat))
    if share < 1:
        assert labels is not None
        gradient += (1 - share) * _against_labels(logits, np.moveaxis(original, axis, -1), labels)
    gradient /= logits.size / logits.shape[-1]
    if probability:
        gradient /= np.maximum(np.moveaxis(outputs, axis, -1), LEAST)
    return np.ascontiguousarray(np.moveaxis(gradient, -1, axis), np.float32)


def _against_labels(logits: F32, scores: Array, labels: Array) -> F32:
    """softmax - one-hot; zero where a position does not count."""
    _, target = aligned(scores, labels)
    counted = target != IGNORED
    gradient = softmax(logits)
    place = np.where(counted, target, 0)[..., None]
    np.put_along_axis(gradient, place, np.take_along_axis(gradient, place, -1) - 1, -1)
    return np.asarray(gradient * counted[..., None], np.float32)


def _binary(outputs: Array, original: Array, labels: Array | None, settings: RecoverySettings) -> Array:
    """One logit for each example: its sigmoid against the original's and the labels 0 and 1."""
    share = settings.distill if labels is not None else 1.0
    gradient = share * (_sigmoid(outputs) - _sigmoid(original))
    if share < 1:
        assert labels is not None
        gradient = gradient + (1 - share) * (_sigmoid(outputs) - labels.reshape(outputs.shape))
    return np.asarray(gradient / len(outputs), np.float32)


def _binary_probability(outputs: Array, original: Array, labels: Array | None, settings: RecoverySettings) -> Array:
    """The same for one probability for each example."""
    inside = [np.clip(part, LEAST, 1 - LEAST) for part in (outputs, original)]
    logits = [np.log(part) - np.log1p(-part) for part in inside]
    gradient = _binary(logits[0], logits[1], labels, settings)
    return np.asarray(gradient / (inside[0] * (1 - inside[0])), np.float32)


def _numbers(outputs: Array, original: Array, labels: Array | None, scale: float, settings: RecoverySettings) -> Array:
    """Squared error over twice the variance of the original's outputs."""
    share = settings.distill if labels is not None else 1.0
    target = original if labels is None else share * original + (1 - share) * same_shape(outputs, labels)
    return np.asarray((outputs - target) / (scale * outputs.size), np.float32)


def _logits(values: Array, probability: bool) -> F32:
    """Logits, or the logarithms of probabilities."""
    return np.asarray(np.log(np.maximum(values, LEAST)) if probability else values, np.float32)


def softmax(logits: F32) -> F32:
    """Along the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def _sigmoid(logits: Array) -> F32:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))), np.float32)
