"""Blocks that are trained beside their codes: gradients, losses that fall, runs that are killed and end alike."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters.transformers_models import folder, loaded
from attar.adapters.transformers.stream import StreamedModel
from attar.archive import read_archive
from attar.coding import known_dtype
from attar.errors import UsageError
from attar.methods.keep import Keep
from attar.methods.uniform import Uniform
from attar.recover.latents import decoded
from attar.run.executor import generator
from attar.run.states import States
from attar.streaming import recovery
from attar.streaming.recovery import Training, Windows, drawn, loose, pull, recovered
from attar.types import Array, Encoded, Layer, Stats, Weight
from streamed.streamed_cases import compressed, ids
from streamed.test_streamed_run import killed

STEPS = 40


def states_before(model: StreamedModel, number: int, tokens: Array) -> Array:
    """What a part is given by the original."""
    states: Array | None = None
    for before in range(number):
        with model.part(before) as part:
            states = part.run(states, tokens)
    assert states is not None
    return states


# Gradients


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_gradients_are_finite_differences(name: str) -> None:
    model, tokens, rng = StreamedModel.opened(folder(name)), ids(2), np.random.default_rng(0)
    states = states_before(model, 1, tokens)
    with model.part(1) as part:
        seed = rng.normal(size=part.run(states, tokens).shape).astype(np.float32)
        found = part.pullback((states, tokens), lambda _: seed)
        owned = {name: tensor for name, tensor in part.tensors.items() if name in found.layers}
        assert set(owned) == {layer.name for layer in part.layers}
        assert set(found.others) == set(part.remainder()), "norms have gradients, and there is nothing else"
        assert not any(tensor.requires_grad for tensor in part.tensors.values())
        if name == "gpt2":
            assert all(got.bias is not None and got.bias.any() for got in found.layers.values())

        def moved(key: str, direction: Array, size: float) -> float:
            """The scalar with a layer, its bias, or another tensor a little further along."""
            layer, _, field = key.partition("/")
            if layer not in found.layers:
                rest = part.remainder()
                part.restore({**rest, layer: rest[layer] + np.float32(size) * direction})
                value = float(np.vdot(part.run(states, tokens).astype(np.float64), seed))
                part.restore(rest)
                return value
            old = part.read(layer)
            changed = {field: getattr(old, field) + np.float32(size) * direction}
            part.write(layer, Weight(**{"matrix": old.matrix, "bias": old.bias, **changed}))
            value = float(np.vdot(part.run(states, tokens).astype(np.float64), seed))
            part.write(layer, old)
            return value

        given = dict(found.others)
        given |= {f"{key}/matrix": got.matrix for key, got in found.layers.items()}
        given |= {f"{key}/bias": got.bias for key, got in found.layers.items() if got.bias is not None}
        for key, gradient in given.items():
            direction = rng.normal(size=gradient.shape).astype(np.float32)
            slope = (moved(key, direction, 1e-2) - moved(key, direction, -1e-2)) / 2e-2
            assert float(np.vdot(gradient, direction)) == pytest.approx(slope, rel=0.03, abs=0.03), key


def test_the_gradient_of_the_loss_is_that_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    made, wanted, along = (rng.normal(size=(2, 3, 4)) for _ in range(3))
    wanted[0, 0] *= 1000

    def loss(values: Array) -> float:
        return float((np.square(values - wanted).sum(-1) / np.square(wanted).sum(-1)).mean())

    slope = (loss(made + 1e-5 * along) - loss(made - 1e-5 * along)) / 2e-5
    assert float(np.vdot(pull(made, wanted), along)) == pytest.approx(slope, rel=1e-4)


# One block


def coarse(layer: Layer, weight: Weight, bits: float = 2.0) -> Encoded:
    stats = Stats(np.full((layer.groups, layer.cols), 1.0), np.zeros((layer.groups, layer.cols)), 100, 100)
    slope = 12 * float(np.square(weight.matrix).mean()) / 2**bits / 40
    return Uniform.encode(layer, weight, stats, {"method": "uniform", "slope": slope, "sweeps": 0})


def one_block(name: str, tokens: Array, encode: Any = coarse) -> tuple[Any, Any, Any, dict[str, Encoded]]:
    """An opened part with rounded layers, what holds it open, its windows, and its layers as a file has them."""
    model, states = StreamedModel.opened(folder(name)), States()
    before = states_before(model, 1, tokens)
    context = model.part(1)
    part = context.__enter__()
    states.put("pass.0", len(tokens), iter([before]))
    states.put("teacher.1", len(tokens), iter([part.run(before, tokens)]))
    made = {layer.name: encode(layer, part.read(layer.name)) for layer in part.layers}
    for key, encoded in made.items():
        part.write(key, decoded(encoded))
    return part, context, Windows(states, tokens, "pass.0", "teacher.1"), made


@pytest.mark.parametrize("name", ["llama", "gpt2", "half", "mixtral"])
def test_the_loss_falls_and_codes_stay(name: str) -> None:
    part, context, windows, made = one_block(name, ids(16))
    rest = part.remainder()
    gain, told, trained = recovered(part, list(made), made.__getitem__, windows, 5 * STEPS, generator(0, "x"))
    assert gain.kept and gain.after < 0.95 * gain.before
    for key, encoded in told.items():
        np.testing.assert_array_equal(encoded.arrays["codes"], made[key].arrays["codes"])
        np.testing.assert_array_equal(encoded.arrays["rows"], made[key].arrays["rows"])
        again = decoded(encoded)
        part.write(key, again)
    part.restore(trained)
    held = np.array([7, 15])
    assert recovery.apart(part, windows, held) == gain.after, "the block ends as the file will have it"
    assert any(encoded.meta["step"] != made[key].meta["step"] for key, encoded in told.items())
    assert {key: value.dtype for key, value in trained.items()} == {key: value.dtype for key, value in rest.items()}
    assert any(not np.array_equal(trained[key], rest[key]) for key in rest)
    if name == "gpt2":
        assert any(not np.array_equal(told[key].arrays["bias"], made[key].arrays["bias"]) for key in told)
    context.__exit__(None, None, None)


def test_what_does_not_help_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    part, context, windows, made = one_block("gpt2", ids(16))
    before = {name: tensor.clone() for name, tensor in part.tensors.items()}
    monkeypatch.setattr(recovery, "RATE", 1e3)
    gain, told, rest = recovered(part, list(made), made.__getitem__, windows, 3, generator(0, "x"))
    assert not gain.kept and gain.after >= gain.before and not told
    assert all(torch.equal(tensor, before[name]) for name, tensor in part.tensors.items())
    assert set(rest) == set(part.remainder())
    context.__exit__(None, None, None)


def test_layers_that_keep_every_bit_are_left_alone() -> None:
    """The norms alone are trained where no layer has codes."""

    def kept(layer: Layer, weight: Weight) -> Encoded:
        noisy = weight.matrix + 0.05 * np.random.default_rng(layer.rows).normal(size=weight.matrix.shape)
        return Keep.encode(layer, Weight(noisy.astype(np.float32), weight.bias), None, {"dtype": "float32"})  # type: ignore[arg-type]

    part, context, windows, made = one_block("gpt2", ids(16), kept)
    gain, told, rest = recovered(part, list(made), made.__getitem__, windows, STEPS, generator(0, "x"))
    assert not told and set(rest) == set(part.remainder()) and gain.after < gain.before
    context.__exit__(None, None, None)


def test_the_same_draw_gives_the_same_block() -> None:
    found = []
    for seed in (0, 0, 1):
        part, context, windows, made = one_block("llama", ids(16))
        found.append(recovered(part, list(made), made.__getitem__, windows, 5, generator(seed, "x")))
        context.__exit__(None, None, None)
    assert found[0][0] == found[1][0] != found[2][0]
    assert all(np.array_equal(value, found[1][2][key]) for key, value in found[0][2].items())


def test_one_window_is_enough() -> None:
    part, context, windows, made = one_block("llama", ids(1))
    gain, _, _ = recovered(part, list(made), made.__getitem__, windows, STEPS, generator(0, "x"))
    assert gain.kept and gain.after < gain.before
    context.__exit__(None, None, None)


def test_every_window_is_drawn_as_often() -> None:
    batches = drawn([1, 4, 6, 7, 9], 2, np.random.default_rng(0))
    rows = np.concatenate([next(batches) for _ in range(15)])
    values, counts = np.unique(rows, return_counts=True)
    assert list(values) == [1, 4, 6, 7, 9] and set(counts) == {6}
    assert len(next(drawn([3], 4, np.random.default_rng(0)))) == 4


def test_a_bias_stays_where_it_is_while_the_factor_moves() -> None:
    layer = Layer("x", "dense", 3, 4, (3, 4), has_bias=True)
    rng = np.random.default_rng(0)
    weight = Weight(rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    encoded = coarse(layer, weight, 5)
    one = loose(encoded)
    assert one is not None and one.factor is not None and one.bias is not None
    one.factor[0], one.bias[0] = 2.0, one.bias[0] + 3
    now, again = one.now(), decoded(one.retold(encoded))
    np.testing.assert_allclose(now.matrix, again.matrix, rtol=1e-6)
    np.testing.assert_allclose(now.bias, again.bias, rtol=1e-6)  # type: ignore[arg-type]
    step = Uniform.units(encoded)[1] * one.scale
    before = decoded(encoded).bias
    assert before is not None and again.bias is not None
    assert (np.abs(again.bias - before)[1:] <= 0.5 * step[1:] * 1.001).all() and again.bias[0] > before[0] + step[0]


def test_moved_tensors_come_back_in_their_own_dtype() -> None:
    part, context, windows, made = one_block("half", ids(4))
    training = Training.of(part, list(made), made.__getitem__)
    training.run(windows, [0, 1], 3, generator(0, "x"))
    for key, value in training.remainder().items():
        assert value.dtype.name == "bfloat16" and value.shape == part.remainder()[key].shape
        np.testing.assert_array_equal(value.astype(np.float32), part.tensors[key].numpy())
    context.__exit__(None, None, None)


def test_tensors_are_no_finer_than_they_were() -> None:
    """Those of a bfloat16 model that was saved as float32 would take twice the bytes."""
    part, context, windows, made = one_block("llama", ids(4))
    key, other = list(part.remainder())[:2]
    part.restore({**part.remainder(), key: part.remainder()[key].astype(known_dtype("bfloat16"))})
    training = Training.of(part, list(made), made.__getitem__)
    training.run(windows, [0, 1], STEPS, generator(0, "x"))
    told = training.remainder()
    assert not np.array_equal(told[key], training.rest[key]) and told[key].dtype == np.float32
    assert not np.any(told[key].view(np.uint32) & 0xFFFF) and np.any(told[other].view(np.uint32) & 0xFFFF)
    context.__exit__(None, None, None)
    half = np.ones(3, np.float16)
    np.testing.assert_array_equal(recovery.like(half, half + np.float32(0.1)), half + np.float16(0.1))


# Whole runs


def trained(name: str, out: Path, recovery: int = STEPS, **fields: Any) -> Any:
    table = {"on": "yes", "passes": 1, "windows": 3, "recovery": recovery, "hold": fields.pop("hold", 256)}
    settings = {"stream": table, "uniform": {"sweeps": 0}, **fields.pop("settings", {})}
    return compressed(name, out, **{"bits": 2.5, "settings": settings, **fields})


def kl(result: Any) -> float:
    return float(next(e for e in result.events if e["event"] == "candidate")["kl"])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_trained_file_is_nearer_to_the_original(name: str, tmp_path: Path) -> None:
    data = {"input_ids": ids(240)}
    plain, better = (trained(name, tmp_path / str(steps), steps, data=data, bits=4.0) for steps in (0, 200))
    assert kl(better) < kl(plain)
    left, right = read_archive(plain.path), read_archive(better.path)
    blocks = next(e for e in better.events if e["event"] == "blocks")
    assert [row["part"] for row in blocks["blocks"]] == [1, 2] and all(row["kept"] for row in blocks["blocks"])
    first = next(layer.name for layer in StreamedModel.opened(folder(name)).layers_of(1))
    np.testing.assert_array_equal(left.encoded(first).arrays["codes"], right.encoded(first).arrays["codes"])
    assert not any(e["event"] == "blocks" for e in plain.events)
    norm = next(key for key in right.remainder() if ".1." in key and key.endswith("weight"))
    stored = loaded(folder(name)).state_dict()[norm].numpy()
    assert not np.array_equal(right.remainder()[norm], stored)


def test_off_it_is_as_before(tmp_path: Path) -> None:
    assert trained("llama", tmp_path / "off", 0).path.read_bytes() == (
        compressed("llama", tmp_path / "before", bits=2.5).path.read_bytes()
    )


@pytest.mark.parametrize("methods", [["keep"], ["pruned", "keep"], ["lowrank", "keep"], ["rotated", "keep"]])
def test_other_methods_work(methods: list[str], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"uniform": {}} if "uniform" in methods else {}
    result = trained("gpt2", tmp_path / "out", 5, bits=6.0, methods=methods, settings=settings)
    read_archive(result.path).verify()
    assert result.path.with_name("report.html").is_file()


@pytest.mark.parametrize(("hold", "opened", "least"), [(0, 2, 8), (256, 16, 1)])
@pytest.mark.parametrize("name", ["half", "gpt2"])
def test_killed_anywhere_it_ends_with_the_same_bytes(
    name: str, hold: int, opened: int, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(name, tmp_path / "whole", 5, hold=hold)
    result, lives = None, 0
    while result is None:
        broken = partial(trained, name, tmp_path / "broken", 5, hold=hold)
        result = killed(opened + lives * (hold > 0), broken, monkeypatch)
        lives += 1
        assert lives < 60, "each run does more than the last"
    assert lives > least and result.path.read_bytes() == whole.path.read_bytes()
    told = [[e["blocks"] for e in made.events if e["event"] == "blocks"] for made in (whole, result)]
    assert told[0] == told[1] and len(told[0]) == 1


def test_what_is_damaged_is_trained_again(tmp_path: Path) -> None:
    work = tmp_path / "work"
    first = trained("gpt2", tmp_path / "first", 5, work=work)
    for path in [sorted(work.glob("retold-*"))[0], *work.glob("outputs-*")]:
        path.write_bytes(path.read_bytes()[:-1])
    again = trained("gpt2", tmp_path / "again", 5, work=work)
    assert again.path.read_bytes() == first.path.read_bytes()
    other = trained("gpt2", tmp_path / "other", 6, work=work)
    plain = trained("gpt2", tmp_path / "plain", 0, work=work)
    assert len({made.path.read_bytes() for made in (first, other, plain)}) == 3, "steps are told apart"


def test_steps_out_of_bounds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"settings\.stream\.recovery"):
        trained("llama", tmp_path / "out", -1)
    assert json.dumps(trained("llama", tmp_path / "out", 1).recipe.settings["stream"]["recovery"]) == "1"
