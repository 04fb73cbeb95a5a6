"""GGUF files: the model that was meant, by gguf's own reader; metadata; the smallest type within a drop."""

import json

import gguf
import numpy as np
import pytest
import torch
import transformers as hf

import attar
from attar.adapters.transformers.model import TransformersModel
from attar.errors import FormatError, ModelError
from attar.exports.base import Task
from attar.exports.gguf.export import CHOSEN, Gguf, GgufQ4K, GgufQ40, Tensors, file_of
from attar.exports.gguf.llama import config_of, order
from attar.exports.gguf.reading import Runtime, contents
from attar.types import Dataset

SIZES = {
    "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 256, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
TOKENIZER = {
    "model": {"type": "BPE", "vocab": {f"t{k}": k for k in range(90)}, "merges": [["t", "1"], "t 2"]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}]},
    "added_tokens": [{"id": 1, "content": "<s>", "special": True}, {"id": 90, "content": "<x>", "special": False}],
}


def folder(path, kind="llama", **more):
    """A random model in a folder, with a tokenizer."""
    torch.manual_seed(0)
    sizes = {**SIZES, **more}
    if kind == "qwen2":
        model = hf.Qwen2ForCausalLM(hf.Qwen2Config(**sizes, tie_word_embeddings=True))
    else:
        model = hf.LlamaForCausalLM(hf.LlamaConfig(**{"tie_word_embeddings": True, "rope_theta": 5000.0, **sizes}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * (0.5 if "embed" in name else 0.12))
            elif "bias" in name:
                parameter.copy_(torch.randn_like(parameter))
    model.save_pretrained(path)
    path.joinpath("tokenizer.json").write_text(json.dumps(TOKENIZER))
    path.joinpath("tokenizer_config.json").write_text('{"chat_template": "{{ hello }}"}')
    return path


def ids(count=24, length=16, seed=0):
    """Text of few words, so that the inputs of layers are correlated."""
    return np.random.default_rng(seed).choice(12, (count, length), p=np.arange(12, 0, -1) / 78)


def text():
    """Examples, and labels as the adapter's outputs have them: the token that comes next is in the first place."""
    return np.random.default_rng(2).integers(0, 96, (120, 16)), np.zeros((120, 15), np.int64)


def task_of(adapter, acceptable=lambda _: True):
    data = Dataset({"input_ids": ids()})
    return Task(adapter, data, False, acceptable, {"input_ids": ids(1)})


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return TransformersModel.opened(folder(tmp_path_factory.mktemp("models") / "llama"))


@pytest.mark.parametrize("kind", ["llama", "untied", "qwen2", "wide"])
def test_a_file_in_float16_is_the_model(tmp_path, kind):
    more = {"untied": {"tie_word_embeddings": False}, "wide": {"head_dim": 32}}.get(kind, {})
    adapter = TransformersModel.opened(folder(tmp_path / "m", kind, **more))
    data, notes, used = file_of(adapter, Tensors(adapter, {}), "f16")
    assert not notes and set(used) == {"F16", "F32"}
    batch = {"input_ids": ids(4)}
    np.testing.assert_allclose(Runtime(data).run(batch), adapter.run(batch), atol=0.02)


def test_rows_of_queries_are_turned(llama):
    turned = order("model.layers.0.self_attn.q_proj.weight", llama.config)
    assert turned[:4].tolist() == [0, 8, 1, 9] and sorted(turned) == list(range(64))
    assert len(order("model.layers.0.self_attn.k_proj.weight", llama.config)) == 32
    assert order("model.layers.0.self_attn.v_proj.weight", llama.config) is None
    assert order("model.layers.0.self_attn.q_proj.weight", {**llama.config, "model_type": "qwen2"}) is None


@pytest.fixture(scope="module")
def sizes(llama):
    """Bytes of a file of each type."""
    tensors = Tensors(llama, {})
    found = [len(file_of(llama, tensors, kind)[0]) for kind in CHOSEN]
    assert found == sorted(set(found))
    return found


@pytest.mark.parametrize("place", range(len(CHOSEN)))
def test_the_smallest_type_within_the_drop_is_taken(llama, sizes, place):
    """Whichever of the types is the first that will do, after three tests at most."""
    seen = []

    def acceptable(data):
        seen.append(len(data))
        return len(data) >= sizes[place]

    made = Gguf.make(task_of(llama, acceptable))
    assert made.facts["type"] == CHOSEN[place] and len(made.data) == sizes[place] and len(seen) <= 3
    if CHOSEN[place] == "q5_k":
        assert made.facts["tensors"] == {"F32": 5, "Q5_K": 2, "Q5_1": 12, "Q8_0": 1}


def test_one_type_alone_is_not_tested(llama):
    def acceptable(_):
        raise AssertionError

    assert GgufQ40.make(task_of(llama, acceptable)).facts["type"] == "q4_0"


def test_ours_is_nearer_than_stock_rounding_of_the_same_size(llama, tmp_path):
    made = GgufQ4K.make(task_of(llama))
    place = tmp_path / "ours.gguf"
    place.write_bytes(made.data)
    reader = gguf.GGUFReader(place)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blk.0.ffn_down.weight"] == "Q4_K" and kinds["blk.0.ffn_up.weight"] == "Q5_0"
    assert kinds["token_embd.weight"] == "Q8_0" and kinds["output_norm.weight"] == "F32"
    test = {"input_ids": ids(16, seed=1)}
    wanted, got = llama.run(test), Runtime(place).run(test)
    plain = Tensors(llama, {})
    stock, _, _ = file_of(llama, plain, "q4_k")
    assert len(stock) == len(made.data)
    assert np.square(got - wanted).mean() < 0.8 * np.square(Runtime(stock).run(test) - wanted).mean()


def test_metadata_and_tokenizer(llama, tmp_path):
    data, _, _ = file_of(llama, Tensors(llama, {}), "q8_0")
    place = tmp_path / "m.gguf"
    place.write_bytes(data)
    fields, tensors = contents(place)
    assert fields["general.architecture"] == "llama" and fields["llama.rope.freq_base"] == 5000.0
    assert fields["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    tokens = fields["tokenizer.ggml.tokens"]
    assert len(tokens) == 96 and tokens[1] == "<s>" and tokens[90] == "<x>" and tokens[95] == "[PAD95]"
    assert [fields["tokenizer.ggml.token_type"][k] for k in (0, 1, 90)] == [1, 3, 4]
    assert fields["tokenizer.ggml.merges"] == ["t 1", "t 2"] and fields["tokenizer.ggml.pre"] == "smollm"
    assert fields["tokenizer.chat_template"] == "{{ hello }}" and fields["tokenizer.ggml.eos_token_id"] == 2
    config = config_of(fields, "output.weight" not in tensors)
    assert config["tie_word_embeddings"] and config["num_key_value_heads"] == 2 and config["head_dim"] == 16


def test_without_a_tokenizer_there_is_a_note(tmp_path):
    place = folder(tmp_path / "m")
    place.joinpath("tokenizer.json").unlink()
    adapter = TransformersModel.opened(place)
    data, notes, _ = file_of(adapter, Tensors(adapter, {}), "q4_0")
    assert "without a tokenizer" in notes[0]
    assert Runtime(data).run({"input_ids": ids(2)}).shape[:2] == (2, 15)


def test_a_token_beyond_the_vocabulary_is_refused(tmp_path):
    place = folder(tmp_path / "m")
    place.joinpath("tokenizer.json").write_text(json.dumps({**TOKENIZER, "added_tokens": [{"id": 96, "content": "x"}]}))
    adapter = TransformersModel.opened(place)
    with pytest.raises(FormatError, match="numbered below 96"):
        file_of(adapter, Tensors(adapter, {}), "f16")


def test_the_same_bytes_twice(llama):
    assert GgufQ4K.make(task_of(llama)).data == GgufQ4K.make(task_of(llama)).data


def test_export_certifies_the_file(llama, tmp_path):
    place = folder(tmp_path / "m")
    found = attar.export(place, "gguf-q8_0", text(), metric="perplexity", max_relative_drop=0.05, out=tmp_path)
    assert found.path == tmp_path / "m.gguf" and found.within and found.runtime.startswith("gguf's reader")
    with pytest.raises(FormatError, match="damaged"):
        place = tmp_path / "bad.gguf"
        place.write_bytes(found.path.read_bytes()[:3000])
        Runtime(place)


def test_other_models_are_refused(tmp_path):
    torch.manual_seed(0)
    bert = hf.BertModel(hf.BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                      intermediate_size=16))  # fmt: skip
    bert.save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match="must be one of llama, mistral, qwen2"):
        Gguf.check(TransformersModel.opened(tmp_path / "bert"))
    with pytest.raises(ModelError, match="Hugging Face folder"):
        Gguf.check(type("Other", (), {"framework": "onnx"})())
    scaled = folder(tmp_path / "s", rope_scaling={"rope_type": "linear", "factor": 2.0})
    with pytest.raises(ModelError, match="rotary positions must be plain"):
        Gguf.check(TransformersModel.opened(scaled))


def test_a_file_of_another_architecture_is_refused(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "o.gguf", "bert")
    writer.add_tensor("x", np.zeros((2, 2), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(FormatError, match="must be a GGUF file of a Llama"):
        Runtime(tmp_path / "o.gguf")
