"""Folders in the layout of compressed-tensors as transformers would run them: unpacked to float32 word by word.

Written from the layout's definition, apart from what packs: an element is at bit `index * bits` of its row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
import transformers

from attar.adapters.torch.files import read_state
from attar.adapters.transformers import load as transformers_load
from attar.adapters.transformers.adapter import CONFIG
from attar.adapters.transformers.files import kept_files
from attar.adapters.transformers.model import TransformersModel
from attar.errors import FormatError, UsageError
from attar.exports.torch.runtime import set_threads
from attar.types import Array, TensorSpec

PARTS = (".weight_packed", ".weight_scale", ".weight_shape")


def unpacked(words: Array, bits: int, cols: int) -> Array:
    """Codes [rows, cols] of int32 words [rows, n]; raises ValueError where there are too few words."""
    if words.dtype != np.int32 or words.ndim != 2 or words.shape[1] * 32 < cols * bits or 32 % bits:
        raise ValueError(f"{words.dtype} words of {words.shape} for {cols} columns of {bits} bits")
    place = np.arange(cols) * bits
    picked = words.view(np.uint32)[:, place // 32] >> (place % 32).astype(np.uint32)
    return (picked & ((1 << bits) - 1)).astype(np.int64) - (1 << (bits - 1))


def state_of(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors in float32 and the configuration without its quantisation; raises FormatError."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        scheme = config.pop("quantization_config")["config_groups"]["group_0"]["weights"]
        bits, group = int(scheme["num_bits"]), int(scheme["group_size"])
        stored = read_state(folder / "model.safetensors")
        state = {name: t.float() for name, t in stored.items() if not name.endswith(PARTS)}
        for name in [name.removesuffix(PARTS[0]) for name in stored if name.endswith(PARTS[0])]:
            packed, scale, shape = (stored[name + part] for part in PARTS)
            rows, cols = (int(n) for n in shape)
            codes = torch.from_numpy(unpacked(packed.numpy(), bits, cols)).float()
            if packed.shape[0] != rows or scale.shape != (rows, cols // group) or cols % group:
                raise ValueError(f"{name} of {rows} x {cols} with scales of {tuple(scale.shape)}")
            state[f"{name}.weight"] = codes * scale.float().repeat_interleave(group, 1)
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise FormatError(
            f"model {folder.name!r}: it must be a folder of pack-quantized weights. Received another ({first}). "
            "Export it again."
        ) from error
    return state, config


class Runtime:
    """A folder, unpacked to float32, in torch."""

    def __init__(self, model: bytes | Path, threads: int = 1) -> None:
        if not isinstance(model, Path):
            raise UsageError("compressed-tensors: a folder is run. Received bytes. Write the files first.")
        state, config = state_of(model)
        network: Any = transformers_load.network_from(config)
        given = network.load_state_dict(state, strict=False)
        tied = network._tied_weights_keys or () if network.config.tie_word_embeddings else ()
        missing = [name for name in given.missing_keys if name not in tied]
        if missing or given.unexpected_keys:
            raise FormatError(
                f"model {model.name!r}: its tensors must be those of its configuration. Received "
                f"{', '.join([*missing, *given.unexpected_keys][:3])} too many or too few. Export it again."
            )
        network.tie_weights()
        files = {**kept_files(model), CONFIG: json.dumps(config).encode()}
        self._model = TransformersModel(transformers_load.source_of(network), files, torch.float32)
        self._threads = threads

    @property
    def version(self) -> str:
        """What ran it."""
        return f"transformers {transformers.__version__}, torch {torch.__version__}"

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """The model's inputs."""
        return self._model.inputs()

    def run(self, batch: Mapping[str, Array]) -> Array:
        """What the adapter's run gives."""
        with set_threads(self._threads):
            return self._model.run(batch)

    def once(self, batch: Mapping[str, Array]) -> Callable[[], Any]:
        """A call that runs a batch."""
        return lambda: self.run(batch)
