"""Files of weights alone, of every format, for tests."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from attar.types import Array


def arrays() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        "fc.weight": (0.02 * rng.normal(size=(160, 96))).astype(np.float32),
        "fc.bias": rng.normal(size=160).astype(np.float32),
        "experts": rng.normal(size=(3, 64, 64)).astype(np.float16),
        "conv": rng.standard_t(4, size=(32, 16, 3, 3)).astype(np.float32),
        "ids": np.arange(8192).reshape(2, -1),
        "tiny": np.ones((4, 4), np.float32),
        "empty": np.zeros((0, 8), np.float32),
    }


def safetensors(folder: Path) -> Path:
    more = {"half": np.random.default_rng(1).normal(size=(64, 128)).astype(ml_dtypes.bfloat16)}
    save_file({**arrays(), **more}, folder / "model.safetensors", {"format": "pt", "made": "für Tests"})
    return folder / "model.safetensors"


def shards(folder: Path) -> Path:
    parts = [list(arrays().items())[:3], list(arrays().items())[3:]]
    names = {f"model-{k + 1:05}-of-00002.safetensors": dict(part) for k, part in enumerate(parts)}
    for name, part in names.items():
        save_file(part, folder / name, {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": {n: name for name, part in names.items() for n in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return folder / "model.safetensors.index.json"


def npz(folder: Path) -> Path:
    np.savez(folder / "model.npz", turned=np.asfortranarray(arrays()["fc.weight"]), **arrays())
    return folder / "model.npz"


def deflated(folder: Path) -> Path:
    np.savez_compressed(folder / "small.npz", **arrays())
    return folder / "small.npz"


def llama(folder: Path) -> Path:
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    writer.add_string("general.name", "für Tests")
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "a", "b"])
    values = arrays()
    writer.add_tensor("fc.weight", values["fc.weight"])
    writer.add_tensor("experts", values["experts"])
    blocks = gguf.quants.quantize(values["fc.weight"], gguf.GGMLQuantizationType.Q4_0)
    writer.add_tensor("quantised", blocks, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "model.gguf"


MAKERS = {"safetensors": safetensors, "shards": shards, "npz": npz, "deflated": deflated, "gguf": llama}


def files(path: Path) -> dict[str, bytes]:
    """Name and bytes of a file, or of all in a folder."""
    return {p.name: p.read_bytes() for p in (sorted(path.iterdir()) if path.is_dir() else [path])}
