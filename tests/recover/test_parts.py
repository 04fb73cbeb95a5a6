"""The parts of recovery one by one: the optimiser, the penalties, the changes of images, latents and their way back."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from attar import entropy, registry
from attar.methods.base import Composed, trainable
from attar.recover.adam import Adam
from attar.recover.augment import NAMES, augmented, changes_of
from attar.recover.base import Latent
from attar.recover.latents import bits, decoded, forms_of, stored, weight_of
from attar.recover.penalties import PENALTIES, penalty
from attar.recover.settings import RecoverySettings
from attar.types import Dataset, Encoded, Layer, Weight
from kits.method_laws import problem


def latent(seed: int = 0, rows: int = 30, cols: int = 50) -> Latent:
    rng = np.random.default_rng(seed)
    values = (rng.laplace(0, 0.8, (rows, cols)) * np.exp(rng.normal(0, 0.5, (rows, 1)))).astype(np.float32)
    unit = np.full((rows, cols), 0.1, np.float32)
    layer = Layer("layer", "dense", rows, cols, (rows, cols))
    return Latent(layer, Encoded("uniform", {}), unit, unit[:, 0], values, None)


def test_adam_takes_the_textbook_steps() -> None:
    import torch

    rng = np.random.default_rng(0)
    start, pulls = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(40, 5, 3)).astype(np.float32)
    ours, theirs = {"w": start.copy()}, torch.tensor(start)
    optimiser = Adam(1 << 40)  # so long that the rate never falls
    reference = torch.optim.Adam([theirs], lr=1.0, eps=1e-12)
    for step, pull in enumerate(pulls):
        optimiser.step(ours, {"w": pull}, 0.1)
        reference.param_groups[0]["lr"] = 0.1 * min(1, (step + 1) / 50)
        theirs.grad = torch.tensor(pull)
        reference.step()
    np.testing.assert_allclose(ours["w"], theirs.numpy(), atol=1e-5)


def test_adam_comes_to_rest() -> None:
    values, goal = {"w": np.full(4, 3.0, np.float32)}, np.arange(4, dtype=np.float32)
    optimiser = Adam(2000)
    for _ in range(2000):
        optimiser.step(values, {"w": values["w"] - goal}, 0.05)
    np.testing.assert_allclose(values["w"], goal, atol=1e-3)


def test_the_entropy_penalty_is_the_rise_of_the_price() -> None:
    one, pull = latent(), penalty("entropy")
    pull.refresh(one)
    codes = one.codes().astype(np.int32)
    radius = int(np.abs(codes).max()) + 2
    class_of = entropy.classes(*entropy.levels(codes))
    table = entropy.bits_table(codes, class_of, radius)
    below = np.floor(one.values).astype(int)
    expected = table[class_of, below + 1 + radius] - table[class_of, below + radius]
    np.testing.assert_allclose(pull.gradient(one, one.values, 2.0), 2 * expected, rtol=1e-5)
    small = np.abs(one.values) < 0.5
    assert np.all(np.sign(expected[small]) == np.sign(np.where(one.values[small] < 0, -1, 1)))


def test_the_entropy_penalty_has_no_largest_code() -> None:
    one, pull = latent(), penalty("entropy")
    one.values[0, 0], one.values[1, 1] = 1e6, -1e6
    pull.refresh(one)
    assert np.isfinite(pull.gradient(one, one.values, 1.0)).all()


def test_l1_and_group_pull_toward_zero() -> None:
    one = latent()
    for name, size in (("l1", np.ones(30)), ("group", np.full(30, np.sqrt(50)))):
        pull = np.asarray(penalty(name).gradient(one, one.values, 0.5))
        assert np.all(pull * one.values >= 0)
        length = np.abs(pull).max(1) if name == "l1" else np.linalg.norm(pull, axis=1)
        np.testing.assert_allclose(length, 0.5 * size, rtol=1e-5)


def test_variational_noise_grows_where_it_does_no_harm() -> None:
    one, pull, rng = latent(), penalty("variational"), np.random.default_rng(0)
    pull.refresh(one)
    first = np.abs(one.values) > 0.2
    needed = np.zeros(one.values.shape, bool)
    needed[:, :25] = True
    for _ in range(900):
        noise = pull.noise(one, rng)
        assert noise is not None
        loss = np.where(needed, noise * 100, 0).astype(np.float32)  # a quadratic bowl around needed weights only
        pull.gradient(one, loss, 1e-3)
    kept = one.values.copy()
    pull.finish(one)
    gone = (one.values == 0) & (kept != 0)
    assert gone[first & ~needed].mean() > 0.9
    assert gone[first & needed].mean() < 0.1


def test_the_penalties_that_the_page_explains() -> None:
    assert set(PENALTIES) == {"none", "entropy", "l1", "group", "variational"}
    page = (Path(__file__).parents[2] / "docs" / "recovery.md").read_text(encoding="utf-8")
    assert ", ".join(PENALTIES) in page


def test_the_page_has_every_setting_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "recovery.md").read_text(encoding="utf-8")
    for field in fields(RecoverySettings):
        assert f"| `recovery.{field.name}` | `{field.default!r}` | {field.metadata['help']}" in page


def test_flips_and_shifts_keep_what_a_picture_shows() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((64, 1, 8, 8)).astype(np.float32)
    data = Dataset({"x": images, "age": np.arange(64.0)[:, None]}, np.arange(64))
    flip = changes_of(("flip",), {})
    flipped = augmented(data, flip, np.random.default_rng(1))
    same = (flipped.inputs["x"] == images).all((1, 2, 3))
    other = (flipped.inputs["x"] == images[..., ::-1]).all((1, 2, 3))
    assert np.all(same ^ other)
    assert 15 < same.sum() < 49
    np.testing.assert_array_equal(other, np.random.default_rng(1).random(64) < 0.5)
    np.testing.assert_array_equal(flipped.inputs["age"], data.inputs["age"])
    np.testing.assert_array_equal(flipped.labels, data.labels)
    last = Dataset({"x": np.ascontiguousarray(np.moveaxis(images, 1, -1))}, data.labels)
    moved = augmented(last, flip, np.random.default_rng(1)).inputs["x"]
    np.testing.assert_array_equal(np.moveaxis(moved, -1, 1), flipped.inputs["x"])
    shift = changes_of(("shift",), {"shift": {"reach": 0.25}})
    shifted = augmented(data, shift, np.random.default_rng(3)).inputs["x"]
    wide = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), "edge")
    found = [
        [(i, j) for i in range(5) for j in range(5) if np.array_equal(wide[at, :, i : i + 8, j : j + 8], shifted[at])]
        for at in range(64)
    ]
    assert all(len(places) == 1 for places in found) and len({tuple(places) for places in found}) > 10


def test_every_change_of_images_is_one_of_recovery() -> None:
    images = np.random.default_rng(0).normal(size=(1200, 3, 8, 8)).astype(np.float32)
    changes = changes_of(tuple(reversed(NAMES)), {"zoom": {"share": 0.3}})
    assert tuple(changes) == NAMES, "in the order of the registry"
    changed = augmented(Dataset({"x": images}), changes, np.random.default_rng(0)).inputs["x"]
    assert changed.dtype == np.float32 and (changed != images).mean() > 0.9
    assert changed.min() >= images.min() and changed.max() <= images.max()
    again = augmented(Dataset({"x": images}), changes, np.random.default_rng(0)).inputs["x"]
    np.testing.assert_array_equal(again, changed)
    assert augmented(Dataset({"x": images}), {}, np.random.default_rng(0)).inputs["x"] is images


TRAINABLE = [name for name in registry.names("method") if trainable(registry.get("method", name))]


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("name", TRAINABLE)
def test_what_is_not_trained_is_stored_as_it_was(name: str, groups: int) -> None:
    layer, weight, stats = problem(24, 9, groups)
    method = registry.get("method", name)
    point = next(iter(method.points(layer, weight, stats, [1e-3], method.Params())))
    (form,) = forms_of([layer], {layer.name: point.encoded}, {layer.name: weight})
    before, after = decoded(point.encoded), decoded(stored(form))
    np.testing.assert_allclose(after.matrix, before.matrix, rtol=1e-3 if name == "keep" else 1e-6)
    np.testing.assert_allclose(after.bias, before.bias, rtol=1e-3 if name == "keep" else 1e-6)
    seen = form.weight({part: latent.weight() for part, latent in form.latents.items()})
    np.testing.assert_allclose(seen.matrix, before.matrix, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(seen.bias, before.bias, rtol=1e-3, atol=1e-6)
    if "" in form.latents:
        assert np.abs(weight_of(form).matrix - seen.matrix).max() <= 0.46 * np.max(form.latents[""].unit)
    if name == "uniform":
        assert 0.7 * point.rate_bits < bits(stored(form)) <= 1.01 * point.rate_bits


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("name", TRAINABLE)
def test_what_training_sees_is_what_the_file_holds(name: str, groups: int) -> None:
    layer, weight, stats = problem(24, 9, groups)
    method = registry.get("method", name)
    point = next(iter(method.points(layer, weight, stats, [1e-3], method.Params())))
    (form,) = forms_of([layer], {layer.name: point.encoded}, {layer.name: weight})
    rng = np.random.default_rng(0)
    for latent in form.latents.values():
        latent.values += rng.normal(0, 0.8, latent.values.shape).astype(np.float32)
        if latent.bias is not None:
            latent.bias += rng.normal(0, 3, latent.bias.shape).astype(np.float32)
    seen = form.weight({part: latent.weight() for part, latent in form.latents.items()})
    kept, before = decoded(stored(form)), decoded(point.encoded)
    scale = np.abs(seen.matrix).max()
    tolerance = 1e-3 if name in ("keep", "codebook", "vector") else 1e-6  # floats of 16 bits
    np.testing.assert_allclose(kept.matrix, seen.matrix, rtol=tolerance, atol=tolerance * scale)
    np.testing.assert_allclose(kept.bias, seen.bias, rtol=max(tolerance, 1e-5), atol=1e-6)
    assert np.abs(kept.matrix - before.matrix).max() > 1e-3 * scale, "something moved"
    if name == "pruned":
        assert not kept.matrix[before.matrix == 0].any()
    if name == "fixed":
        limit = method.limit(point.encoded)
        assert np.abs(stored(form).arrays["codes"]).max() <= limit


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("name", [n for n in TRAINABLE if isinstance(registry.get("method", n), Composed)])
def test_parts_get_the_gradient_of_the_chain_rule(name: str, groups: int) -> None:
    layer, weight, stats = problem(24, 9, groups)
    method = registry.get("method", name)
    point = next(iter(method.points(layer, weight, stats, [1e-3], method.Params())))
    (form,) = forms_of([layer], {layer.name: point.encoded}, {layer.name: weight})
    rng = np.random.default_rng(1)
    pull = Weight(rng.normal(size=weight.matrix.shape).astype(np.float32), rng.normal(size=24).astype(np.float32))
    now = {part: latent.weight() for part, latent in form.latents.items()}
    if name == "codebook":  # its zero is held
        now["values"] = Weight(now["values"].matrix + np.float32(0.01))
    found = form.spread(now, pull)
    assert set(found) == set(now)

    def loss(parts: dict[str, Weight]) -> float:
        made = form.weight(parts)
        assert made.bias is not None and pull.bias is not None
        return float(np.sum(made.matrix.astype(np.float64) * pull.matrix) + made.bias.astype(np.float64) @ pull.bias)

    for part, gradient in found.items():
        move = rng.normal(size=now[part].matrix.shape).astype(np.float32) * np.abs(now[part].matrix).max() * 0.1
        ends = [{**now, part: Weight(now[part].matrix + sign * move, now[part].bias)} for sign in (1, -1)]
        expected = (loss(ends[0]) - loss(ends[1])) / 2
        assert float(np.sum(gradient.matrix * move)) == pytest.approx(expected, rel=1e-3, abs=1e-5), part
        assert now[part].bias is None or gradient.bias is not None


def test_a_moved_code_is_what_the_file_holds() -> None:
    layer, weight, stats = problem(24, 9)
    method = registry.get("method", "uniform")
    point = next(iter(method.points(layer, weight, stats, [1e-3])))
    (form,) = forms_of([layer], {layer.name: point.encoded}, {layer.name: weight})
    one = form.latents[""]
    one.values[3, 4] += 2
    assert one.bias is not None
    one.bias[5] -= 3
    seen, kept = one.weight(), decoded(stored(form))
    np.testing.assert_allclose(kept.matrix, seen.matrix, rtol=1e-6)
    np.testing.assert_allclose(kept.bias, seen.bias, rtol=1e-6)
    changed = stored(form).arrays["codes"] - point.encoded.arrays["codes"]
    assert changed[3, 4] == 2
    assert np.count_nonzero(changed) == 1
