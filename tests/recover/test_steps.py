"""Learned steps: their gradient, what moves with them and what stays, and what the file holds of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import attar
from attar import registry
from attar.archive import read_archive
from attar.opening import decode
from attar.recover.base import Form, Latent
from attar.recover.latents import decoded, forms_of, stored, weight_of
from attar.recover.settings import RecoverySettings
from attar.recover.steps import FARTHEST, UNIT, Step, learned
from attar.recover.teacher import Teacher
from attar.recover.tune import Course
from attar.run.progress import Silent
from attar.types import Dataset
from fakes import NumpyNet, trained
from kits.method_laws import problem


@pytest.fixture(autouse=True)
def _numpy_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.REGISTRY["adapter"], "numpy", "fakes:NumpyNet")


def form(name: str = "uniform", groups: int = 1) -> Form:
    layer, weight, stats = problem(24, 8, groups)
    method = registry.get("method", name)
    point = next(iter(method.points(layer, weight, stats, [1e-3])))
    (one,) = forms_of([layer], {layer.name: point.encoded}, {layer.name: weight})
    return one


def latent(name: str = "uniform", groups: int = 1) -> Latent:
    return form(name, groups).latents[""]


def test_the_gradient_is_that_of_the_paper() -> None:
    one = latent()
    step = Step(one)
    rng = np.random.default_rng(0)
    loss = rng.normal(size=one.values.shape).astype(np.float32)
    pull, bias = loss[::-1].copy(), loss[:, 0].copy()
    assert one.bias is not None
    one.bias += 0.3
    # Equation 3 inside the grid: d(round(w / s) s) / ds = round(w / s) - w / s, the weight staying where it is.
    rounding = np.sum(loss * (np.rint(one.values) - one.values)) + np.sum(bias * (np.rint(one.bias) - one.bias))
    price = -np.sum(pull * one.values)  # v = w / s: d v / d log s = -v
    size = UNIT / np.sqrt(one.values.size * np.abs(np.rint(one.values)).max())
    np.testing.assert_allclose(step.gradient(loss, pull, bias), (rounding + price) * size, rtol=1e-4)
    np.testing.assert_allclose(step.gradient(loss, 0.0, bias), rounding * size, rtol=1e-4)


def test_beyond_the_largest_code_the_step_moves_the_code_itself() -> None:
    one = latent()
    one.limit = 1.0
    outside = np.abs(one.values) > 1
    assert outside.any() and not outside.all()
    loss = np.random.default_rng(0).normal(size=one.values.shape).astype(np.float32)
    error = np.where(outside, np.sign(one.values), np.rint(one.values) - one.values)
    expected = np.sum(loss * error) * UNIT / np.sqrt(one.values.size)
    np.testing.assert_allclose(Step(one).gradient(loss, 0.0, None), expected, rtol=1e-4)


def test_zeros_by_order_do_not_move_the_step() -> None:
    one = latent()
    loss = np.ones_like(one.values)
    free = Step(one).gradient(loss, loss, None)
    one.zeros = np.abs(np.rint(one.values)) == np.abs(np.rint(one.values)).max()
    left = ~one.zeros
    expected = np.sum((np.rint(one.values) - 2 * one.values)[left])
    scale = UNIT / np.sqrt(one.values.size * np.abs(one.codes()).max())
    found = Step(one).gradient(loss, loss, None)
    np.testing.assert_allclose(found, expected * scale, rtol=1e-4)
    assert found != free


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("name", ["uniform", "pruned", "fixed"])
def test_weights_stay_where_they_are_while_the_step_moves(name: str, groups: int) -> None:
    whole = form(name, groups)
    one = whole.latents[""]
    assert one.bias is not None
    step, before, bias = Step(one), weight_of(whole), one.bias * one.row_unit
    for place in (1.0, 3.0, -2.0):
        step.place[:] = place
        step.settle()
        factor = float(np.exp(place * UNIT))
        assert one.factor == pytest.approx(factor)
        np.testing.assert_allclose(one.row_unit, step._planned[1] * factor, rtol=1e-6)
        np.testing.assert_allclose(weight_of(whole).matrix, before.matrix, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(one.bias * one.row_unit, bias, rtol=1e-5)
        seen, kept = one.weight(), decoded(stored(whole))
        np.testing.assert_allclose(kept.matrix, seen.matrix, rtol=1e-6)
        np.testing.assert_allclose(kept.bias, seen.bias, rtol=1e-6)
        half = np.max(one.row_unit) / 2
        assert kept.bias is not None and np.abs(kept.bias - bias).max() <= half * 1.001


def test_a_step_has_an_end() -> None:
    one = latent()
    step = Step(one)
    step.place[:] = 1e9
    step.settle()
    assert one.factor == pytest.approx(float(np.exp(FARTHEST)))
    assert np.isfinite(one.weight().matrix).all()


def test_floats_have_no_steps() -> None:
    assert list(learned([latent(), latent("keep")])) == ["layer"]
    assert learned([latent("keep")]) == {}


def course(settings: RecoverySettings, slope: float) -> tuple[Course, NumpyNet, Dataset]:
    """Every layer on a grid twice as fine as it could be at this price."""
    net, data = trained()
    weights = {layer.name: net.read(layer.name) for layer in net.layers()}
    stats = net.moments(data.batches())
    uniform = registry.get("method", "uniform")
    encoded = {n: next(iter(uniform.points(layer, weights[n], stats[n], [1e-3]))).encoded
               for layer in net.layers() for n in [layer.name]}  # fmt: skip
    forms = forms_of(list(net.layers()), encoded, weights)
    rng = np.random.default_rng(0)
    return (
        Course(Teacher(net, weights, {}, data), forms, settings, slope=slope, classification=True, rng=rng),
        net,
        data,
    )


def test_a_course_learns_steps_and_the_file_holds_them() -> None:
    settings = RecoverySettings(epochs=4, batch=50, steps="learned")
    factors = {}
    for slope in (0.0, 1e-2):
        one, net, data = course(settings, slope)
        one.run(Silent())
        ended = net.run(data.inputs)
        for each in one.forms:
            net.write(each.layer.name, decoded(stored(each)))
        np.testing.assert_allclose(net.run(data.inputs), ended, atol=1e-4)
        factors[slope] = [float(each.factor) for each in one.latents]
        assert all(abs(factor - 1) > 1e-3 for factor in factors[slope])
    assert all(dear > free for dear, free in zip(factors[1e-2], factors[0.0], strict=True)), factors


def test_steps_stay_where_they_are_to_be_kept() -> None:
    for settings in (RecoverySettings(steps="kept"), RecoverySettings(steps="learned", train="norms")):
        one, _, _ = course(replace(settings, epochs=1, batch=50), 1e-2)
        one.run(Silent())
        assert [each.factor for each in one.latents] == [1, 1]


def test_from_the_setting_to_the_files_bytes() -> None:
    net, data = trained()
    train, rest = data.take(range(1500)), data.take(range(1500, 3000))
    settings = {"recovery": {"epochs": 4, "batch": 50, "candidates": 1, "steps": "learned"}}
    result = attar.compress(net, rest, train=train, max_drop=20, guarantee="estimate", settings=settings)
    archive = read_archive(result.data)
    for layer in archive.layers:
        kept = decode(archive, layer.name)
        np.testing.assert_array_equal(kept.matrix, result.model.read(layer.name).matrix)
    again = attar.compress(net, rest, train=train, max_drop=20, guarantee="estimate", settings=settings)
    assert again.data == result.data
    plain = {"recovery": {**settings["recovery"], "steps": "kept"}}
    other = attar.compress(net, rest, train=train, max_drop=20, guarantee="estimate", settings=plain)
    assert other.data != result.data
