"""Running a model over data, and what is refused on the way."""

import numpy as np
import pytest

from attar.errors import DataError
from attar.evaluate.flips import flips
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.types import Dataset

N = 50
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4)).astype(np.float32)
Y = X.argmax(1)
ACCURACY = resolve_metric("accuracy")


def identity(batch):
    return batch["x"]


def test_outputs_arrive_in_order_whatever_the_batch() -> None:
    steps: list[int] = []
    found = score(identity, Dataset({"x": X}, Y), ACCURACY, batch_size=7, progress=steps.append)
    assert np.array_equal(found.outputs, X) and found.value == 100 and found.n == N
    assert sum(steps) == N and max(steps) == 7
    assert found.per_example is not None and found.labels is Y


def test_the_original_of_a_relative_metric_is_its_own_reference() -> None:
    for name, value in (("agreement", 100), ("kl", 0), ("cosine", 1)):
        assert score(identity, Dataset({"x": X}), resolve_metric(name)).value == pytest.approx(value)
    changed = score(lambda b: -b["x"], Dataset({"x": X}), resolve_metric("cosine"), X)
    assert changed.value == pytest.approx(-1)


def test_missing_labels_and_wrong_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="needs labels"):
        score(identity, Dataset({"x": X}), ACCURACY)
    with pytest.raises(DataError, match="49 labels for 50"):
        score(identity, Dataset({"x": X}, Y[:-1]), ACCURACY)
    with pytest.raises(DataError, match="examples are needed"):
        score(identity, Dataset({"x": X[:0]}, Y[:0]), ACCURACY)
    with pytest.raises(DataError, match="one row for each"):
        score(lambda b: b["x"][:1], Dataset({"x": X}, Y), ACCURACY)
    with pytest.raises(DataError, match="one shape for all"):
        score(lambda b: b["x"][:, : len(b["x"])], Dataset({"x": X}, Y), ACCURACY, batch_size=48)


def test_an_original_that_is_not_finite_is_an_error_and_a_candidate_is_wrong(caplog) -> None:
    broken = X.copy()
    broken[5] = np.nan
    data = Dataset({"x": np.arange(N)}, Y)
    with pytest.raises(DataError, match="1 of 50"):
        score(lambda b: broken[b["x"]], data, ACCURACY)
    huge = np.full((N, 1), 1e200)  # finite, but its square is not
    with pytest.raises(DataError, match="value must be finite"):
        score(lambda b: huge[b["x"]], Dataset({"x": np.arange(N)}, np.zeros(N)), resolve_metric("mse"))
    found = score(lambda b: broken[b["x"]], data, ACCURACY, X)
    assert found.value == 98 and "1 of 50 outputs are not finite" in caplog.text


def test_outputs_too_large_for_memory_are_refused(monkeypatch) -> None:
    monkeypatch.setattr("attar.evaluate.score.MAX_OUTPUT_BYTES", 100)
    with pytest.raises(DataError, match="GiB"):
        score(identity, Dataset({"x": X}, Y), ACCURACY)


def test_perplexity_takes_the_next_token_of_the_inputs() -> None:
    ids = np.array([[1, 2, 3, 0], [3, 1, 2, 2]])
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    following = {1: 2, 2: 3, 3: 1}

    def knows(batch):
        wanted = np.vectorize(lambda i: following.get(i, 0))(batch["input_ids"])
        return np.where(np.arange(4) == wanted[..., None], 0.0, -1e9)

    metric = resolve_metric("perplexity")
    first = Dataset({"input_ids": ids, "attention_mask": mask}).take([0])
    assert score(knows, first, metric).value == pytest.approx(1)
    left = Dataset({"input_ids": np.array([[0, 1, 2, 3]]), "attention_mask": np.array([[0, 1, 1, 1]])})
    assert score(knows, left, metric).value == pytest.approx(1)
    copied = Dataset({"input_ids": ids[:1]}, np.where(mask[:1] > 0, ids[:1], -100))
    assert score(knows, copied, metric).value == pytest.approx(1)
    moved = Dataset({"input_ids": ids[:1]}, np.array([[2, 3, -100, -100]]))
    assert score(knows, moved, metric).value == pytest.approx(1)
    with pytest.raises(DataError, match="token ids"):
        score(lambda b: np.zeros((len(b["x"]), 2, 3)), Dataset({"x": X}), metric)


def test_flips_name_the_examples() -> None:
    data = Dataset({"x": np.arange(N)}, np.where(np.arange(N) == 9, (Y + 1) % 4, Y))
    changed = X.copy()
    changed[[3, 7]] = -X[[3, 7]]
    changed[9] = np.eye(4)[(Y[9] + 1) % 4]
    before = score(lambda b: X[b["x"]], data, ACCURACY)
    after = score(lambda b: changed[b["x"]], data, ACCURACY, before.outputs)
    lost, gained = flips(before, after, data.labels)
    assert lost.tolist() == [3, 7] and gained.tolist() == [9]
    assert flips(before, after, None)[0].tolist() == [3, 7, 9]
    other = score(lambda b: X[b["x"]], data.take(range(10)), ACCURACY)
    with pytest.raises(DataError, match="same examples"):
        flips(before, other, None)
