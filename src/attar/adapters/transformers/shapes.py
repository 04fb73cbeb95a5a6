"""The matrices of a Hugging Face configuration, by the class of transformers that it names; no weights are needed.

The class is made on torch's meta device, where tensors have shapes and no memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from attar.adapters.transformers.files import described, quiet
from attar.errors import FormatError, ModelError
from attar.types import Json

Row = tuple[str, str, int, int, int, float]
"""Name, kind, rows, columns, how many of them, and the share of the tokens that reach each."""
ACTIVE = ("num_experts_per_tok", "num_experts_per_token", "top_k")


def shapes_of(path: Path) -> tuple[list[Row], dict[str, Json]]:
    """Matrices of a config.json, and hidden width, blocks, vocabulary, bytes of a stored weight.

    Raises FormatError, and ModelError where transformers has no class for it.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"model {path.name!r}: it must be JSON. Received {error}. Fetch it again.") from error
    network, told = _sketched(config)
    tables = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Embedding)}
    experts = _experts(network)
    rows = [row for name, tensor in network.named_parameters() if (row := _row(name, tensor, tables, experts, told))]
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    facts = {
        "width": int(getattr(told, "hidden_size", 0) or getattr(told, "d_model", 0) or 0),
        "blocks": int(getattr(told, "num_hidden_layers", 0) or 0),
        "vocabulary": int(getattr(told, "vocab_size", 0) or 0),
        "stored": 4 if "32" in stored else 2,
        "others": sum(p.numel() for p in network.parameters()) - sum(row[2] * row[3] * row[4] for row in rows),
        "generates": network.get_output_embeddings() is not None,  # type: ignore[operator]
    }
    return rows, facts


def _sketched(config: Json) -> tuple[nn.Module, Any]:
    """The network without memory, and its text configuration."""
    try:
        made, found = described(config)
        with torch.device("meta"), quiet():
            return made(found), found.get_text_config()
    except ModelError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"model config.json: transformers {transformers.__version__} must make its class. Received one that it "
            f"refuses ({first}). Check the file, or upgrade transformers."
        ) from error


def _experts(network: nn.Module) -> int:
    """Experts of a layer where each is a module of its own; 1 where there are none."""
    counts = [len(module) for name, module in network.named_modules()
              if isinstance(module, nn.ModuleList) and name.endswith("experts")]  # fmt: skip
    return max(counts, default=1)


def _row(name: str, tensor: Any, tables: set[str], experts: int, config: Any) -> Row | None:
    """A parameter as matrices; None for a vector."""
    if tensor.ndim < 2:
        return None
    active = next((float(value) for key in ACTIVE if (value := getattr(config, key, None))), 1.0)
    if tensor.ndim == 3 and "expert" in name:
        count, first, last = tensor.shape
        rows, cols = (last, first) if getattr(config, "is_transposed", False) else (first, last)
        return name, "dense", rows, cols, count, min(1.0, active / count)
    rows, cols = int(tensor.shape[0]), tensor[0].numel()
    if name in tables:  # vectors are looked up: rows of the canonical matrix are their entries
        return name, "embedding", cols, rows, 1, 1.0
    apart = ".experts." in name and experts > 1
    return name, "dense", rows, cols, 1, min(1.0, active / experts) if apart else 1.0
