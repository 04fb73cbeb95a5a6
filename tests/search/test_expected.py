"""The sharpened drop is nearer the truth than counted flips, as near as it says, and never an invention."""

import numpy as np
import pytest

from attar.evaluate.metrics import F1, Accuracy, TopK
from attar.evaluate.score import Score
from attar.evaluate.targets import log_softmax
from attar.search.expected import advantage, sharpened


def scores(logits: np.ndarray, labels: np.ndarray, metric: TopK) -> Score:
    each = metric.examples(logits, labels, None)
    return Score(metric.name, float(each.mean()), len(labels), logits, each, labels)


def honest(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True)


def experiment(seed: int, heat: float, n: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits of a model that reports them times `heat`, those of a damaged copy, labels, and the true probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 10)) * 3
    p = honest(logits)
    labels = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    damaged = logits + 0.5 * rng.normal(size=logits.shape)
    return logits * heat, damaged * heat, labels, p


@pytest.mark.parametrize("heat", [0.02, 0.6, 1.0, 1.6])
def test_nearer_than_counting(heat: float) -> None:
    counted, sharp, claimed = [], [], []
    metric = Accuracy()
    for seed in range(30):
        first, second, labels, p = experiment(seed, heat)
        before, after = scores(first, labels, metric), scores(second, labels, metric)
        change = before.per_example - after.per_example
        error = change.std() / np.sqrt(len(labels))
        drop, better = sharpened(float(change.mean()), error, before, after, metric)
        rows = np.arange(len(labels))
        truth = 100 * float(np.mean(p[rows, first.argmax(1)] - p[rows, second.argmax(1)]))
        assert better < error
        counted.append(change.mean() - truth)
        sharp.append(drop - truth)
        claimed.append(better)
    assert np.std(sharp) < 0.75 * np.std(counted)
    assert np.std(sharp) < 1.3 * np.mean(claimed)


@pytest.mark.parametrize("heat", [0.02, 0.5, 1.0, 2.5])
def test_the_advantage_is_that_of_the_true_odds(heat: float) -> None:
    first, second, labels, p = experiment(0, heat, n=20000)
    logs = log_softmax(first)
    rows, said = np.arange(len(labels)), second.argmax(1)
    margin = logs.max(1) - logs[rows, said]
    flipped = margin > 0
    found = advantage(margin, logs, labels, float(np.percentile(margin[flipped], 95)))
    truth = p[rows, first.argmax(1)] - p[rows, said]
    assert found[flipped].mean() == pytest.approx(truth[flipped].mean(), rel=0.15)
    assert not found[~flipped].any()


def test_odds_that_are_wrong_do_not_win() -> None:
    """Labels that the model knows nothing of: its confidence is calibrated away, and the count is believed."""
    first, second, _, _ = experiment(1, heat=1.0)
    labels = np.random.default_rng(5).integers(0, 10, len(first))
    metric = Accuracy()
    before, after = scores(first, labels, metric), scores(second, labels, metric)
    drop, _ = sharpened(3.0, 0.1, before, after, metric)
    assert drop > 2.5


def test_metrics_without_odds_are_left_as_they_are() -> None:
    first, second, labels, _ = experiment(2, heat=1.0)
    metric = Accuracy()
    before, after = scores(first, labels, metric), scores(second, labels, metric)
    assert sharpened(1.0, 0.2, before, after, F1()) == (1.0, 0.2)
    assert sharpened(1.0, 0.2, before, after, TopK(3)) == (1.0, 0.2)
    assert sharpened(1.0, 0.2, before, before, metric) == (1.0, 0.2)
    after.outputs[3, 3] = np.nan
    assert sharpened(1.0, 0.2, before, after, metric) == (1.0, 0.2)
