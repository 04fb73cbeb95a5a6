"""Evaluations that stop when they have said enough."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attar
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.search import course
from attar.search.bracket import Target, Trial, land
from attar.search.pieces import Aim, Hope, ends, look, order_of
from attar.types import Array, Dataset, Scaled
from fakes import trained

ROOT = Path(__file__).parents[2]
N, CLASSES = 6000, 10
METRIC = resolve_metric("accuracy")
AIM = Aim(limit=1.0, examples=N, confidence=0.95)


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, CLASSES, N))  # sorted by class, as data often are
    return Dataset({"x": np.arange(N)[:, None].astype(np.float32)}, labels)


class Answers:
    """A model that answers rightly but for some examples; it counts what it is asked."""

    def __init__(self, data: Dataset, wrong: float) -> None:
        self.right = np.eye(CLASSES, dtype=np.float32)[data.labels]
        rows = np.random.default_rng(1).permutation(N)[: int(wrong * N)]
        self.right[rows] = np.roll(self.right[rows], 1, axis=1)
        self.asked = 0

    def __call__(self, batch: Mapping[str, Array]) -> Array:
        rows = batch["x"][:, 0].astype(int)
        self.asked += len(rows)
        return self.right[rows]


@pytest.mark.parametrize(("wrong", "most"), [(0.3, 512), (0.05, 2500), (0.0, 2500), (0.009, N)])
def test_the_farther_from_the_limit_the_fewer_examples(data: Dataset, wrong: float, most: int) -> None:
    before, run = score(Answers(data, 0.0), data, METRIC), Answers(data, wrong)
    found = look(run, data, METRIC, before, order_of(N, 0), AIM)
    assert run.asked == found.new == found.after.n <= most
    assert (found.bounds is None) == (found.new == N)
    if found.bounds is not None:
        low, high = found.bounds
        assert low <= 100 * wrong <= high and (low > 0.5) == (wrong > 0.01)
    else:
        assert found.new == N


def test_pictures_held_as_bytes_are_not_copied_in_their_order(data: Dataset) -> None:
    held = Scaled(np.arange(N).view(np.uint8).reshape(N, -1), lambda given: given.view(np.int64).astype(np.float32))
    before, run, places = score(Answers(data, 0.0), data, METRIC), Answers(data, 0.3), []

    def seen(batch: Mapping[str, Array]) -> Array:
        picture = batch["x"]
        assert isinstance(picture, Scaled)
        places.append(picture.given)
        return run({"x": np.asarray(picture)})

    found = look(seen, Dataset({"x": held}, data.labels), METRIC, before, order_of(N, 0), AIM)
    assert places and all(place is held.given for place in places)
    expected = look(Answers(data, 0.3), data, METRIC, before, order_of(N, 0), AIM)
    assert np.array_equal(found.after.outputs, expected.after.outputs)


def test_the_rest_is_run_alone(data: Dataset) -> None:
    before, run = score(Answers(data, 0.0), data, METRIC), Answers(data, 0.05)
    first = look(run, data, METRIC, before, order_of(N, 0), AIM)
    assert first.new < N
    whole = look(run, data, METRIC, before, order_of(N, 0), AIM, known=first.after.outputs, whole=True)
    assert run.asked == N and whole.new == N - first.new and whole.bounds is None
    assert whole.after.value == pytest.approx(score(Answers(data, 0.05), data, METRIC).value)


@pytest.mark.parametrize(("wrong", "most"), [(0.3, 256), (0.02, 2500), (0.011, N), (0.005, N), (0.0, N)])
def test_only_what_is_as_good_as_lost_is_given_up(data: Dataset, wrong: float, most: int) -> None:
    before, run = score(Answers(data, 0.0), data, METRIC), Answers(data, wrong)
    found = look(run, data, METRIC, before, order_of(N, 0), Hope(limit=1.0, examples=N, confidence=0.95))
    assert found.new <= most and (found.bounds is None) == (found.new == N)
    assert wrong > 0.01 or found.bounds is None, "what is within the limit is looked at to its end"


def test_hardly_anything_that_would_have_passed_is_given_up() -> None:
    """Losses whose whole mean is exactly at the aim, in many orders: given up in at most a few times CHANCE of them."""
    rng, n = np.random.default_rng(0), 4000
    losses = np.zeros(n)
    losses[:120], losses[120:180] = 100.0, -100.0
    margin = 1.6449 * losses.std() / np.sqrt(n)
    hope = Hope(float(losses.mean() + margin) + 1e-9, n, 0.95)
    given_up = 0
    for _ in range(300):
        mixed = rng.permutation(losses)
        given_up += any(hope.decided(mixed[:end], -100.0, 100.0) is not None for end in ends(n) if end < n)
    assert given_up <= 0.02 * 300


@pytest.mark.usefixtures("numpy_adapter")
def test_a_run_gives_up_on_certify_and_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that ends far beyond the limit: the last is given up, the others are seen to their end."""
    model, data = trained()
    planned = course.sequence

    def bold(*given: Any) -> list[float]:
        first = planned(*given)[0]
        return [first, 64 * first, 512 * first]

    monkeypatch.setattr(course, "sequence", bold)
    found = attar.compress(model, data, max_drop=3)
    tested = [event for event in found.events if event["event"] == "candidate" and event["split"] == "certify"]
    assert [event["stopped"] for event in tested] == [False, True], "and nothing is tested behind it"
    assert [event["examples"] for event in tested] == [1500, 256] and tested[1]["n"] == 256
    assert (
        found.certified and found.certificate.n == 1500 and [len(one.data) for one in found.seen] == [len(found.data)]
    )
    (offer,) = found.events[-1]["picks"]
    assert offer["confidence"] == 1 - 0.05 / 2 and offer["upper"] <= 3
    whole = attar.compress(model, data, max_drop=3, early_stop=False)
    assert whole.data == found.data and whole.certificate == found.certificate, "what is handed back is the same"
    assert len(whole.seen) == 2


def test_looks_are_at_whole_batches_and_end_with_all() -> None:
    assert list(ends(100)) == [100]
    assert list(ends(2000)) == [256, 512, 768, 1280, 2000]


def test_the_order_is_that_of_the_seed() -> None:
    assert sorted(order_of(50, 1)) == list(range(50))
    assert (order_of(50, 1) == order_of(50, 1)).all() and (order_of(50, 1) != order_of(50, 2)).any()


def test_the_search_finishes_what_it_would_end_at() -> None:
    finished = []

    def trial(slope: float, whole: bool) -> Trial:
        return Trial(slope, 1e4 * slope, 5e5 * slope, 10.0, 0.01 if whole else 0.5, 1.0 if whole else 0.1)

    def finish(slope: float) -> Trial:
        finished.append(slope)
        return trial(slope, True)

    target = Target(limit=0.5, examples=10_000, confidence=0.5)
    trials = land(lambda slope: trial(slope, False), 1e-7, target, 8, finish=finish)
    assert finished == [trials[-1].slope] and trials[-1].whole and not trials[0].whole


def test_a_run_says_how_many_examples_it_took() -> None:
    """A drop that nothing comes near: every evaluation of the search stops at once."""
    model, data = ROOT / "examples/models/lenet300.onnx", ROOT / "examples/fashion-mnist"
    tuned = attar.compress(model, data, max_drop=40, evaluations=2, calibration_examples=300)
    looks = [event for event in tuned.events if event["event"] == "candidate"]
    select = [event for event in looks if event["split"] == "select"]
    assert select and all(event["stopped"] and event["examples"] < 1000 for event in select)
    assert all(event["examples"] == event["n"] == 10_000 for event in looks if event["split"] == "certify")
    end = tuned.events[-1]
    assert end["examples"]["select"] == sum(event["examples"] for event in select)
    assert end["full_passes"] == pytest.approx(end["examples"]["select"] / 4000 + end["examples"]["certify"] / 10_000)
