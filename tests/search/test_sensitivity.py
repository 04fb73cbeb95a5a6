"""Sensitivities measured without gradients are those that calculus gives."""

import tracemalloc

import numpy as np
import pytest

from attar.run.progress import Silent
from attar.search import sensitivity
from attar.search.divergence import divergence, kind_of
from attar.search.sensitivity import FLOOR, by_gradients, measure_rows, row_deviation, tempered
from attar.types import Layer, Stats, Weight
from fakes import NumpyNet, trained

pytestmark = pytest.mark.usefixtures("fine_sensitivities")


def fisher(net, x: np.ndarray) -> dict[str, np.ndarray]:
    """diag(J^T (diag p - p p^T) J) per row of both layers, exactly."""
    hidden = np.maximum(x @ net.weights["w1"].T + net.weights["b1"], 0)
    logits = hidden @ net.weights["w2"].T + net.weights["b2"]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    last = (p - p**2).mean(0)
    back = net.weights["w2"]
    mean = p @ back
    first = ((p @ back**2 - mean**2) * (hidden > 0)).mean(0)
    return {"w1": first, "w2": last}


def test_rows_match_the_fisher_diagonal() -> None:
    net, data = trained()
    weights = {layer.name: net.read(layer.name) for layer in net.layers()}
    stats = net.moments(data.batches())
    found = measure_rows(net, net.layers(), weights, stats, data, "logits", seed=0, progress=Silent())
    exact = fisher(net, data.inputs["x"])
    for name, rows in exact.items():
        measured = found[name].sensitivity
        assert measured is not None
        assert np.mean(measured) == pytest.approx(np.mean(rows), rel=0.25)
        # What counts is the order of rows in units of their own variance.
        deviation = row_deviation(next(x for x in net.layers() if x.name == name), weights[name], stats[name])
        assert np.corrcoef(np.log(measured * deviation**2), np.log(rows * deviation**2 + 1e-9))[0, 1] > 0.5


def test_same_seed_same_numbers() -> None:
    net, data = trained()
    weights = {layer.name: net.read(layer.name) for layer in net.layers()}
    stats = net.moments(data.batches())
    one, same, other = (
        measure_rows(net, net.layers(), weights, stats, data, "logits", seed=s, progress=Silent()) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one["w1"].sensitivity, same["w1"].sensitivity)
    assert not np.array_equal(one["w1"].sensitivity, other["w1"].sensitivity)


def test_row_deviation_of_both_kinds_of_hessian() -> None:
    net, data = trained()
    layer = net.layers()[0]
    stats = net.moments(data.batches())["w1"]
    y = data.inputs["x"] @ net.weights["w1"].T
    np.testing.assert_allclose(row_deviation(layer, net.read("w1"), stats), y.std(0), rtol=1e-3)
    diagonal = Stats(np.diagonal(stats.hessian, axis1=1, axis2=2), stats.mean, stats.count, stats.samples)
    assert row_deviation(layer, net.read("w1"), diagonal).shape == (layer.rows,)


@pytest.mark.parametrize("groups", [1, 3])
def test_row_deviation_of_many_rows_is_that_of_a_few_at_a_time(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows, cols = 21 * groups, 16
    layer = Layer("w", "dense", rows, cols, (rows, cols), groups)
    weight = Weight(rng.normal(size=(rows, cols)).astype(np.float32), None)
    inputs = rng.normal(size=(groups, 40, cols))
    stats = Stats(np.einsum("gnc,gnd->gcd", inputs, inputs) / 40, np.zeros((groups, cols)), 40, 40)
    whole = row_deviation(layer, weight, stats)
    monkeypatch.setattr(sensitivity, "TOGETHER", 4 * groups * cols)
    np.testing.assert_allclose(row_deviation(layer, weight, stats), whole, rtol=1e-12)


def test_row_deviation_holds_less_than_the_matrix() -> None:
    layer = Layer("w", "dense", 1 << 16, 256, (1 << 16, 256))
    weight = Weight(np.ones((layer.rows, layer.cols), np.float32), None)
    stats = Stats(np.eye(layer.cols)[None], np.zeros((1, layer.cols)), 40, 40)
    tracemalloc.start()
    row_deviation(layer, weight, stats)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * weight.matrix.nbytes  # float64 of it and of its product took four times as much


@pytest.mark.parametrize("scale", [0.01, 0.1])
def test_divergence_is_kl(scale: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (50, 7))
    other = logits + scale * rng.normal(0, 1, (50, 7))
    p, q = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (logits, other))
    expected = (p * np.log(p / q)).sum(1)
    np.testing.assert_allclose(divergence(logits, other, "logits"), expected, atol=1e-12)
    np.testing.assert_allclose(divergence(p, q, "probabilities"), expected, atol=1e-9)
    assert kind_of(p, True) == "probabilities" and kind_of(logits, True) == "logits"
    assert kind_of(logits, False) == "regression" and kind_of(logits[:, :1], True) == "regression"


def test_divergence_of_plain_numbers_has_their_own_unit() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(5, 3, (200, 2))
    moved = divergence(y, y + 0.3, "regression").mean()
    np.testing.assert_allclose(divergence(1000 * y, 1000 * (y + 0.3), "regression").mean(), moved, rtol=1e-6)


def test_a_unit_without_a_gradient_is_not_free() -> None:
    sensitivity, deviation = np.array([4.0, 0.0, 1.0, 0.0]), np.array([1.0, 1.0, 2.0, 0.0])
    found = tempered(sensitivity, deviation)
    even = FLOOR * np.mean(sensitivity * deviation**2)
    np.testing.assert_allclose(found[1], even, rtol=0.05)  # rounded to eighths of an octave
    np.testing.assert_allclose(found[0], 4 * (1 - FLOOR) + even, rtol=0.05)
    np.testing.assert_allclose(found[2], 1 - FLOOR + even / 4, rtol=0.05)
    assert np.isfinite(found).all()
    assert found[3] > found[1], "the output that never moves has the finest step"


def test_measuring_stops_when_rows_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the last example that may be spent, and never before every row was seen a few times."""
    net, data = trained()
    seen: list[int] = []
    run = net.run

    def counted(batch, perturb=None):
        seen.append(len(next(iter(batch.values()))) if perturb else 0)
        return run(batch, perturb)

    monkeypatch.setattr(net, "run", counted)
    layer = next(layer for layer in net.layers() if layer.name == "w2")
    stats = net.moments(data.batches())["w2"]
    deviation, original = row_deviation(layer, net.read("w2"), stats), run(data.inputs)

    def spent(most: int, precision: float) -> int:
        monkeypatch.setattr(sensitivity, "PRECISION", precision)
        seen.clear()
        rng = np.random.default_rng(0)
        sensitivity.rows_of(net, layer, deviation, data, original, "logits", most=most, rng=rng)
        return sum(seen)

    coarse, fine, all_of_it = spent(1 << 19, 0.5), spent(1 << 19, 0.01), spent(4096, 1e-9)
    assert coarse == sensitivity.ROUND < fine < 1 << 18
    assert all_of_it == 4096


def test_what_the_output_does_not_show_counts_though_most_layers_are_empty() -> None:
    class More(NumpyNet):
        """With a second head, behind layers of zeros."""

        def layers(self) -> list[Layer]:
            others = [Layer(name, "dense", 4, 64, (4, 64)) for name in ("head", "z1", "z2", "z3")]
            return [*super().layers(), *others]

        def can_perturb(self, name: str) -> bool:
            return True

    base, data = trained()
    net = More(base.weights)
    rng = np.random.default_rng(0)
    weights = {layer.name: base.read(layer.name) for layer in base.layers()}
    weights |= {name: Weight(np.zeros((4, 64), np.float32), None) for name in ("z1", "z2", "z3")}
    weights["head"] = Weight(rng.normal(size=(4, 64)).astype(np.float32), None)
    stats = dict(base.moments(data.batches()))
    stats |= dict.fromkeys(("head", "z1", "z2", "z3"), stats["w2"])
    found = measure_rows(net, net.layers(), weights, stats, data, "logits", seed=0, progress=Silent())
    costs = {}
    for layer in net.layers():
        deviation = row_deviation(layer, weights[layer.name], stats[layer.name])
        costs[layer.name] = float(np.sum(found[layer.name].sensitivity * deviation**2)) / layer.size
    low, high = sorted((costs["w1"], costs["w2"]))
    assert low * 0.9 < costs["head"] < high * 1.1


def test_a_layer_whose_gradients_cancel_counts_like_the_others() -> None:
    layers = [Layer(name, "conv", 4, 6, (4, 2, 3)) for name in "abc"]
    rng = np.random.default_rng(0)
    weights = {layer.name: Weight(rng.normal(size=(4, 6)).astype(np.float32), None) for layer in layers}
    stats = {layer.name: Stats(np.eye(6)[None], np.zeros((1, 6)), 100, 10) for layer in layers}
    rows = {"a": np.full(4, 1e-15), "b": np.full(4, 2.0), "c": np.full(4, 1e-3)}
    found = by_gradients(layers, weights, stats, rows)
    costs = {x.name: float(np.sum(found[x.name].sensitivity * row_deviation(x, weights[x.name], stats[x.name]) ** 2))
             for x in layers}  # fmt: skip
    assert costs["c"] < costs["a"] < costs["b"]
