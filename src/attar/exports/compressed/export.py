"""Hugging Face folders in the layout of compressed-tensors: packed integers and scales, which vLLM and others run.

`pack-quantized`: NAME.weight_packed int32 [rows, ceil(cols * bits / 32)] with codes + 2 ** (bits - 1), the first in the
lowest bits; NAME.weight_scale [rows, groups]; NAME.weight_shape int64 [2] (vllm-project/compressed-tensors,
compressors/pack_quantized). Written here directly, rounded by ours: scales searched by what errors cost, codes with
error feedback. Embeddings, the head and norms stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import ml_dtypes
import numpy as np
import safetensors.numpy

from attar.adapters.base import Adapter
from attar.adapters.transformers.adapter import CONFIG
from attar.adapters.transformers.model import TransformersModel
from attar.errors import ModelError
from attar.exports.base import Artefact, Task
from attar.exports.compressed.reading import Runtime
from attar.exports.gguf.blocks import F32, U8, Codes, Format, Held, halves
from attar.exports.gguf.export import EMBEDDING, HEAD, language_model, second_moments
from attar.exports.gguf.rounding import fields, rounding_of
from attar.types import Array, Json, Layer, Weight

GROUPS = (128, 64, 32)
WEIGHTS = "model.safetensors"
DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def group_format(bits: int, group: int, dtype: np.dtype[np.generic]) -> Format:
    """Symmetric codes of so many bits, a scale of this dtype for each group of columns."""

    def scales(scale: F32, offset: F32, factor: F32) -> Held:
        del factor
        kept = scale.astype(dtype)
        return Held(kept.astype(np.float32), np.zeros_like(offset), (kept,))

    def pack(held: Held, codes: Codes) -> U8:
        del held
        plain: U8 = (codes + (1 << (bits - 1))).astype(np.uint8)
        return plain if bits == 8 else halves(plain.reshape(len(plain), -1), 1)

    top = 1 << (bits - 1)
    return Format(f"W{bits}A16", group, group, -top, top - 1, False, group * bits // 8, 1, scales, pack)


def targets(adapter: TransformersModel) -> list[Layer]:
    """The dense layers that are packed; raises ModelError where there is none or one is stored transposed."""
    layers = [
        layer for layer in adapter.layers()
        if layer.kind == "dense" and layer.tied_to is None and layer.name not in (EMBEDDING, HEAD)
        and layer.name.endswith(".weight") and layer.shape == (layer.rows, layer.cols) and not _is_table(adapter, layer)
    ]  # fmt: skip
    if not layers:
        raise ModelError("compressed-tensors: the model must have Linear layers. Received none. Export another format.")
    return layers


def _is_table(adapter: TransformersModel, layer: Layer) -> bool:
    """Whether a matrix is an embedding's, which is tied to the head."""
    from torch import nn

    module = adapter.network.get_submodule(layer.name.rpartition(".")[0])
    return not isinstance(module, nn.Linear)


def group_of(layers: list[Layer]) -> int:
    """The largest group that divides the columns of all layers; raises ModelError where none does."""
    for group in GROUPS:
        if all(layer.cols % group == 0 for layer in layers):
            return group
    odd = next(layer for layer in layers if layer.cols % GROUPS[-1])
    raise ModelError(
        f"layer {odd.name!r}: its columns must be a multiple of {GROUPS[-1]}. Received {odd.cols}. Export gguf."
    )


def described(bits: int, group: int, ignored: list[str]) -> Json:
    """The quantization_config of config.json."""
    weights = {
        "num_bits": bits, "type": "int", "symmetric": True, "strategy": "group", "group_size": group, "dynamic": False,
        "actorder": None, "block_structure": None, "observer": "minmax", "observer_kwargs": {},
    }  # fmt: skip
    scheme = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
        "config_groups": {"group_0": scheme}, "ignore": ignored, "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }  # fmt: skip


def folder_of(
    adapter: TransformersModel, packed: Mapping[str, tuple[U8, Array]], bits: int, group: int
) -> dict[str, bytes]:
    """The files of the folder by name; packed has bytes [rows, n] and scales [rows, groups] by layer."""
    config, dtype = adapter.config, DTYPES[adapter.layers()[0].dtype]
    tensors: dict[str, Array] = {}
    for name, tensor in adapter.state().items():
        if name not in packed:
            tensors[name] = tensor.astype(dtype) if tensor.dtype.kind in "fV" else tensor
            continue
        codes, scales = packed[name]
        base = name.removesuffix(".weight")
        tensors[f"{base}.weight_packed"] = np.ascontiguousarray(codes).view("<i4")
        tensors[f"{base}.weight_scale"] = np.ascontiguousarray(scales)
        tensors[f"{base}.weight_shape"] = np.array(tensor.shape, np.int64)
    ignored = [HEAD.removesuffix(".weight")] if HEAD in adapter.state() or config.get("tie_word_embeddings") else []
    own = {**config, "quantization_config": described(bits, group, ignored)}
    files = dict(adapter.files)
    files[CONFIG] = (json.dumps(own, indent=2) + "\n").encode()
    files[WEIGHTS] = safetensors.numpy.save(tensors, metadata={"format": "pt"})
    return files


class CompressedTensors:
    """See the module's docstring."""

    name: ClassVar[str] = "compressed-tensors"
    suffix: ClassVar[str] = "-w4a16/"
    help: ClassVar[str] = "Hugging Face folder with 4-bit weights in groups (W4A16), for vLLM and transformers"
    bits: ClassVar[int] = 4

    @classmethod
    def check(cls, adapter: Adapter) -> None:
        """A Hugging Face folder with Linear layers; raises ModelError."""
        group_of(targets(language_model(adapter, cls.name)))

    @classmethod
    def make(cls, task: Task) -> Artefact:
        """Every Linear layer in groups; embeddings and the head as they are."""
        adapter = language_model(task.adapter, cls.name)
        layers = targets(adapter)
        group = group_of(layers)
        stats = second_moments(adapter, task.calibrate, [layer.name for layer in layers])
        form = group_format(cls.bits, group, DTYPES[layers[0].dtype])
        made: dict[str, tuple[U8, Array]] = {}
        for layer in layers:
            if layer.name in stats:
                weight = Weight(adapter.read(layer.name).matrix, None)
                held, codes = rounding_of(form, layer, weight, stats[layer.name])
                made[layer.name] = form.pack(held, codes).reshape(layer.rows, -1), fields(held, layer.rows)
                task.step()
        if len(made) < len(layers):
            missing = next(layer.name for layer in layers if layer.name not in made)
            raise ModelError(
                f"layer {missing!r}: calibration must reach it. Received examples that do not. Give others."
            )
        files = folder_of(adapter, made, cls.bits, group)
        facts: dict[str, Json] = {"bits": cls.bits, "group": group, "layers": len(made)}
        return Artefact(b"", (f"W{cls.bits}A16, groups of {group}, {len(made)} layers",), facts, files)

    @staticmethod
    def runtime(model: bytes | Path, threads: int) -> Runtime:
        """The folder unpacked to float32, in torch."""
        return Runtime(model, threads)


class CompressedTensors8(CompressedTensors):
    """The same with 8 bits."""

    name, suffix, bits = "compressed-tensors-w8a16", "-w8a16/", 8
    help = "the same with 8-bit weights (W8A16)"
