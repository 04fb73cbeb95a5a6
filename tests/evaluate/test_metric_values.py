"""Each metric against a slow, plain definition of it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import registry
from attar.errors import DataError, UsageError
from attar.evaluate.base import IGNORED, Metric
from attar.evaluate.metrics import Custom, TopK, resolve_metric

CLASSES = 6


def example(n: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    outputs = rng.normal(size=(n, CLASSES)).astype(np.float32)
    outputs[np.arange(n), labels] += 1
    return outputs, labels


@pytest.mark.parametrize("name", registry.names("metric"))
def test_every_registered_metric_keeps_the_protocol(name: str) -> None:
    metric = resolve_metric(name)
    assert isinstance(metric, Metric) and metric.name == name
    if name == "perplexity":
        outputs, labels = np.zeros((4, 3, 5), np.float32), np.ones((4, 3), np.int64)
    elif name in ("mse", "mae", "r2"):
        outputs, labels = np.ones((4, 2), np.float32), np.arange(8.0).reshape(4, 2)
    elif name == "wer":
        outputs, labels = np.arange(12).reshape(4, 3) % 5, np.arange(16).reshape(4, 4) % 5
    else:
        outputs, labels = example()
    metric.check(outputs, labels)
    each = metric.examples(outputs, labels, outputs)
    value = metric.value(outputs, labels, outputs)
    ones = metric.weighted(outputs, labels, outputs, np.ones((2, len(outputs))))
    assert ones == pytest.approx([value, value])
    assert each is None or (each.shape == (len(outputs),) and each.mean() == pytest.approx(value))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_counts_labels_among_the_k_best(k: int) -> None:
    outputs, labels = example()
    expected = [100.0 * (label in np.argsort(-row)[:k]) for row, label in zip(outputs, labels, strict=True)]
    assert TopK(k).examples(outputs, labels, None) == pytest.approx(expected)


def test_top_k_breaks_ties_by_the_lower_class_so_that_a_constant_is_not_right() -> None:
    outputs, labels = np.zeros((CLASSES, CLASSES), np.float32), np.arange(CLASSES)
    assert TopK(1).value(outputs, labels, None) == pytest.approx(100 / CLASSES)
    assert TopK(3).value(outputs, labels, None) == pytest.approx(300 / CLASSES)


def test_top_k_of_all_classes_is_refused() -> None:
    outputs, labels = example()
    with pytest.raises(DataError, match="Received 6"):
        TopK(CLASSES).check(outputs, labels)


def test_accuracy_takes_binary_scores_one_hot_labels_and_both_pixel_layouts() -> None:
    accuracy = resolve_metric("accuracy")
    labels = np.array([0, 1, 1, 0])
    assert accuracy.value(np.array([[-1.0], [2.0], [-3.0], [-4.0]]), labels, None) == 75
    assert accuracy.value(np.array([0.1, 0.6, 0.4, 0.2]), labels, None) == 75
    outputs, wanted = example()
    assert accuracy.value(outputs, np.eye(CLASSES)[wanted], None) == accuracy.value(outputs, wanted, None)
    rng = np.random.default_rng(1)
    pixels, truth = rng.normal(size=(3, 4, 8, 9)), rng.integers(0, 4, (3, 8, 9))
    truth[:, 0] = IGNORED
    expected = 100 * (pixels.argmax(1) == truth)[:, 1:].reshape(3, -1).mean(1)
    assert accuracy.examples(pixels, truth, None) == pytest.approx(expected)
    assert accuracy.examples(np.moveaxis(pixels, 1, -1), truth, None) == pytest.approx(expected)


def test_the_binary_threshold_comes_from_the_original() -> None:
    accuracy, labels = resolve_metric("accuracy"), np.array([1, 1])
    logits = np.array([0.2, 0.3])  # would pass for probabilities
    assert accuracy.value(logits, labels, np.array([-5.0, 5.0])) == 100
    assert accuracy.value(logits, labels, None) == 0


def test_outputs_that_are_not_finite_are_wrong() -> None:
    outputs = example()[0]
    right = outputs.argmax(1)
    outputs[:3, right[0]] = np.nan
    outputs[3, right[3]] = np.inf
    each = resolve_metric("accuracy").examples(outputs, right, None)
    assert each is not None and list(each[:4]) == [0, 0, 0, 0] and (each[4:] == 100).all()
    assert resolve_metric("mse").value(outputs, np.zeros_like(outputs), None) == math.inf
    kl = resolve_metric("kl").examples(outputs, None, example()[0])
    assert kl is not None and np.isinf(kl[:4]).all() and (kl[4:] < 1e-9).all()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.full(80, 12), "Received 12"),
        (np.full(80, -1), "Received -1"),
        (np.full(80, 0.5), "float64 such as 0.5"),
        (np.where(np.arange(80) < 3, np.nan, 1.0), "3 that are NaN"),
        (np.arange(80) % CLASSES + 1, "subtract 1"),
        (np.zeros(79, int), "79 for 80"),
        (np.zeros((80, 7), int), r"\(80, 7\)"),
        (np.full(80, IGNORED), "Received one with"),
    ],
)
@pytest.mark.parametrize("name", ["accuracy", "top5", "f1", "auroc"])
def test_labels_that_do_not_fit_are_refused(name: str, labels: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        resolve_metric(name).check(example()[0], labels)


def test_f1_is_the_mean_over_classes() -> None:
    outputs, labels = example()
    answers, each = outputs.argmax(1), []
    for c in range(CLASSES):
        hit = np.sum((answers == c) & (labels == c))
        each.append(2 * hit / (np.sum(answers == c) + np.sum(labels == c)))
    assert resolve_metric("f1").value(outputs, labels, None) == pytest.approx(100 * np.mean(each))


def pairs_won(scores: np.ndarray, truth: np.ndarray) -> float:
    gap = scores[truth][:, None] - scores[~truth][None, :]
    return float(np.mean((gap > 0) + 0.5 * (gap == 0)))


@given(seed=st.integers(0, 1000), ties=st.booleans())
@settings(max_examples=30, deadline=None)
def test_auroc_counts_pairs(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, rng.integers(0, 2, 30)]
    scores = rng.integers(0, 4, 32).astype(float) if ties else rng.normal(size=32)
    metric = resolve_metric("auroc")
    expected = 100 * pairs_won(scores, labels == 1)
    assert metric.value(scores[:, None], labels, None) == pytest.approx(expected)
    assert metric.value(np.stack([-scores, scores], 1), labels, None) == pytest.approx(expected)


def test_auroc_of_several_classes_is_the_mean_over_probabilities() -> None:
    outputs, labels = example()
    p = np.exp(outputs.astype(float))
    p /= p.sum(1, keepdims=True)
    expected = np.mean([100 * pairs_won(p[:, c], labels == c) for c in range(CLASSES)])
    assert resolve_metric("auroc").value(outputs, labels, None) == pytest.approx(expected)
    several = (outputs > 0.8).astype(int)
    assert resolve_metric("auroc").value(outputs, several, None) == 100
    with pytest.raises(DataError, match="one class only"):
        resolve_metric("auroc").check(outputs, np.zeros(80, int))


def test_errors_do_not_broadcast_columns_against_rows() -> None:
    outputs, labels = np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 2.0, 3.0])
    assert resolve_metric("mse").value(outputs, labels, None) == pytest.approx(1 / 3)
    assert resolve_metric("mae").value(outputs, labels, None) == pytest.approx(1 / 3)
    assert resolve_metric("r2").value(outputs, labels, None) == pytest.approx(0.5)
    with pytest.raises(DataError, match="shape"):
        resolve_metric("mse").check(np.zeros((3, 2)), labels)
    with pytest.raises(DataError, match="vary"):
        resolve_metric("r2").check(outputs, np.ones(3))


def test_perplexity_of_a_uniform_model_is_the_vocabulary() -> None:
    outputs, labels = np.zeros((20, 7, 11), np.float32), np.full((20, 7), 3)
    labels[:, 4:] = IGNORED
    outputs[:, 4:] = 99 * np.arange(11)  # does not count
    assert resolve_metric("perplexity").value(outputs, labels, None) == pytest.approx(11)
    assert resolve_metric("perplexity").value(np.full((20, 7, 11), 1 / 11), labels, None) == pytest.approx(11)


def test_kl_from_logits_and_from_probabilities_agree() -> None:
    before, after = example(seed=1)[0], example(seed=2)[0]

    def softmax(z: np.ndarray) -> np.ndarray:
        e = np.exp(z.astype(np.float64))
        return e / e.sum(-1, keepdims=True)

    p, q = softmax(before), softmax(after)
    expected = (p * np.log(p / q)).sum(1)
    kl = resolve_metric("kl")
    assert kl.examples(after, None, before) == pytest.approx(expected, rel=1e-5)
    assert kl.examples(q, None, p) == pytest.approx(expected, rel=1e-5)
    assert kl.value(before, None, before) == 0
    two = before[:, 1] - before[:, 0], after[:, 1] - after[:, 0]
    assert kl.examples(two[1], None, two[0]) == pytest.approx(kl.examples(after[:, :2], None, before[:, :2]), rel=1e-5)


def test_cosine_and_agreement_compare_with_the_original() -> None:
    before = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [3.0, 4.0]])
    after = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 0.0], [-3.0, -4.0]])
    assert resolve_metric("cosine").examples(after, None, before) == pytest.approx([1, 0, 1, -1])
    assert resolve_metric("agreement").examples(after, None, before) == pytest.approx([100, 0, 100, 0])
    binary = resolve_metric("agreement").examples(np.array([0.4, 0.7]), None, np.array([0.6, 0.9]))
    assert binary == pytest.approx([0, 100])
    with pytest.raises(DataError, match="original's shape"):
        resolve_metric("kl").examples(after, None, before[:2])


def test_custom_returns_a_number_or_one_for_each_example() -> None:
    outputs, labels = example()
    each = Custom(lambda o, y: o.argmax(1) == y, name="right")
    assert each.value(outputs, labels, None) * 100 == resolve_metric("accuracy").value(outputs, labels, None)
    whole = Custom(lambda o, y: float((o.argmax(1) == y).mean()))
    assert whole.examples(outputs, labels, None) is None
    weights = np.zeros((1, 80))
    weights[0, 3] = 5
    assert whole.weighted(outputs, labels, None, weights) == pytest.approx(
        each.weighted(outputs, labels, None, weights)
    )
    with pytest.raises(DataError, match="must return a number"):
        Custom(lambda o, y: o).value(outputs, labels, None)
    with pytest.raises(DataError, match="outside"):
        Custom(lambda o, y: o[:, 0] * 100, limits=(0, 1)).value(outputs, labels, None)


def test_resolve_names_functions_and_errors(tmp_path, monkeypatch) -> None:
    (tmp_path / "my_metric_module.py").write_text("def mine(outputs, labels):\n    return 0.25\n")
    monkeypatch.chdir(tmp_path)
    metric = resolve_metric("my_metric_module:mine")
    assert metric.name == "my_metric_module:mine" and metric.value(*example(), None) == 0.25
    assert resolve_metric("topk:3").name == resolve_metric("top3").name == "top3"
    assert resolve_metric(metric) is metric
    for bad in ("accurcy", "no_such_module:f", "my_metric_module:other", "a b:c", 3):
        with pytest.raises(UsageError, match="Received"):
            resolve_metric(bad)


@pytest.mark.parametrize("name", ["accuracy", "top5", "f1", "auroc"])
def test_whole_numbers_are_classes_whatever_their_type(name: str) -> None:
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(80, 7)).astype(np.float32), np.arange(80) % 7
    metric = resolve_metric(name)
    assert metric.value(outputs, labels.astype(np.float32), None) == metric.value(outputs, labels, None)
