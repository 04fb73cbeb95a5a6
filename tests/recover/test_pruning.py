"""Zeros by order in training: schedules, masks that move and then stay, and the file that really has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attar
from attar import registry
from attar.archive import read_archive
from attar.data.read import read
from attar.errors import UsageError
from attar.evaluate.metrics import resolve_metric
from attar.opening import decode
from attar.recover.base import Form, Latent
from attar.recover.penalties import PENALTIES, penalty
from attar.recover.pruning import Common, Pruning, allows, holds, interval, penalties_of, share_at
from attar.recover.settings import RecoverySettings
from attar.run.progress import Silent
from attar.types import Dataset, Encoded, Layer
from fakes import NumpyNet, trained

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _numpy_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.REGISTRY["adapter"], "numpy", "fakes:NumpyNet")


def latent(rows: int = 12, cols: int = 16, groups: int = 1) -> Latent:
    values = np.random.default_rng(0).normal(0, 1.5, (rows, cols)).astype(np.float32)
    layer = Layer("layer", "dense", rows, cols, (rows, cols), groups)
    return Latent(layer, Encoded("uniform", {}), np.ones((1, 1), np.float32), np.ones(1, np.float32), values, None)


def most_in_runs(matrix: np.ndarray, run: int) -> int:
    return int(np.count_nonzero(matrix.reshape(len(matrix), -1, run), axis=2).max())


def test_the_cubic_schedule() -> None:
    smooth = RecoverySettings(sparsity=0.8)
    shares = [share_at(t, smooth) for t in (0, 0.375, 0.75, 1)]
    np.testing.assert_allclose(shares, [0, 0.8 * (1 - 0.5**3), 0.8, 0.8])
    stairs = RecoverySettings(sparsity=0.8, cycles=3)
    found = [share_at(t, stairs) for t in (0, 0.24, 0.26, 0.49, 0.51, 0.75, 1)]
    levels = [0.8 * (1 - (2 / 3) ** 3), 0.8 * (1 - (1 / 3) ** 3), 0.8]
    np.testing.assert_allclose(found, [levels[0]] * 2 + [levels[1]] * 2 + [levels[2]] * 3)


def mask(one: Latent, settings: RecoverySettings) -> np.ndarray:
    """A layer's last mask, with no other layer beside it."""
    return Common([one], settings, 1).masks(one, 1)[0]


def test_the_smallest_go_and_the_pattern_comes_first() -> None:
    one = latent()
    size = np.abs(one.values)
    free = mask(one, RecoverySettings(sparsity=0.75))
    assert free.sum() == np.ceil(0.75 * size.size)
    assert size[free].max() <= size[~free].min()
    for pattern, keep, run in (("2:4", 2, 4), ("4:8", 4, 8)):
        runs = mask(one, RecoverySettings(pattern=pattern)).reshape(-1, run)
        assert np.all(runs.sum(1) == run - keep)
        by_run = size.reshape(-1, run)
        assert np.all(np.where(runs, by_run, 0).max(1) <= np.where(runs, np.inf, by_run).min(1))
        both = mask(one, RecoverySettings(pattern=pattern, sparsity=0.75))
        assert both.sum() == np.ceil(0.75 * size.size)
        assert np.all(both[runs.reshape(both.shape)])


def test_the_share_is_one_of_all_layers_together() -> None:
    fine, coarse = latent(), latent(20, 8)
    fine.values *= 10
    together = Common([fine, coarse], RecoverySettings(sparsity=0.6), 4)
    for look, share in ((0, 0.0), (1, 0.6 * (1 - (2 / 3) ** 3)), (3, 0.6), (4, 0.6)):
        zeros = [together.masks(one, look)[0] for one in (fine, coarse)]
        total = sum(one.sum() for one in zeros)
        assert total == np.ceil(share * (fine.values.size + coarse.values.size))
        assert zeros[0].mean() <= zeros[1].mean()


def test_layers_that_do_not_allow_a_pattern() -> None:
    def layer(rows: int, cols: int, groups: int = 1) -> Layer:
        return Layer("layer", "conv", rows, cols, (rows, cols), groups)

    assert allows(layer(8, 12), "2:4") and allows(layer(16, 12, 2), "2:4")
    assert not allows(layer(8, 12), "4:8") and not allows(layer(8, 25), "2:4")
    assert not allows(layer(8, 16, 8), "2:4") and not allows(layer(16, 16, 8), "2:4"), "depthwise"
    assert not allows(layer(8, 12), "")
    depthwise = latent(12, 16, 12)
    assert not mask(depthwise, RecoverySettings(pattern="2:4")).any()


def test_weights_come_back_until_the_mask_freezes() -> None:
    one, settings = latent(), RecoverySettings(penalty="none", pattern="2:4")
    pull = Pruning(penalty("none"), Common([one], settings, 8))
    pull.refresh(one)
    first = np.array(one.zeros)
    assert np.all(one.weight().matrix[first] == 0)
    assert np.any(one.values[first] != 0), "what lies behind a zero is still there"
    for look in range(1, 8):
        one.values[np.array(one.zeros)] += np.float32(9 * (-1) ** look)  # masked weights want to come back
        before = np.array(one.zeros)
        pull.refresh(one)
        moved = np.any(one.zeros != before)
        assert moved == (look <= 6), look
    pull.finish(one)
    assert np.all(one.values[one.zeros] == 0)
    assert most_in_runs(one.weight().matrix, 4) == 2


def test_what_is_zero_for_its_size_stays_and_comes_back_where_others_fall() -> None:
    one, settings = latent(), RecoverySettings(penalty="entropy", sparsity=0.5, cycles=1)
    pull = Pruning(penalty("entropy"), Common([one], settings, 8))
    pull.refresh(one)
    first = np.array(one.zeros)
    loss = np.random.default_rng(1).normal(size=first.shape).astype(np.float32)
    moved = loss + pull.gradient(one, loss, 0.5)
    assert not moved[first].any()
    assert moved[~first].all()
    one.values[~first] /= 1e6
    pull.refresh(one)
    assert not np.any(one.zeros & first)


def test_both_kinds_of_zeros_are_told_apart() -> None:
    one = latent()
    common = Common([one], RecoverySettings(pattern="2:4", sparsity=0.8), 1)
    zeros, held = common.masks(one, 1)
    alone, none = Common([one], RecoverySettings(pattern="2:4"), 1).masks(one, 1)
    assert not none.any()
    np.testing.assert_array_equal(held, zeros & ~alone)


def test_a_training_too_short_for_its_last_mask_gets_it_in_the_end() -> None:
    one = latent()
    pull = Pruning(penalty("none"), Common([one], RecoverySettings(sparsity=0.9), 1))
    pull.refresh(one)
    assert not np.any(one.zeros)
    pull.finish(one)
    assert np.count_nonzero(one.codes()) <= round(0.1 * one.values.size)
    assert interval(RecoverySettings(sparsity=0.9), 30, 100) == 1
    assert interval(RecoverySettings(sparsity=0.9), 400, 100) == 10
    assert interval(RecoverySettings(pattern="2:4"), 10**6, 100) == 100
    assert interval(RecoverySettings(), 30, 100) == 100


@pytest.mark.parametrize("name", PENALTIES)
def test_every_penalty_can_be_masked(name: str) -> None:
    settings = RecoverySettings(penalty=name, pattern="2:4")
    one, bare = latent(), penalty(name)
    plain = penalties_of([Form(one.layer, one.encoded, {"": one})], settings, 4)["layer"]
    plain.refresh(one)
    bare.refresh(one)
    zeros = np.array(one.zeros)
    rng, other = np.random.default_rng(1), np.random.default_rng(1)
    noise, drawn = plain.noise(one, rng), bare.noise(one, other)
    assert (noise is None) == (drawn is None)
    if noise is not None and drawn is not None:
        assert not noise[zeros].any()
        np.testing.assert_array_equal(noise[~zeros], drawn[~zeros])
    pulled, alone = (np.broadcast_to(p.gradient(one, one.values, 0.5), zeros.shape) for p in (plain, bare))
    expected = alone + 0.5 * np.where(zeros, one.values, 0)
    np.testing.assert_allclose(pulled, expected, rtol=1e-5, err_msg="masked weights are drawn to zero")


def test_no_zeros_no_mask() -> None:
    one = latent()
    assert not isinstance(
        penalties_of([Form(one.layer, one.encoded, {"": one})], RecoverySettings(), 4)["layer"], Pruning
    )
    assert {name for name in registry.names("method") if holds(name)} == {"uniform", "keep", "pruned", "fixed"}


def test_factors_of_a_layer_are_not_masked() -> None:
    one, settings = latent(), RecoverySettings(sparsity=0.5)
    parts = {"left": one, "bias": replace(latent(), layer=replace(one.layer, name="bias"), priced=False)}
    found = penalties_of([Form(one.layer, Encoded("lowrank", {}), parts)], settings, 4)
    assert not any(isinstance(each, Pruning) for each in found.values())
    assert [found[name].name for name in ("layer", "bias")] == ["entropy", "none"]


def compressed(net: NumpyNet, data: Dataset, recovery: dict[str, Any], **options: Any) -> attar.Result:
    train, rest = data.take(range(1500)), data.take(range(1500, 3000))
    settings = {"recovery": {"epochs": 4, "batch": 50, "candidates": 2, **recovery}}
    options = {"max_drop": 5, "guarantee": "estimate", **options}
    return attar.compress(net, rest, train=train, settings=settings, **options)


def matrices(data: bytes) -> dict[str, np.ndarray]:
    """What the file's bytes say, and nothing else."""
    archive = read_archive(data)
    return {layer.name: decode(archive, layer.name).matrix for layer in archive.layers}


def share_of_zeros(found: dict[str, np.ndarray]) -> float:
    return float(np.mean(np.concatenate([matrix.ravel() for matrix in found.values()]) == 0))


@pytest.mark.parametrize(
    ("pattern", "recovery", "methods"),
    [
        ("2:4", {}, ["uniform", "keep"]),
        ("4:8", {"penalty": "none"}, ["uniform", "lowrank"]),
        ("2:4", {"penalty": "variational", "steps": "learned"}, ["uniform", "keep"]),
        ("2:4", {"penalty": "group", "epochs": 1, "batch": 1500}, ["keep"]),
        ("2:4", {"train": "norms", "epochs": 1}, ["uniform"]),
        ("2:4", {"steps": "learned"}, ["fixed"]),
    ],
)
def test_the_file_has_the_pattern(pattern: str, recovery: dict[str, Any], methods: Sequence[str]) -> None:
    net, data = trained()
    result = compressed(net, data, {"pattern": pattern, "candidates": 1, **recovery}, methods=methods)
    keep, run = (int(part) for part in pattern.split(":"))
    for name, matrix in matrices(result.data).items():
        assert matrix.any()
        assert most_in_runs(matrix, run) <= keep, name


@pytest.mark.parametrize("recovery", [{"cycles": 3}, {"pattern": "2:4", "steps": "learned"}])
def test_the_file_has_the_share(recovery: dict[str, Any]) -> None:
    net, data = trained()
    result = compressed(net, data, {"sparsity": 0.8, "candidates": 1, **recovery})
    found = matrices(result.data)
    assert share_of_zeros(found) >= 0.8
    assert "pattern" not in recovery or all(most_in_runs(matrix, 4) <= 2 for matrix in found.values())
    zeros = [event["zeros"] for event in result.events if event["event"] == "training"]
    assert zeros == [pytest.approx(share_of_zeros(found))]


def test_zeros_cost_less_when_weights_may_move() -> None:
    net, data = trained()
    result = compressed(net, data, {"pattern": "2:4", "epochs": 8})
    assert result.within
    metric = resolve_metric("accuracy")
    assert metric.unit == "points"
    blunt = NumpyNet(net.weights)
    for layer in net.layers():
        weight = net.read(layer.name)
        runs = weight.matrix.reshape(layer.rows, -1, 4)
        smaller = np.argsort(np.argsort(-np.abs(runs), axis=2), axis=2) >= 2
        blunt.write(
            layer.name, attar.types.Weight(np.where(smaller, 0, runs).reshape(weight.matrix.shape), weight.bias)
        )
    rest = data.take(range(1500, 3000))
    right = [np.mean(one.run(rest.inputs).argmax(1) == rest.labels) for one in (net, result.model, blunt)]
    assert right[0] - right[1] < 0.5 * (right[0] - right[2])


def test_a_rounded_candidate_is_not_handed_back_for_want_of_a_better_one() -> None:
    net, data = trained()
    result = compressed(net, data, {"sparsity": 0.99, "epochs": 1, "candidates": 1}, max_drop=0.1)
    assert not result.within
    assert share_of_zeros(matrices(result.data)) >= 0.99


def test_an_excluded_layer_keeps_every_bit() -> None:
    net, data = trained()
    result = compressed(net, data, {"pattern": "2:4"}, exclude=["w2"])
    found = matrices(result.data)
    np.testing.assert_array_equal(found["w2"], net.read("w2").matrix)
    assert most_in_runs(found["w1"], 4) == 2


class Heard(Silent):
    """Keeps what a person would read."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_rules_of_layers_hold_as_far_as_they_can() -> None:
    net, data = trained()
    heard = Heard()
    brief = {"pattern": "2:4", "candidates": 1, "epochs": 1}
    rules: dict[str, Any] = {"w1": {"methods": ["lowrank", "uniform"]}, "w2": {"methods": ["lowrank"]}}
    options: dict[str, Any] = {"layers": rules, "max_drop": 20, "progress": heard}
    result = compressed(net, data, brief, **options)
    found = matrices(result.data)
    assert most_in_runs(found["w1"], 4) == 2, "of a rule's methods only those compete that can have zeros"
    assert most_in_runs(found["w2"], 4) > 2
    assert heard.notes == ["w2: lowrank cannot have the zeros asked for; it stays without them."]


def test_an_interrupted_run_says_what_it_lacks() -> None:
    net, data = trained()
    heard = Heard()
    options: dict[str, Any] = {"progress": heard, "interrupted": lambda: True}
    result = compressed(net, data, {"pattern": "2:4"}, **options)
    assert result.data
    assert any("lacks the zeros asked for" in note for note in heard.notes)


@pytest.mark.slow
def test_convolutions_have_the_pattern_where_their_columns_allow_it() -> None:
    fresh, test = (read(EXAMPLES / "fashion-mnist")[part] for part in ("train", "test"))  # type: ignore[index]
    heard = Heard()
    result = attar.compress(
        EXAMPLES / "models" / "lenet5.onnx", calibrate=fresh.take(range(500)), select=fresh.take(range(1000, 2000)),
        certify=test.take(range(1000)), train=fresh.take(range(1000)), max_drop=5, guarantee="estimate",
        settings={"recovery": {"pattern": "2:4", "epochs": 2, "candidates": 1}}, progress=heard,
    )  # fmt: skip
    archive = read_archive(result.data)
    columns = {layer.name: layer.cols for layer in archive.layers}
    free = {name for name, cols in columns.items() if cols % 4}
    assert free, "LeNet-5 begins with 25 columns"
    for name, matrix in matrices(result.data).items():
        if name not in free:
            assert most_in_runs(matrix, 4) <= 2, name
    assert {note.split(":")[0] for note in heard.notes if "do not allow" in note} == free


def test_what_cannot_have_zeros_is_said_before_any_work() -> None:
    net, data = trained()
    with pytest.raises(UsageError, match=r"made in training. Received pattern '2:4' and no training set"):
        attar.compress(net, data, max_drop=2, settings={"recovery": {"pattern": "2:4"}})
    with pytest.raises(UsageError, match=r"Received sparsity 0.5 and the methods lowrank. Add 'uniform'"):
        compressed(net, data, {"sparsity": 0.5}, methods=["lowrank"])
    with pytest.raises(UsageError, match=r"settings.recovery.pattern: it must be one of '', '2:4', '4:8'"):
        compressed(net, data, {"pattern": "1:3"})
