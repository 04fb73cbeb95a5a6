"""Tiny random Hugging Face folders of every kind, as cases for the adapter laws."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers as hf
from torch import nn

from attar.adapters.transformers.adapter import TransformersAdapter
from attar.adapters.transformers.tasks import deal
from attar.types import Array
from kits.adapter_laws import Batch, Case

WORDS = 50
_ROOT = TemporaryDirectory(prefix="attar-hf-")
TEXT: dict[str, Any] = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"intermediate_size": 24, "max_position_embeddings": 32}
END: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def bert() -> Any:
    return hf.BertModel(hf.BertConfig(**TEXT))


def masked() -> Any:
    return hf.BertForMaskedLM(hf.BertConfig(**TEXT))


def classifier() -> Any:
    return hf.DistilBertForSequenceClassification(
        hf.DistilBertConfig(vocab_size=WORDS, dim=16, n_layers=1, n_heads=4, hidden_dim=24, max_position_embeddings=32)
    )


def llama() -> Any:
    config = hf.LlamaConfig(**TEXT, num_key_value_heads=2, tie_word_embeddings=True, **END)
    return hf.LlamaForCausalLM(config)


def untied() -> Any:
    return hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT, num_key_value_heads=1, tie_word_embeddings=False, **END))


def gpt2() -> Any:
    config = hf.GPT2Config(vocab_size=WORDS, n_positions=32, n_embd=16, n_layer=2, n_head=4, **END)
    return hf.GPT2LMHeadModel(config)


def phi3() -> Any:
    """Query, key and value in one matrix, gate and up in another."""
    return hf.Phi3ForCausalLM(hf.Phi3Config(**TEXT, num_key_value_heads=2, **END))


def mixtral() -> Any:
    config = hf.MixtralConfig(
        **TEXT, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, tie_word_embeddings=False, **END
    )
    return hf.MixtralForCausalLM(config)


def whisper() -> Any:
    config = hf.WhisperConfig(
        vocab_size=WORDS, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24, num_mel_bins=8, max_source_positions=10,
        max_target_positions=32, decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None, **END,
    )  # fmt: skip
    return hf.WhisperForConditionalGeneration(config)


def t5() -> Any:
    config = hf.T5Config(
        vocab_size=WORDS, d_model=16, d_kv=4, d_ff=24, num_layers=1, num_heads=4, decoder_start_token_id=0
    )
    return hf.T5ForConditionalGeneration(config)


def vit() -> Any:
    config = hf.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=24, image_size=12, patch_size=4,
        num_labels=5,
    )  # fmt: skip
    return hf.ViTForImageClassification(config)


def half() -> Any:
    return llama().to(torch.bfloat16)


MODELS: dict[str, Callable[[], Any]] = {
    "bert": bert, "masked": masked, "classifier": classifier, "llama": llama, "untied": untied, "gpt2": gpt2,
    "phi3": phi3, "mixtral": mixtral, "whisper": whisper, "t5": t5, "vit": vit, "half": half,
}  # fmt: skip


@cache
def folder(name: str) -> Path:
    """A folder with a random model; norms and biases are not what they start with."""
    torch.manual_seed(sum(name.encode()))
    model = MODELS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.2
    place = Path(_ROOT.name) / name
    model.save_pretrained(place)
    tokenizer().save_pretrained(place)
    return place


def tokenizer() -> Any:
    """Words w3 to w49, and three special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    made = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[BOS]": 1, "[EOS]": 2, **{f"w{i}": i for i in range(3, WORDS)}}, "w3")
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    made.post_processor = processors.TemplateProcessing("[BOS] $A", special_tokens=[("[BOS]", 1)])  # type: ignore[assignment]
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", eos_token="[EOS]", bos_token="[BOS]")


def batches(name: str) -> list[dict[str, Array]]:
    """Two batches; texts of several lengths where the model takes a mask."""
    rng = np.random.default_rng(0)
    found = []
    for n in (4, 3):
        ids, mask = rng.integers(3, WORDS, (n, 7)), np.ones((n, 7), np.int64)
        if name in ("bert", "masked", "classifier"):
            mask[0, 4:] = 0
            mask[2, 5:] = 0
        text = {"input_ids": ids, "attention_mask": mask}
        if name == "vit":
            text = {"pixel_values": rng.normal(size=(n, 3, 12, 12)).astype(np.float32)}
        if name == "whisper":
            text = {"input_features": rng.normal(size=(n, 8, 20)).astype(np.float32)}
        if name in ("whisper", "t5"):
            text |= {"decoder_input_ids": rng.integers(3, WORDS, (n, 5))}
        found.append(text)
    return found


def by_transformers(model: Any, batch: Batch) -> Array:
    """The task's output computed from transformers' own, token by token."""
    model = model if isinstance(model, nn.Module) else loaded(Path(model))
    tensors = {name: torch.tensor(values) for name, values in batch.items()}
    with torch.no_grad():
        made = model.float().eval()(**tensors)
    if not hasattr(made, "logits"):
        weight = tensors["attention_mask"][..., None].float()
        vectors = (made.last_hidden_state * weight).sum(1) / weight.sum(1)
        return np.asarray((vectors / vectors.norm(dim=-1, keepdim=True)).numpy())
    name = type(model).__name__
    if "Classification" in name:
        return np.asarray(made.logits.numpy())
    ids = batch.get("decoder_input_ids", batch.get("input_ids"))
    assert ids is not None
    lengths = batch["attention_mask"].sum(1) if name == "BertForMaskedLM" else np.full(len(ids), ids.shape[1])
    return classes_by_hand(made.logits.numpy(), ids, lengths, shift=int(name != "BertForMaskedLM"))


def classes_by_hand(logits: Array, ids: Array, lengths: Array, shift: int) -> Array:
    """log p of each id, then of the classes of other tokens, in the place before where shift is 1; even in padding."""
    order, classes = deal(logits.shape[-1])
    groups = order.numpy().reshape(classes, -1)
    result = np.full((len(ids), ids.shape[1] - shift, classes + 1), -np.log(classes + 1), np.float32)
    for row, length in enumerate(lengths):
        for place in range(length - shift):
            p = np.exp(logits[row, place].astype(np.float64))
            p, own = p / p.sum(), ids[row, place + shift]
            sums = [sum(p[i] for i in group if i < len(p) and i != own) for group in groups]
            result[row, place] = np.log([p[own], *sums])
    return result


def loaded(place: Path) -> Any:
    """By transformers alone."""
    import json

    name = json.loads((place / "config.json").read_text())["architectures"][0]
    return getattr(hf, name).from_pretrained(place)


def case(name: str) -> Case:
    """A folder on disk."""
    return Case(
        TransformersAdapter, lambda: folder(name), batches(name), by_transformers, by_transformers, 2e-5,
        perturbed=6,
    )  # fmt: skip
