"""Training whole candidates on a network in numpy: what it gains, what it leaves alone, that it repeats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import attar
from attar import registry
from attar.errors import DataError, ModelError, UsageError
from attar.evaluate.budget import Budget
from attar.evaluate.metrics import resolve_metric
from attar.recover.base import Form
from attar.recover.latents import forms_of, stored
from attar.recover.retrain import retrain
from attar.recover.settings import RecoverySettings
from attar.recover.teacher import Teacher
from attar.recover.tune import Course
from attar.run.ledger import Ledger
from attar.run.progress import Silent
from attar.search.bracket import Target, Trial, shown, slope_of
from attar.search.divergence import divergence
from attar.search.in_order import front
from attar.search.loop import Loop
from attar.search.recovery import LEAP, Recovery, next_step
from attar.search.subject import Candidate, Subject
from attar.types import Dataset, Encoded, Splits, Weight
from fakes import NumpyNet, trained

SETTINGS = RecoverySettings(epochs=6, batch=50)


@pytest.fixture(autouse=True)
def _numpy_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.REGISTRY["adapter"], "numpy", "fakes:NumpyNet")


def planned(slope: float) -> tuple[NumpyNet, Dataset, Teacher, list[Form], dict[str, Encoded]]:
    net, data = trained()
    weights = {layer.name: net.read(layer.name) for layer in net.layers()}
    stats = net.moments(data.batches())
    uniform = registry.get("method", "uniform")
    encoded = {
        layer.name: next(iter(uniform.points(layer, weights[layer.name], stats[layer.name], [slope]))).encoded
        for layer in net.layers()
    }
    teacher = Teacher(net, weights, {}, data)
    return net, data, teacher, forms_of(list(net.layers()), encoded, weights), encoded


def moved(net: NumpyNet, data: Dataset, weights: dict[str, Weight], said: np.ndarray) -> float:
    """Mean KL of the outputs with these weights from what was said."""
    for name, weight in weights.items():
        net.write(name, weight)
    return float(divergence(said, net.run(data.inputs), "logits").mean())


def course(slope: float, settings: RecoverySettings, price: float = 0.0) -> tuple[Course, NumpyNet, Dataset]:
    net, data, teacher, forms, _ = planned(slope)
    rng = np.random.default_rng(0)
    return Course(teacher, forms, settings, slope=price, classification=True, rng=rng), net, data


def test_training_brings_the_answers_back() -> None:
    net, data, teacher, forms, encoded = planned(0.02)
    said = net.run(data.inputs)
    uniform = registry.get("method", "uniform")
    before = moved(net, data, {n: uniform.decode(e) for n, e in encoded.items()}, said)
    settings = replace(SETTINGS, distill=1.0)
    rng = np.random.default_rng(0)
    Course(teacher, forms, settings, slope=0.0, classification=True, rng=rng).run(Silent())
    ended = net.run(data.inputs)
    after = moved(net, data, {x.layer.name: uniform.decode(stored(x)) for x in forms}, said)
    assert after < 0.7 * before
    np.testing.assert_allclose(net.run(data.inputs), ended, atol=1e-5, err_msg="the adapter ends with what is stored")


def test_the_same_seed_gives_the_same_codes() -> None:
    found = []
    for _ in range(2):
        one, _, _ = course(0.01, SETTINGS, 1e-4)
        one.run(Silent())
        found.append([x.codes() for x in one.latents])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_higher_price_leaves_fewer_codes() -> None:
    counts = []
    for price in (0.0, 1e-3, 1e-2):
        one, _, _ = course(1e-4, SETTINGS, price)
        one.run(Silent())
        counts.append(sum(np.count_nonzero(x.codes()) for x in one.latents))
    assert counts[0] > counts[1] > counts[2]


def test_norms_alone_leave_every_code() -> None:
    one, _, _ = course(0.01, replace(SETTINGS, train="norms"))
    before = [(x.codes(), np.array(x.bias)) for x in one.latents]
    one.run(Silent())
    for x, (codes, bias) in zip(one.latents, before, strict=True):
        np.testing.assert_array_equal(x.codes(), codes)
        assert np.any(x.bias != bias)


def test_layers_that_are_not_tuned_stay_as_the_file_holds_them() -> None:
    net, _, teacher, forms, _ = planned(0.01)
    fixed = {"w1": Weight(np.round(net.read("w1").matrix, 1), net.read("w1").bias)}
    rng = np.random.default_rng(0)
    Course(teacher, forms[1:], SETTINGS, slope=0.0, classification=True, rng=rng, fixed=fixed).run(Silent())
    np.testing.assert_array_equal(net.read("w1").matrix, fixed["w1"].matrix)


def test_the_teacher_answers_as_the_original() -> None:
    net, data, teacher, _, _ = planned(0.01)
    said = net.run(data.inputs)
    net.write("w1", Weight(np.zeros_like(net.weights["w1"]), None))
    seen = np.zeros(len(data), int)
    for chunk, answers in teacher.epoch(np.random.default_rng(0)):
        rows = [int(np.flatnonzero((data.inputs["x"] == x).all(1))[0]) for x in chunk.inputs["x"][:20]]
        np.testing.assert_allclose(answers[:20], said[rows], atol=1e-6)
        seen[: len(chunk)] += 1
    np.testing.assert_allclose(net.run(data.inputs), said, rtol=1e-5, atol=1e-6)
    assert seen.all()


def test_where_the_next_candidate_stands() -> None:
    target = Target(0.5, 10_000, confidence=0.5)

    def trial(step: int, drop: float) -> Trial:
        return Trial(slope_of(step), 0.01, drop, 0.2, 0.1)

    assert next_step([trial(0, 0.1)], target) == LEAP
    assert next_step([trial(0, 0.9)], target) == -LEAP
    assert next_step([trial(0, 0.1), trial(16, 0.9)], target) == 8
    assert next_step([trial(0, 0.49), trial(16, 3)], target) == 2
    assert next_step([trial(0, 0.1), trial(2, 0.9)], target) is None
    assert next_step([trial(0, 0.9), trial(16, 0.1)], target) is None
    bound = Target(0.5, 10_000, confidence=0.95)
    assert shown(trial(0, 0.3), bound, 0) == pytest.approx(0.3 + 1.645 * 0.002, abs=1e-4)


def halves() -> tuple[NumpyNet, Dataset, Dataset]:
    net, data = trained()
    return net, data.take(range(1500)), data.take(range(1500, 3000))


RECOVERY = {"epochs": 8, "batch": 50, "candidates": 3}


def test_recovery_makes_the_file_smaller(tmp_path: Path) -> None:
    net, train, rest = halves()
    rounded = attar.compress(net, rest, max_drop=2, guarantee="estimate")
    result = attar.compress(
        net, rest, train=train, max_drop=2, guarantee="estimate", settings={"recovery": RECOVERY}, out=tmp_path
    )
    assert result.within
    assert result.bytes_after < 0.9 * rounded.bytes_after
    events = [event["event"] for event in result.events]
    assert events.count("training") in (1, 2, 3)
    again = attar.compress(net, rest, train=train, max_drop=2, guarantee="estimate", settings={"recovery": RECOVERY})
    assert again.data == result.data
    report = (tmp_path / "report.html").read_text()
    assert ", trained" in report
    indices = {(e["index"], e["split"]): e["slope"] for e in result.events if e["event"] == "candidate"}
    assert len(indices) == events.count("candidate")
    assert len({(i, slope) for (i, _), slope in indices.items()}) == len({i for i, _ in indices})


def test_excluded_layers_are_not_trained() -> None:
    net, train, rest = halves()
    before = net.read("w2")
    settings = {"recovery": {**RECOVERY, "candidates": 1, "epochs": 1}}
    result = attar.compress(
        net, rest, train=train, max_drop=20, guarantee="estimate", settings=settings, exclude=["w2"]
    )
    np.testing.assert_array_equal(result.model.read("w2").matrix, before.matrix)
    np.testing.assert_array_equal(result.model.read("w2").bias, before.bias)
    assert np.any(result.model.read("w1").matrix != net.read("w1").matrix)


def test_without_labels_the_original_teaches() -> None:
    net, train, rest = halves()
    unlabelled = Dataset(train.inputs)
    result = attar.compress(
        net, rest, train=unlabelled, max_drop=2, guarantee="estimate", settings={"recovery": RECOVERY}
    )
    assert result.within


def test_examples_that_are_measured_on_are_not_trained_on() -> None:
    net, data = trained()
    result = attar.compress(
        net, data, train=data, max_drop=5, guarantee="estimate", settings={"recovery": {**RECOVERY, "epochs": 1}}
    )
    trainings = [event for event in result.events if event["event"] == "training"]
    calibrate = result.events[0]["splits"]["calibrate"]
    assert {event["examples"] for event in trainings} == {calibrate}
    assert any("were left out: they occur in certify" in text for text in result.events[0]["warnings"])
    with pytest.raises(DataError, match="must hold examples that are not measured on"):
        parts = {"calibrate": range(1000), "select": range(1000, 2000), "certify": range(2000, 3000)}
        sets = {name: data.take(rows) for name, rows in parts.items()}
        attar.compress(net, **sets, train=data.take(range(1000, 3000)), max_drop=5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speed": 3}, r"settings.recovery: a parameter must be one of epochs.*Received 'speed'"),
        ({"epochs": 0}, r"settings.recovery.epochs: it must be from 1 to.*Received 0"),
        ({"epochs": "many"}, r"settings.recovery.epochs: it must be a int.*Received 'many'"),
        ({"rate": True}, r"settings.recovery.rate: it must be a float"),
        ({"augment": "flip"}, r"settings.recovery.augment: it must be a list of 'flip', 'shift'.*Received 'flip'"),
        ({"augment": ["turn"]}, r"settings.recovery.augment: it must be a list.*Received \['turn'\]"),
        ({"penalty": "l7"}, r"must be one of 'none', 'entropy'.*Received 'l7'"),
        ({"train": "most"}, r"must be one of 'all', 'norms'.*Received 'most'"),
        ({"augment": ["noise"]}, r"augment.flip: a change with parameters must be done.*does not name"),
        ({"augment": ["flip", "noise"]}, r"settings.augment.flip.share: it must be from 0 to 1. Received 9"),
    ],
)
def test_wrong_settings_are_said_before_any_work(settings: dict[str, object], message: str) -> None:
    net, train, rest = halves()
    given = settings.get("augment")
    tables = {"augment": {"flip": {"share": 9 if len(given) == 2 else 1}}} if isinstance(given, list) else {}
    with pytest.raises(UsageError, match=message):
        attar.compress(net, rest, train=train, max_drop=2, settings={"recovery": settings, **tables})


def test_a_model_without_gradients_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net, train, rest = halves()
    plain = type("PlainNet", (), {k: v for k, v in vars(NumpyNet).items() if k not in ("pullback", "__dict__")})
    monkeypatch.setattr("fakes.NumpyNet", plain)
    with pytest.raises(ModelError, match="recovery needs gradients"):
        attar.compress(plain(net.weights), rest, train=train, max_drop=2)  # type: ignore[call-arg]


def test_floats_can_be_trained_towards_a_larger_teacher() -> None:
    net, data = trained()
    kept = np.sort(np.random.default_rng(0).permutation(64)[:24])
    small = NumpyNet({
        "w1": net.weights["w1"][kept], "b1": net.weights["b1"][kept],
        "w2": net.weights["w2"][:, kept], "b2": net.weights["b2"],
    })  # fmt: skip
    said = net.run(data.inputs)
    before = divergence(said, small.run(data.inputs), "logits").mean()
    weights = {layer.name: net.read(layer.name) for layer in net.layers()}
    rng = np.random.default_rng(0)
    retrain(small, Teacher(net, weights, {}, data), replace(SETTINGS, rate=0.1), classification=True, rng=rng,
            progress=Silent())  # fmt: skip
    after = divergence(said, small.run(data.inputs), "logits").mean()
    assert after < 0.3 * before
    np.testing.assert_allclose(net.run(data.inputs), said, rtol=1e-5, atol=1e-5)


def test_a_candidate_begins_where_the_nearest_milder_one_ended() -> None:
    net, data, teacher, _, _ = planned(0.01)
    layers = list(net.layers())
    weights = {layer.name: net.read(layer.name) for layer in layers}
    subject = Subject(net, layers, weights, net.moments(data.batches()), {}, b"", {}, ("lowrank", "uniform", "keep"))
    loop = Loop(
        subject, Splits(data, data, data), resolve_metric("accuracy"), Budget(1.0), "logits", Ledger(), Silent(), net
    )
    recovery = Recovery(loop, teacher, SETTINGS, 0)
    ended = {slope: {"w1": Weight(np.full((64, 24), slope, np.float32), None)} for slope in (1.0, 4.0)}
    recovery.ends = {slope: (each, {}) for slope, each in ended.items()}
    assert recovery._beginning(0.5).weights["w1"] is weights["w1"]
    assert recovery._beginning(2.0).weights["w1"] is ended[1.0]["w1"]
    assert recovery._beginning(8.0).weights["w1"] is ended[4.0]["w1"]
    assert recovery._beginning(8.0).weights["w2"] is weights["w2"]


def test_the_certify_split_sees_the_safest_first_and_only_what_is_smaller() -> None:
    sizes = {1.0: 100, 2.0: 80, 3.0: 90, 4.0: 50}
    loop = Loop(None, None, None, None, "logits", Ledger(), Silent(), None)  # type: ignore[arg-type]
    loop.built = {slope: Candidate(slope, None, bytes(size), {}) for slope, size in sizes.items()}  # type: ignore[arg-type]
    assert front(loop, 1.0, {2.0: 0.2, 4.0: 0.4}) == [1.0, 2.0, 4.0]
    assert front(loop, 1.0, {2.0: -0.2, 3.0: 0.0, 4.0: 0.4}) == [1.0, 2.0, 4.0]
    assert front(loop, 1.0, {2.0: 0.2, 4.0: -0.4}) == [1.0, 4.0]
    assert front(loop, 3.0, {1.0: -0.3, 2.0: 0.2}) == [3.0, 2.0]
