"""Second moments of inputs: what they are, however the examples come and however large they are."""

from __future__ import annotations

import numpy as np
import pytest

from attar.adapters import moments
from attar.adapters.moments import MomentSum
from attar.types import Array, Stats


def columns(examples: int, positions: int = 6, depth: int = 5) -> Array:
    """[1, depth, examples * positions], correlated and not centred."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(examples * positions, depth)) @ rng.normal(size=(depth, depth)) + 3
    return np.ascontiguousarray(x.T[None], np.float32)


def summed(x: Array, examples: int, batch: int) -> Stats:
    total, positions = MomentSum(1, x.shape[1]), x.shape[2] // examples
    for start in range(0, examples, batch):
        stop = min(start + batch, examples)
        total.add(x[:, :, start * positions : stop * positions], stop - start)
    found = total.stats()
    assert found is not None
    return found


@pytest.mark.parametrize("wide", [1 << 24, 100])
def test_the_moments_are_those_of_all_columns_to_the_last_bit_for_any_batch(
    monkeypatch: pytest.MonkeyPatch, wide: int
) -> None:
    monkeypatch.setattr(moments, "WIDE", wide)
    monkeypatch.setattr(moments, "PIECE", 90)
    x = columns(300)
    found = summed(x, 300, 300)
    np.testing.assert_allclose(found.hessian[0], np.cov(x[0].astype(np.float64), bias=True), rtol=1e-4)
    np.testing.assert_allclose(found.mean[0], x[0].astype(np.float64).mean(1), rtol=1e-5)
    for batch in (1, 7, 128, 256):
        again = summed(x, 300, batch)
        np.testing.assert_array_equal(again.hessian, found.hessian)
        np.testing.assert_array_equal(again.mean, found.mean)
        assert again.pooled is not None and found.pooled is not None
        np.testing.assert_array_equal(again.pooled, found.pooled)


def test_large_examples_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "WIDE", 100)
    monkeypatch.setattr(moments, "PIECE", 90)
    total, x = MomentSum(1, 5), columns(50)
    for start in range(50):
        total.add(x[:, :, 6 * start : 6 * start + 6], 1)
        assert total._waiting is None or total._waiting.size <= 90


def test_small_examples_wait_for_a_block() -> None:
    """As they always did: the bits of what was summed before stay."""
    total, x = MomentSum(1, 5), columns(127)
    total.add(x, 127)
    assert total._filled == 127
    total.add(x[:, :, :6], 1)
    assert total._waiting is None


def test_a_weight_that_is_used_twice_has_moments_all_the_same() -> None:
    """What positions have in common is known of the first use, whose inputs may be quite unlike those of the second."""
    total, x = MomentSum(1, 5), columns(60)
    total.add(x, 60)
    total.add(20 - 3 * x, 0)
    found, alone = total.stats(), summed(x, 60, 60)
    assert found is not None and found.pooled is not None and alone.pooled is not None
    assert np.linalg.eigvalsh(found.pooled)[0, 0] > -1e-5
    np.testing.assert_allclose(found.pooled, alone.pooled, atol=1e-4)
    assert (found.samples, found.count) == (60, 720)
