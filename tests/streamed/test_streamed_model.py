"""A decoder opened part by part: the same matrices, outputs, statistics and gradients as in memory."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters.transformers_models import batches, folder, loaded
from attar.adapters.transformers.adapter import TransformersAdapter
from attar.adapters.transformers.expand import write_folder
from attar.adapters.transformers.stream import StreamedModel
from attar.errors import DataError, FormatError, ModelError
from attar.types import Dataset, Weight
from streamed.streamed_cases import FAMILIES, ids


def through(model: StreamedModel, tokens: Any) -> Any:
    """What comes out behind all parts."""
    states = None
    for number in range(model.parts):
        with model.part(number) as part:
            states = part.run(states, tokens)
    return states


@pytest.mark.parametrize("name", FAMILIES)
def test_parts_one_after_the_other_are_the_model(name: str) -> None:
    whole, streamed, tokens = TransformersAdapter.open(folder(name)), StreamedModel.opened(folder(name)), ids(3)
    assert sorted(map(str, streamed.layers())) == sorted(map(str, whole.layers()))
    assert streamed.skeleton() == whole.skeleton() and streamed.skipped() == whole.skipped()
    np.testing.assert_allclose(through(streamed, tokens), whole.run({"input_ids": tokens}), rtol=1e-4, atol=1e-5)
    rest: dict[str, Any] = {}
    for number in range(streamed.parts):
        with streamed.part(number) as part:
            rest |= part.remainder()
            for layer in streamed.layers_of(number):
                weight, expected = part.read(layer.name), whole.read(layer.name)
                np.testing.assert_array_equal(weight.matrix, expected.matrix)
                assert (weight.bias is None) == (expected.bias is None)
    assert set(rest) == set(whole.remainder())
    for key, value in whole.remainder().items():
        np.testing.assert_array_equal(rest[key], value)


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_but_the_part_at_work_has_values(name: str) -> None:
    model = StreamedModel.opened(folder(name))
    with model.part(1) as part:
        block = sum(tensor.numel() for tensor in part.tensors.values())
        assert all(parameter.is_meta for parameter in model.network.parameters())
    assert block < sum(layer.size for layer in model.layers())
    assert all(parameter.is_meta for parameter in model.network.parameters())


@pytest.mark.parametrize("name", ["untied", "mixtral", "gpt2"])
def test_statistics_are_those_of_the_adapter(name: str) -> None:
    whole, model, tokens = TransformersAdapter.open(folder(name)), StreamedModel.opened(folder(name)), ids(6)
    expected = whole.moments([{"input_ids": tokens}])
    states = None
    for number in range(model.parts - 1):
        with model.part(number) as part:
            names = [layer.name for layer in model.layers_of(number) if layer.name != model.head()]
            given = [(None if states is None else states[k : k + 2], tokens[k : k + 2]) for k in (0, 2, 4)]
            found = part.moments(given, names)
            states = part.run(states, tokens)
        for key, stats in found.items():
            np.testing.assert_allclose(stats.hessian, expected[key].hessian, rtol=1e-3, atol=1e-5, err_msg=key)
            np.testing.assert_allclose(stats.mean, expected[key].mean, rtol=1e-3, atol=1e-5)
            if not key.endswith("wpe.weight"):  # looked up once a forward, however many windows there are
                assert (stats.count, stats.samples) == (expected[key].count, expected[key].samples)
    apart = {name: replace(stats, hessian=stats.hessian.copy()) for name, stats in expected.items()}  # it is in place
    settled, again = whole.settled(expected), model.settled(1, apart)
    for layer in model.layers_of(1):
        np.testing.assert_array_equal(again[layer.name].hessian, settled[layer.name].hessian)


@pytest.mark.parametrize("name", ["llama", "untied", "gpt2", "mixtral"])
def test_gradients_are_those_of_the_whole_network(name: str) -> None:
    """Labels are drawn alike, so that squared gradients agree row by row."""
    whole, model, tokens = TransformersAdapter.open(folder(name)), StreamedModel.opened(folder(name)), ids(3)
    expected = whole.fisher([{"input_ids": tokens}], seed=5)
    states = [None]
    for number in range(model.parts - 1):
        with model.part(number) as part:
            states.append(part.run(states[-1], tokens))
    squares: dict[str, Any] = {}
    cotangent = None
    for number in reversed(range(model.parts)):
        with model.part(number) as part:
            cotangent, looked = part.pull((states[number], tokens), cotangent, squares, np.random.default_rng(5))
    owners = dict(model.stored(model.parts - 1))
    found = {owners.get(key, key): rows / (3 * 15) for key, rows in squares.items()}
    assert set(expected) == set(found)
    for key, rows in expected.items():
        np.testing.assert_allclose(found[key], rows, rtol=1e-3, atol=1e-9, err_msg=key)
    assert bool(looked) == (name in ("untied", "gpt2", "mixtral"))


@pytest.mark.parametrize("name", ["mixtral", "gpt2", "half"])
@pytest.mark.parametrize("shard", [1 << 30, 3000])
def test_a_folder_is_written_as_save_pretrained_writes_it(name: str, shard: int, tmp_path: Path) -> None:
    model = StreamedModel.opened(folder(name))
    write_folder(model, model.part, tmp_path / "out", shard)
    files = list((tmp_path / "out").glob("*.safetensors"))
    assert (len(files) > 3) == (shard < 1 << 20)
    expected, found = loaded(folder(name)).state_dict(), loaded(tmp_path / "out").state_dict()
    assert list(expected) == list(found)
    assert all(torch.equal(tensor, found[key]) and tensor.dtype == found[key].dtype for key, tensor in expected.items())
    again = StreamedModel.opened(tmp_path / "out")
    np.testing.assert_array_equal(through(again, ids(2)), through(model, ids(2)))


def test_an_archive_s_model_has_no_values() -> None:
    model = StreamedModel.opened(folder("untied"))
    again = StreamedModel.rebuilt(model.skeleton())
    assert list(map(str, again.layers())) == list(map(str, model.layers()))
    with again.part(1, blank=True) as part:
        name = again.layers_of(1)[0].name
        shape = part.read(name).matrix.shape
        with pytest.raises(ModelError, match="the matrix must be"):
            part.write(name, Weight(np.zeros((1, 1), np.float32)))
        part.write(name, Weight(np.full(shape, 0.5, np.float32)))
        assert (part.read(name).matrix == 0.5).all()
        with pytest.raises(FormatError, match="must be"):
            part.restore({})
    with pytest.raises(FormatError, match="damaged"):
        StreamedModel.rebuilt(b"{}")


# What is refused


@pytest.mark.parametrize("name", ["bert", "whisper", "t5", "vit", "masked"])
def test_other_models_are_refused_with_a_remedy(name: str) -> None:
    with pytest.raises(ModelError, match=r"Leave --stream out"):
        StreamedModel.opened(folder(name))


def test_padding_is_refused() -> None:
    model = StreamedModel.opened(folder("llama"))
    batch = batches("llama")[0]
    data = Dataset({"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]})
    assert model.labelled(data).labels is not None
    batch["attention_mask"][0, 3:] = 0
    with pytest.raises(DataError, match="without padding"):
        model.labelled(data)


def test_missing_and_truncated_shards_are_refused(tmp_path: Path) -> None:
    loaded(folder("untied")).save_pretrained(tmp_path / "m", max_shard_size="4KB")
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    shard = tmp_path / "m" / index["weight_map"]["model.layers.1.mlp.up_proj.weight"]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="damaged"):
        StreamedModel.opened(tmp_path / "m")
    shard.unlink()
    with pytest.raises(FormatError, match="every shard"):
        StreamedModel.opened(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors.index.json").unlink()
    with pytest.raises(ModelError, match=r"Received none for model\.layers\.1"):
        StreamedModel.opened(tmp_path / "m")


def test_tensors_of_another_shape_are_refused(tmp_path: Path) -> None:
    place = Path(shutil.copytree(folder("untied"), tmp_path / "m"))
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "intermediate_size": 20}))
    model = StreamedModel.opened(place)
    with pytest.raises(FormatError, match=r"shapes that config\.json says"), model.part(1):
        pass
