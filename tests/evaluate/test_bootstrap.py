"""The bootstrap: seeded, paired, and about as often right as it says."""

import numpy as np
import pytest

from attar.evaluate import bootstrap
from attar.evaluate.bounds import resample
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import Custom, resolve_metric
from attar.types import Score


def pair(name: str, n: int = 400, seed: int = 0, noise: float = 0.3) -> tuple[Score, Score]:
    """Scores of a classifier and of a noisier one, three classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    first = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[labels]
    second = first + noise * rng.normal(size=(n, 3))
    metric = resolve_metric(name)
    made = [Score(name, metric.value(o, labels, first), n, o, None, labels) for o in (first, second)]
    return made[0], made[1]


@pytest.mark.parametrize("name", ["f1", "auroc"])
def test_same_seed_same_bound_and_it_brackets_the_drop(name: str) -> None:
    before, after = pair(name)
    one, two = (certify(before, after, resolve_metric(name), 5.0) for _ in range(2))
    assert one == two and one.bound == "bootstrap"
    assert one.lower < one.drop < one.upper < one.drop + 5


@pytest.mark.parametrize("name", ["f1", "auroc"])
def test_pieces_of_any_size_say_the_same(name: str, monkeypatch) -> None:
    before, after = pair(name, n=100)
    whole = bootstrap.bounds(before, after, resolve_metric(name), 0.95)
    monkeypatch.setattr(bootstrap, "CHUNK_BYTES", 8 * 100 * 30)
    assert bootstrap.bounds(before, after, resolve_metric(name), 0.95) == pytest.approx(whole)


def test_pairing_makes_the_interval_narrow() -> None:
    before, after = pair("f1", noise=0.05)
    low, high = bootstrap.bounds(before, after, resolve_metric("f1"), 0.95)
    shuffled = np.random.default_rng(1).permutation(after.n)
    assert after.labels is not None
    other = Score("f1", after.value, after.n, after.outputs[shuffled], None, after.labels[shuffled])
    wide = bootstrap.bounds(before, other, resolve_metric("f1"), 0.95)
    assert high - low < 0.5 * (wide[1] - wide[0])


def test_auroc_shares_follow_resampling_itself() -> None:
    before = pair("auroc")[0]
    metric = resolve_metric("auroc")
    assert before.labels is not None
    weights = resample(before.n, 200, np.random.default_rng(3))
    quick = metric.weighted(before.outputs, before.labels, None, weights)
    rows = [np.repeat(np.arange(before.n), w.astype(int)) for w in weights]
    slow = np.array([metric.value(before.outputs[r], before.labels[r], None) for r in rows])
    assert np.corrcoef(quick, slow)[0, 1] > 0.995
    assert quick.std() == pytest.approx(slow.std(), rel=0.03)


@pytest.mark.parametrize("name", ["f1", "r2", "perplexity"])
def test_weights_are_repetitions(name: str) -> None:
    rng = np.random.default_rng(0)
    metric = resolve_metric(name)
    if name == "perplexity":
        outputs, labels = rng.normal(size=(30, 5, 7)), rng.integers(0, 7, (30, 5))
    elif name == "r2":
        outputs, labels = rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    else:
        outputs, labels = rng.normal(size=(30, 4)), rng.integers(0, 4, 30)
    weights = resample(30, 5, rng)
    rows = [np.repeat(np.arange(30), w.astype(int)) for w in weights]
    slow = [metric.value(outputs[r], labels[r], None) for r in rows]
    assert metric.weighted(outputs, labels, None, weights) == pytest.approx(slow)


def test_an_unchanged_percentage_is_not_certified_for_nothing() -> None:
    before, _ = pair("f1", n=100)
    found = certify(before, before, resolve_metric("f1"), 1.0)
    assert found.drop == 0 and found.upper == pytest.approx(2.951, abs=1e-3) and found.verdict != "certified"


def test_a_number_for_the_whole_set_is_resampled_with_its_function() -> None:
    median = Custom(lambda o, y: float(np.median(np.abs(o - y))), higher_is_better=False, name="median")
    rng = np.random.default_rng(0)
    labels, n = rng.normal(size=200), 200
    first, second = labels + 0.1 * rng.normal(size=n), labels + 0.2 * rng.normal(size=n)
    made = [Score("median", median.value(o, labels, None), n, o, None, labels) for o in (first, second)]
    found = certify(made[0], made[1], median, 0.2)
    assert 0.03 < found.lower < found.drop < found.upper < 0.12


def test_coverage_for_skewed_losses() -> None:
    """KL-like values (log-normal) of known mean, n = 400: the nominal 95 % is reached within a few points."""
    rng, metric, truth = np.random.default_rng(0), resolve_metric("kl"), np.exp(0.5)
    hits = []
    for _ in range(100):
        values = rng.lognormal(size=400)
        zero = Score("kl", 0.0, 400, values, np.zeros(400))
        _, high = bootstrap.bounds(zero, Score("kl", values.mean(), 400, values, values), metric, 0.95)
        hits.append(high >= truth)
    assert np.mean(hits) >= 0.90
