"""Folders in the layout of compressed-tensors: words as the layout has them, small, near, refused where damaged."""

import json

import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

import attar
from attar.adapters.transformers.model import TransformersModel
from attar.errors import FormatError, ModelError, UsageError
from attar.exports.base import Task
from attar.exports.compressed.export import CompressedTensors, CompressedTensors8, group_format
from attar.exports.compressed.reading import Runtime, state_of, unpacked
from attar.exports.gguf.rounding import nearest
from attar.types import Dataset

SIZES = {
    "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


def folder(path, dtype=torch.float32, **more):
    """A random Llama in a folder."""
    torch.manual_seed(0)
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**{**SIZES, "tie_word_embeddings": True, **more}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * 0.12)
    model.to(dtype).save_pretrained(path)
    return path


def words(count, seed=0):
    return np.random.default_rng(seed).choice(12, (count, 16), p=np.arange(12, 0, -1) / 78)


def task_of(adapter):
    return Task(adapter, Dataset({"input_ids": words(32)}), False, lambda _: True, {"input_ids": words(1)})


def written(made, path):
    """The artefact's files on disk."""
    path.mkdir()
    for name, data in made.files.items():
        (path / name).write_bytes(data)
    return path


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([4, 8]), st.integers(0, 2**31), st.integers(1, 5), st.sampled_from([32, 64, 128]))
def test_codes_survive_packing(bits, seed, rows, group):
    codes = np.random.default_rng(seed).integers(-(1 << (bits - 1)), 1 << (bits - 1), (rows * 2, group))
    form = group_format(bits, group, np.dtype(np.float32))
    held = form.scales(np.ones((rows * 2, 1), np.float32), np.zeros((rows * 2, 1), np.float32), np.ones(rows * 2))
    packed = form.pack(held, codes.astype(np.int16)).reshape(rows, -1).view(np.int32)
    assert packed.shape == (rows, 2 * group * bits // 32)
    np.testing.assert_array_equal(unpacked(packed, bits, 2 * group), codes.reshape(rows, -1))


def test_the_first_code_is_in_the_lowest_bits():
    """As the layout has it: code + 8, from the lowest four bits of the first word on."""
    word = np.array([[0 + (15 << 4) + (8 << 8)]], np.int32)
    assert unpacked(word, 4, 8)[0, :4].tolist() == [-8, 7, 0, -8]
    with pytest.raises(ValueError, match="9 columns of 4 bits"):
        unpacked(word, 4, 9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_folder_is_near_and_small(tmp_path, dtype):
    source = folder(tmp_path / "m", dtype)
    adapter = TransformersModel.opened(source)
    place = written(CompressedTensors.make(task_of(adapter)), tmp_path / "out")
    tensors = safetensors.numpy.load_file(place / "model.safetensors") if dtype != torch.bfloat16 else {}
    if tensors:
        assert tensors["model.layers.0.self_attn.q_proj.weight_packed"].dtype == np.int32
        assert tensors["model.layers.0.self_attn.q_proj.weight_shape"].tolist() == [64, 64]
        assert tensors["model.layers.1.mlp.down_proj.weight_scale"].shape == (64, 3)
    test = {"input_ids": words(8, 1)}
    wanted, got = adapter.run(test), Runtime(place).run(test)
    assert 0 < np.square(got - wanted).mean() < 0.1 * np.square(wanted - wanted.mean()).mean()
    layers = sum(layer.size for layer in adapter.layers() if "proj" in layer.name)
    rest = (place / "model.safetensors").stat().st_size - layers // 2
    assert rest < layers


def test_a_head_of_another_name_is_tied_too(tmp_path):
    """Whisper's is called proj_out, and stands in no file."""
    torch.manual_seed(0)
    config = hf.WhisperConfig(
        vocab_size=50, d_model=128, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=128, decoder_ffn_dim=128, num_mel_bins=8, max_source_positions=10,
        max_target_positions=32, decoder_start_token_id=1, pad_token_id=2, bos_token_id=1, eos_token_id=2,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    hf.WhisperForConditionalGeneration(config).save_pretrained(tmp_path / "m")
    adapter = TransformersModel.opened(tmp_path / "m")
    rng = np.random.default_rng(0)
    batch = {"input_features": rng.normal(size=(8, 8, 20)).astype(np.float32),
             "decoder_input_ids": rng.integers(3, 50, (8, 5))}  # fmt: skip
    task = Task(adapter, Dataset(batch), False, lambda _: True, {name: each[:1] for name, each in batch.items()})
    made = written(CompressedTensors.make(task), tmp_path / "packed")
    state, _ = state_of(made)
    assert "proj_out.weight" not in state
    runtime = CompressedTensors.runtime(made, 1)
    assert np.abs(runtime.run(batch) - adapter.run(batch)).mean() < 0.05


def test_the_configuration_says_what_is_packed(tmp_path):
    adapter = TransformersModel.opened(folder(tmp_path / "m"))
    config = json.loads(CompressedTensors.make(task_of(adapter)).files["config.json"])
    told = config["quantization_config"]
    assert told["quant_method"] == "compressed-tensors" and told["format"] == "pack-quantized"
    assert told["config_groups"]["group_0"]["weights"]["group_size"] == 32 and told["ignore"] == ["lm_head"]
    assert config["model_type"] == "llama"


def test_eight_bits_are_nearer_than_four(tmp_path):
    adapter = TransformersModel.opened(folder(tmp_path / "m"))
    test = {"input_ids": words(8, 1)}
    wanted, errors = adapter.run(test), []
    for kind in (CompressedTensors, CompressedTensors8):
        place = written(kind.make(task_of(adapter)), tmp_path / kind.suffix.strip("/"))
        errors.append(np.square(Runtime(place).run(test) - wanted).mean())
    assert errors[1] < 0.01 * errors[0]


def test_feedback_is_better_than_nearest_codes(tmp_path):
    adapter = TransformersModel.opened(folder(tmp_path / "m"))
    made = CompressedTensors.make(task_of(adapter))
    state, _ = state_of(written(made, tmp_path / "out"))
    name = "model.layers.0.self_attn.q_proj.weight"
    stats = adapter.moments([{"input_ids": words(32)}], [name])[name]
    second = stats.hessian[0] + np.outer(stats.mean[0], stats.mean[0])
    matrix = adapter.read(name).matrix
    form = group_format(4, 32, np.dtype(np.float32))
    held, codes = nearest(form, matrix, np.diag(second).astype(np.float32))
    plain = (codes * held.scale).reshape(matrix.shape)

    def cost(error):
        return float(np.einsum("rc,cd,rd->", error, second, error))

    assert cost(state[name].numpy() - matrix) < 0.85 * cost(plain - matrix)


def test_export_writes_and_certifies_a_folder(tmp_path):
    ids = np.random.default_rng(2).integers(0, 96, (120, 16)), np.zeros((120, 15), np.int64)
    found = attar.export(
        folder(tmp_path / "m"),
        "compressed-tensors-w8a16",
        ids,
        metric="perplexity",
        max_relative_drop=0.05,
        out=tmp_path,
    )
    assert found.path == tmp_path / "m-w8a16" and found.path.is_dir() and found.within
    assert (tmp_path / "m-w8a16.json").is_file() and len(found.sha256) == 64
    assert found.bytes_after == sum(file.stat().st_size for file in found.path.iterdir())


def test_damage_is_refused(tmp_path):
    adapter = TransformersModel.opened(folder(tmp_path / "m"))
    place = written(CompressedTensors.make(task_of(adapter)), tmp_path / "out")
    whole = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="safetensors"):
        Runtime(place)
    tensors = safetensors.numpy.load(whole)
    tensors["model.layers.0.mlp.up_proj.weight_scale"] = np.ones((5, 2), np.float32)
    (place / "model.safetensors").write_bytes(safetensors.numpy.save(tensors))
    with pytest.raises(FormatError, match="up_proj"):
        Runtime(place)
    del tensors["model.norm.weight"], tensors["model.layers.0.mlp.up_proj.weight_scale"]
    (place / "config.json").write_text("{}")
    with pytest.raises(FormatError):
        Runtime(place)
    with pytest.raises(UsageError, match="a folder is run"):
        Runtime(b"")


def test_other_models_are_refused(tmp_path):
    with pytest.raises(ModelError, match="multiple of 32"):
        CompressedTensors.check(TransformersModel.opened(folder(tmp_path / "m", intermediate_size=80)))
    with pytest.raises(ModelError, match="Hugging Face folder"):
        CompressedTensors.check(type("Other", (), {"framework": "keras"})())
