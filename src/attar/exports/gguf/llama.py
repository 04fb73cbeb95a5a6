"""Llama and its kin between transformers and GGUF: names, the order of rows that rotary positions have, metadata.

llama.cpp turns pairs of neighbours where transformers turns halves: rows of queries and keys are put in its order
(ggml-org/llama.cpp, convert_hf_to_gguf.py, LlamaModel.permute). Qwen2's stay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gguf
import numpy as np

from attar.errors import FormatError, ModelError
from attar.types import Array, Json

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}
"""Model types of transformers, and what GGUF calls them."""
TURNED = (".self_attn.q_proj.", ".self_attn.k_proj.")
TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
NORMAL, CONTROL, USER = 1, 3, 4
"""Kinds of tokens in GGUF."""


def checked(config: Json, goal: str) -> str:
    """The architecture's name in GGUF; raises ModelError for what it has no place for here."""
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        raise ModelError(
            f"{goal}: the model must be one of {', '.join(ARCHITECTURES)}. Received {kind!r}. Export another format."
        )
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    scaling = str(rope.get("rope_type") or rope.get("type") or "default")
    if scaling != "default":
        raise ModelError(
            f"{goal}: rotary positions must be plain. Received scaled ones ({scaling!r}). Export another format."
        )
    if config.get("hidden_act", "silu") != "silu" or (kind != "qwen2" and config.get("attention_bias")):
        raise ModelError(f"{goal}: layers must be those of Llama. Received {kind} with others. Export another format.")
    return ARCHITECTURES[kind]


def heads(config: Json) -> tuple[int, int, int]:
    """Heads of queries, heads of keys, and the width of one."""
    count = int(config["num_attention_heads"])
    width = config.get("head_dim") or int(config["hidden_size"]) // count
    return count, int(config.get("num_key_value_heads") or count), int(width)


def order(name: str, config: Json) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Which rows of a tensor GGUF has in turn; None where it has them as they are."""
    if ARCHITECTURES[config["model_type"]] != "llama" or not any(part in name for part in TURNED):
        return None
    query, key, width = heads(config)
    count = query if "q_proj" in name else key
    return np.arange(count * width).reshape(count, 2, width // 2).swapaxes(1, 2).reshape(-1)


def gguf_names(names: Sequence[str], config: Json) -> dict[str, str]:
    """GGUF's name of every tensor; raises ModelError for one that it does not know."""
    arch = next(a for a, text in gguf.MODEL_ARCH_NAMES.items() if text == ARCHITECTURES[config["model_type"]])
    table = gguf.get_tensor_name_map(arch, int(config["num_hidden_layers"]))
    found = {}
    for name in names:
        known = table.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise ModelError(f"tensor {name!r}: GGUF must have a name for it. Received none. Export another format.")
        found[name] = known
    return found


def describe(writer: gguf.GGUFWriter, config: Json, files: Mapping[str, bytes]) -> list[str]:
    """Write a model's metadata and its tokenizer's; gives notes on what is missing."""
    query, key, width = heads(config)
    writer.add_context_length(int(config.get("max_position_embeddings", 2048)))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(query)
    writer.add_head_count_kv(key)
    if width * query != int(config["hidden_size"]):
        writer.add_key_length(width)
        writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(theta(config))
    writer.add_layer_norm_rms_eps(float(config.get("rms_norm_eps", 1e-6)))
    writer.add_vocab_size(int(config["vocab_size"]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    return _tokens(writer, config, files)


def theta(config: Json) -> float:
    """The base of rotary positions."""
    inner = config.get("rope_parameters") or {}
    return float(config.get("rope_theta") or inner.get("rope_theta") or 10000.0)


def _tokens(writer: gguf.GGUFWriter, config: Json, files: Mapping[str, bytes]) -> list[str]:
    """A byte-level BPE tokenizer; others are left out, with a note."""
    try:
        described = json.loads(files[TOKENIZER])
        model, before = described["model"], described.get("pre_tokenizer") or {}
        settings = json.loads(files.get(SETTINGS, b"{}"))
    except (KeyError, ValueError):
        model, before, settings, described = {}, {}, {}, {}
    steps = [str(step.get("type")) for step in before.get("pretokenizers", [before])]
    if model.get("type") != "BPE" or "ByteLevel" not in steps:
        writer.add_tokenizer_model("none")
        return ["without a tokenizer: only byte-level BPE in a tokenizer.json goes into the file"]
    tokens, kinds = _listed(model["vocab"], described.get("added_tokens", []), int(config["vocab_size"]))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if "Digits" in steps else "gpt-2" if steps == ["ByteLevel"] else "default")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in model["merges"]])
    writer.add_add_space_prefix(False)
    for name, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        number = config.get(f"{name}_token_id")
        if isinstance(number, int):
            add(number)
    if isinstance(settings.get("chat_template"), str):
        writer.add_chat_template(settings["chat_template"])
    elif "chat_template.jinja" in files:
        writer.add_chat_template(files["chat_template.jinja"].decode())
    return []


def _listed(vocab: Mapping[str, int], added: Sequence[Json], size: int) -> tuple[list[str], list[int]]:
    """Tokens by number, and their kinds; raises FormatError where a number is beyond the vocabulary."""
    tokens, kinds = [f"[PAD{k}]" for k in range(size)], [USER] * size
    entries = [(token, number, NORMAL) for token, number in vocab.items()]
    entries += [(one["content"], one["id"], CONTROL if one.get("special") else USER) for one in added]
    for token, number, kind in entries:
        if not 0 <= int(number) < size:
            raise FormatError(
                f"{TOKENIZER}: tokens must be numbered below {size}. Received {number} for {token!r}. Fetch it again."
            )
        tokens[int(number)], kinds[int(number)] = str(token), kind
    return tokens, kinds


def config_of(fields: Mapping[str, Any], tied: bool) -> Json:
    """A configuration for transformers from a file's metadata; raises KeyError, ValueError where it is not enough."""
    arch = str(fields["general.architecture"])
    kind = next((k for k, text in ARCHITECTURES.items() if text == arch), None)
    if kind is None:
        raise ValueError(f"architecture {arch!r}")

    def of(name: str, default: Any = None) -> Any:
        return fields[f"{arch}.{name}"] if default is None else fields.get(f"{arch}.{name}", default)

    width, count = int(of("embedding_length")), int(of("attention.head_count"))
    config: Json = {
        "model_type": kind, "hidden_size": width, "num_hidden_layers": int(of("block_count")),
        "intermediate_size": int(of("feed_forward_length")), "num_attention_heads": count,
        "num_key_value_heads": int(of("attention.head_count_kv", count)), "vocab_size": int(of("vocab_size")),
        "rms_norm_eps": float(of("attention.layer_norm_rms_epsilon")), "rope_theta": float(of("rope.freq_base", 1e4)),
        "max_position_embeddings": int(of("context_length")), "tie_word_embeddings": tied,
        "architectures": ["Qwen2ForCausalLM" if kind == "qwen2" else "LlamaForCausalLM"],
    }  # fmt: skip
    if kind != "qwen2":
        config["head_dim"] = int(of("attention.key_length", width // count))
    return config


def rows_back(name: str, tensor: Array, config: Json) -> Array:
    """A tensor with its rows as transformers has them."""
    turned = order(name, config)
    if turned is None:
        return tensor
    result = np.empty_like(tensor)
    result[turned] = tensor
    return result
