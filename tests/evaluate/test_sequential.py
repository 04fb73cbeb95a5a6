"""Bounds that hold at every number of examples."""

import numpy as np
import pytest

from attar.evaluate.custom import Custom
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.sequential import separable, sequence_bounds, side


def flips(rng: np.random.Generator, n: int, lost: float, gained: float) -> np.ndarray:
    """Losses of right and wrong answers in points."""
    return 100.0 * rng.choice([1, 0, -1], n, p=[lost, 1 - lost - gained, gained])


def test_peeking_after_every_piece_does_not_spoil_the_level() -> None:
    rng, wrong, naive, runs = np.random.default_rng(0), 0, 0, 200
    ends = range(100, 2001, 100)
    for _ in range(runs):
        losses = flips(rng, 2000, 0.03, 0.02)  # the mean is 1 point
        wrong += any(side(losses[:n], -100, 100, of=1.0) > 0 for n in ends)
        z = [(losses[:n].mean() - 1.0) / (losses[:n].std() / np.sqrt(n)) for n in ends if losses[:n].any()]
        naive += max(z) > 1.645
    assert wrong <= 0.05 * runs
    assert naive > 0.10 * runs, "the test must see what it guards against"


def test_bounds_narrow_and_find_the_mean() -> None:
    losses = flips(np.random.default_rng(1), 20000, 0.03, 0.01)
    widths = []
    for n in (500, 2000, 20000):
        low, high = sequence_bounds(losses[:n], -100, 100)
        assert low <= losses[:n].mean() <= high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True) and widths[-1] < 1.2
    assert low > 1.0 and high < 3.0  # the mean is 2 points: plainly more than 1


def test_bounds_turn_with_their_values() -> None:
    losses = flips(np.random.default_rng(2), 1000, 0.2, 0.05)
    low, high = sequence_bounds(losses, -100, 100)
    assert [side(losses, -100, 100, of) for of in (low - 0.1, low + 0.1, high - 0.1, high + 0.1)] == [1, 0, 0, -1]
    assert [side(losses, -100, 100, of) for of in (-100, 100, -200, 200)] == [1, -1, 1, -1]
    assert sequence_bounds(-losses, -100, 100) == pytest.approx((-high, -low))


@pytest.mark.parametrize("name", ["f1", "auroc", "r2", "mse", "mae", "perplexity", "kl", "mrr"])
def test_metrics_without_a_sequence(name: str) -> None:
    assert not separable(resolve_metric(name))


@pytest.mark.parametrize("name", ["accuracy", "top5", "agreement", "cosine"])
def test_metrics_with_one(name: str) -> None:
    assert separable(resolve_metric(name))


def test_a_metric_of_ones_own_has_one_where_it_has_limits() -> None:
    assert separable(Custom(lambda o, y: o, limits=(0, 1))) and not separable(Custom(lambda o, y: o))
