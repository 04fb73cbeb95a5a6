"""A Hugging Face folder written tensor by tensor: shards of safetensors, their index, and the small files.

Names and layouts are those of save_pretrained, by transformers' own way back from the model's to a checkpoint's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from attar.adapters.torch.files import to_array
from attar.adapters.transformers.files import INDEX, quiet, write_files
from attar.adapters.transformers.part import Part
from attar.adapters.transformers.stream import StreamedModel

SHARD = 2 << 30
"""Bytes of a shard, one tensor at least."""
CODES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
    torch.uint8: "U8", torch.int8: "I8", torch.bool: "BOOL", torch.float64: "F64",
}  # fmt: skip
"""How safetensors call dtypes."""
Opened = Callable[[int], AbstractContextManager[Part]]


def write_folder(model: StreamedModel, opened: Opened, folder: Path, shard: int = SHARD) -> None:
    """Write a model whose parts `opened` gives into a new folder, one part in memory at a time."""
    with quiet():
        shapes = [_saved(model, model.outline(number)) for number in range(model.parts)]
        plan = _plan([(name, tensor) for part in shapes for name, tensor in part.items()], shard)
        folder.mkdir(parents=True)
        write_files(folder, model.files)
        names = _names(len(plan))
        place = {name: number for number, tensors in enumerate(plan) for name in tensors}
        file: IO[bytes] | None = None
        current = -1
        for number in range(model.parts):
            with opened(number) as part:
                for name, tensor in _saved(model, model.dense(number, part)).items():
                    if place[name] != current:
                        if file is not None:
                            file.close()
                        current = place[name]
                        file = (folder / names[current]).open("wb")
                        file.write(_header(plan[current]))
                    assert file is not None
                    file.write(to_array(tensor).tobytes())
        if file is not None:
            file.close()
    if len(names) > 1:
        total = sum(tensor.numel() * tensor.element_size() for part in shapes for tensor in part.values())
        index = {"metadata": {"total_size": total}, "weight_map": {name: names[n] for name, n in place.items()}}
        (folder / f"model{INDEX}").write_text(json.dumps(index, indent=2), encoding="utf-8")


def _saved(model: StreamedModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A part's tensors as a checkpoint has them, in order."""
    from transformers.core_model_loading import revert_weight_conversion

    found: dict[str, Any] = revert_weight_conversion(model.network, dict(tensors))
    return {name: found[name] for name in sorted(found)}


def _plan(tensors: list[tuple[str, Tensor]], shard: int) -> list[dict[str, Tensor]]:
    """What is in each shard, in order."""
    plan: list[dict[str, Tensor]] = [{}]
    room = shard
    for name, tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if plan[-1] and size > room:
            plan.append({})
            room = shard
        plan[-1][name] = tensor
        room -= size
    return plan


def _names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number + 1:05d}-of-{count:05d}.safetensors" for number in range(count)]


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    """Length and JSON of a shard, padded to eight bytes as safetensors do."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
