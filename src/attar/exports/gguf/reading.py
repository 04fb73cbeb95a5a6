"""GGUF files as transformers runs them: every tensor decoded to float32 by the gguf package, without attar's rounding.

llama.cpp itself multiplies by 8-bit activations in places; what is certified here is what the weights in the file say.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers

from attar.adapters.transformers import load as transformers_load
from attar.adapters.transformers.adapter import CONFIG
from attar.adapters.transformers.model import TransformersModel
from attar.errors import FormatError, UsageError
from attar.exports.gguf.llama import config_of, gguf_names, rows_back
from attar.exports.torch.runtime import set_threads
from attar.types import Array, TensorSpec

LARGEST = 1 << 40


def contents(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Metadata and tensors, float32, of a GGUF file; raises FormatError."""
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {}
        for tensor in reader.tensors:
            decoded = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            tensors[tensor.name] = np.array(decoded, np.float32).reshape([int(n) for n in tensor.shape[::-1]])
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise FormatError(
            f"model {path.name!r}: it must be a whole GGUF file. Received a damaged one ({first}). Fetch it again."
        ) from error
    return fields, tensors


def model_of(path: Path) -> TransformersModel:
    """The model in a GGUF file; raises FormatError where transformers has no model for it."""
    fields, tensors = contents(path)
    try:
        config = config_of(fields, "output.weight" not in tensors)
        network = transformers_load.network_from(config)
        known = gguf_names(list(network.state_dict()), config)
        state = {}
        for name, tensor in network.state_dict().items():
            stored = tensors[known[name] if known[name] in tensors else "token_embd.weight"]
            if stored.shape != tuple(tensor.shape):
                raise ValueError(f"{name} of shape {stored.shape}")
            state[name] = torch.from_numpy(np.ascontiguousarray(rows_back(name, stored, config)))
        del tensors
        network.load_state_dict(state, assign=True)
        network.tie_weights()  # type: ignore[operator]
        network.requires_grad_(False)
    except (KeyError, ValueError, TypeError) as error:
        raise FormatError(
            f"model {path.name!r}: it must be a GGUF file of a Llama. Received another ({error}). Run it by llama.cpp."
        ) from error
    files = {CONFIG: json.dumps(config).encode()}
    return TransformersModel(transformers_load.source_of(network), files, torch.float32)


class Runtime:
    """A GGUF file, decoded to float32, in torch."""

    def __init__(self, model: bytes | Path, threads: int = 1) -> None:
        self._threads = threads
        if isinstance(model, Path):
            self._model = model_of(model)
            return
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, "model.gguf")
            place.write_bytes(model)
            self._model = model_of(place)

    @property
    def version(self) -> str:
        """What read the file, and what ran it."""
        return f"gguf's reader, transformers {transformers.__version__}, torch {torch.__version__}"

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


def runtime_of(path: Path, threads: int) -> Runtime:
    """A .gguf file; raises UsageError, FormatError."""
    if not path.is_file():
        raise UsageError(f"model {str(path)!r}: the file must exist. Received none. Check the path.")
    return Runtime(path, threads)
