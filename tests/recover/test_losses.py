"""Every loss is the gradient of what it says, by finite differences in float64-like steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from attar.recover.losses import loss_for
from attar.recover.settings import RecoverySettings
from attar.types import Array

N, K = 6, 4


def slopes(value: Callable[[Array], float], at: Array, step: float = 1e-3) -> Array:
    """Central differences of a function of an array."""
    found = np.zeros(at.shape)
    for index in np.ndindex(at.shape):
        for sign in (1, -1):
            moved = at.astype(np.float64)
            moved[index] += sign * step
            found[index] += sign * value(moved) / (2 * step)
    return found


def logits(seed: int, shape: tuple[int, ...] = (N, K)) -> Array:
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def softened(values: Array, heat: float) -> Array:
    scaled = values / heat
    return np.exp(scaled - logsumexp(scaled, -1, keepdims=True))


@pytest.mark.parametrize("heat", [1.0, 3.0])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_logits_against_labels_and_the_original(share: float, heat: float) -> None:
    z, teacher, labels = logits(0), logits(1), np.arange(N) % K

    def value(at: Array) -> float:
        distilled = -(heat**2) * (softened(teacher, heat) * log_softmax(at / heat, -1)).sum()
        labelled = -log_softmax(at, -1)[np.arange(N), labels].sum()
        return float(share * distilled + (1 - share) * labelled) / N

    settings = RecoverySettings(distill=share, temperature=heat)
    found = loss_for(teacher, True, settings)(z, teacher, labels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slopes(value, z), atol=2e-4)


def test_without_labels_the_original_counts_in_full() -> None:
    z, teacher = logits(0), logits(1)
    loss = loss_for(teacher, True, RecoverySettings(distill=0.1))
    np.testing.assert_allclose(loss(z, teacher, None), (softened(z, 1) - softened(teacher, 1)) / N, atol=1e-6)
    np.testing.assert_allclose(loss(teacher, teacher, None), 0, atol=1e-7)


def test_probabilities_give_the_logits_gradient_through_the_softmax() -> None:
    z, teacher, labels = logits(2), logits(3), np.arange(N) % K
    settings = RecoverySettings(distill=0.5)
    p = softened(z, 1).astype(np.float32)
    found = loss_for(softened(teacher, 1), True, settings)(p, softened(teacher, 1).astype(np.float32), labels)
    through = p * (found - (found * p).sum(-1, keepdims=True))
    np.testing.assert_allclose(through, loss_for(teacher, True, settings)(z, teacher, labels), atol=1e-5)


def test_tokens_that_do_not_count_have_no_gradient() -> None:
    z, teacher = logits(4, (2, 5, K)), logits(5, (2, 5, K))
    labels = np.array([[0, 1, -100, 2, 3], [1, -100, -100, 0, 0]])
    found = loss_for(teacher, True, RecoverySettings(distill=0.0))(z, teacher, labels)
    assert not found[labels == -100].any()
    assert np.abs(found[labels != -100]).min() > 0
    whole = slopes(lambda at: -float(np.take_along_axis(log_softmax(at, -1), np.maximum(labels, 0)[..., None], -1)[
        labels != -100].sum()) / 10, z)  # fmt: skip
    np.testing.assert_allclose(found, whole, atol=2e-4)


def test_pixels_have_their_classes_second() -> None:
    rng = np.random.default_rng(0)
    z, teacher = (rng.normal(0, 1, (2, 3, 4, 4)).astype(np.float32) for _ in range(2))
    labels = rng.integers(0, 3, (2, 4, 4))
    settings = RecoverySettings(distill=0.5)
    found = loss_for(teacher, True, settings)(z, teacher, labels)
    last = loss_for(np.moveaxis(teacher, 1, -1), True, settings)
    assert found.shape == z.shape
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-6)
    assert last is not None


@pytest.mark.parametrize("probability", [False, True])
def test_binary_outputs(probability: bool) -> None:
    z, teacher = logits(6, (N, 1)), logits(7, (N, 1))
    labels = np.arange(N) % 2

    def squashed(values: Array) -> Array:
        return 1 / (1 + np.exp(-values.astype(np.float64)))

    def value(at: Array) -> float:
        p = at if probability else squashed(at)
        target = 0.5 * squashed(teacher) + 0.5 * labels[:, None]
        return -float((target * np.log(p) + (1 - target) * np.log1p(-p)).sum()) / N

    at, said = (squashed(z), squashed(teacher)) if probability else (z, teacher)
    found = loss_for(said, True, RecoverySettings(distill=0.5))(at, said, labels)
    np.testing.assert_allclose(found, slopes(value, np.asarray(at), 1e-4), rtol=2e-3, atol=2e-3)


def test_numbers_in_units_of_the_originals_variance() -> None:
    z, teacher, labels = logits(8), logits(9), logits(10)
    scale = float(teacher.var(0).mean())
    found = loss_for(teacher, False, RecoverySettings(distill=0.25))(z, teacher, labels)
    target = 0.25 * teacher + 0.75 * labels
    expected = slopes(lambda at: float(np.square(at - target).sum()) / (2 * scale * z.size), z)
    np.testing.assert_allclose(found, expected, atol=2e-3)
