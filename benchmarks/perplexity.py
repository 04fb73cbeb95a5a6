"""A language model compressed beside rivals: perplexity on the second half of a book, calibrated on the first.

    python benchmarks/perplexity.py [--drops 2 10] [--windows 24] [--json FILE]

SmolLM2-135M-Instruct as a Hugging Face folder in float32, made from its Q4_1 file: each block of 32 of its weights has
16 values at most, so that 4 bits fit it better than they would fit another model (no rival here rounds in such blocks,
but for llama.cpp). Calibrated on 24 windows of 512 tokens of the first half of Moby Dick; attar searches on 20 windows
of 512 tokens of that half, too, and all are measured on windows of the second half. Bytes are of the whole file with
configuration and tokenizer, the tied embeddings included.

- nearest: rows over their largest weight, codes of so many bits, packed, then zstd -19;
- GPTQ: one asymmetric grid a row (Frantar et al. 2023; by falling diagonal, damped by 1 %), packed, then zstd -19;
- llama.cpp's rounding without an importance matrix, whole GGUF files.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

import attar
from attar.exports.gguf.export import file_of
from attar.exports.gguf.reading import Runtime
from attar.types import Array, Dataset, Layer, Stats, Weight
from gguf_types import Stock, compared, likelihoods, opened
from language import Rounding, gptq, nearest
from real_sets import FOLDER, novel
from timing import machine

PLACE = FOLDER / "smollm2-hf"
WORK = FOLDER / "smollm2-work"


def texts(tokenizer: Any, windows: int) -> tuple[Dataset, Dataset, Dataset]:
    """Calibrate, select and certify: windows of token ids."""
    ids = np.array(tokenizer("\n\n".join(novel()))["input_ids"], np.int64)
    given, held = np.array_split(ids, 2)
    seen = cut(given, 512, 24)
    return seen, cut(given[256:], 512, 20), cut(held, 512, windows)


def cut(ids: Array, length: int, count: int) -> Dataset:
    """Windows spread evenly."""
    whole = ids[: len(ids) // length * length].reshape(-1, length)
    return Dataset({"input_ids": whole[np.linspace(0, len(whole) - 1, count).astype(int)]})


def folder_of(adapter: Any, tokenizer: Any) -> Path:
    """The model as a Hugging Face folder."""
    if not (PLACE / "config.json").exists():
        with tempfile.TemporaryDirectory(dir=FOLDER) as made:
            adapter.network.save_pretrained(made)
            tokenizer.save_pretrained(made)
            Path(made).rename(PLACE)
            Path(made).mkdir()
    return PLACE


def ours(drop: float, sets: Sequence[Dataset]) -> Iterator[tuple[str, int, tuple[float, float, float]]]:
    """The candidates that attar measured on the held text for one drop: bytes, and perplexities over float.

    The latter with bounds below and above, each at 95 %.
    """
    seen, select, certify = sets
    result = attar.compress(
        PLACE, calibrate=seen, select=select, certify=certify, metric="perplexity", max_relative_drop=drop / 100,
        guarantee="estimate", evaluations=5, work=WORK,
    )  # fmt: skip
    for event in result.events:
        if event["event"] == "candidate" and event["split"] == "certify":
            plain = event["value"] - event["drop"]
            bounds = (1 + event["lower"] / plain, 1 + event["upper"] / plain)
            yield "attar", event["bytes"], (event["value"] / plain, *bounds)


def rival(adapter: Any, stats: Mapping[str, Stats], rounding: Rounding, windows: Array) -> tuple[int, Array]:
    """Bytes and likelihoods of one way of rounding; the adapter is as before afterwards."""
    layers = [layer for layer in adapter.layers() if layer.tied_to is None]
    kept = {layer.name: adapter.read(layer.name) for layer in layers}
    blobs = []
    for layer in layers:
        matrix, blob = rounding(layer, kept[layer.name].matrix, stats.get(layer.name))
        adapter.write(layer.name, Weight(matrix, kept[layer.name].bias))
        blobs.append(blob)
    blobs += [np.asarray(array, np.float16).tobytes() for array in adapter.remainder().values()]
    size = len(zstandard.ZstdCompressor(level=19).compress(b"".join([*blobs, adapter.skeleton()])))  # type: ignore[list-item]
    found = likelihoods(adapter, windows)
    for layer in layers:
        adapter.write(layer.name, kept[layer.name])
    return size, found


def plainly(bits: int) -> Rounding:
    """Rows rounded to nearest."""

    def rounding(_layer: Layer, matrix: Array, _: Stats | None) -> tuple[Array, bytes]:
        return nearest(matrix, bits, matrix.shape[1])

    return rounding


def at(points: Sequence[tuple[int, float]], drop: float) -> float | None:
    """Bytes at a relative drop between the two points about it (log bytes over log drop); None where none are."""
    for (small, much), (large, little) in pairwise(sorted(points)):
        if little <= drop <= much and little > 0:
            share = np.log(much / drop) / np.log(much / little)
            return float(np.exp(np.log(small) + share * np.log(large / small)))
    return None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drops", nargs="+", type=float, default=[2, 10], help="percent of the float perplexity")
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--only", nargs="*", choices=["attar", "nearest", "GPTQ", "llama.cpp"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    adapter, tokenizer = opened()
    folder_of(adapter, tokenizer)
    sets = texts(tokenizer, options.windows)
    windows = sets[2].inputs["input_ids"]
    weights = sum(layer.size for layer in adapter.layers() if layer.tied_to is None)
    plain = likelihoods(adapter, windows)
    print(f"{machine()}; {weights:,} weights; {len(windows)} windows; float32 perplexity {np.exp(plain.mean()):.3f}\n")
    print("| method | bytes | bits per weight | perplexity over float |\n|---|---|---|---|", flush=True)
    found: dict[str, list[tuple[int, float]]] = {}

    def row(name: str, size: int, measured: tuple[float, float, float]) -> None:
        ratio, low, high = measured
        found.setdefault(name.split()[0], []).append((size, ratio - 1))
        print(f"| {name} | {size:,} | {8 * size / weights:.2f} | {ratio:.4f} ({low:.4f} to {high:.4f}) |", flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n")

    wanted = options.only or ["attar", "nearest", "GPTQ", "llama.cpp"]
    if "attar" in wanted:
        for drop in options.drops:
            for point in ours(drop, sets):
                row(*point)
    if "nearest" in wanted:
        for bits in (8, 6, 5):
            size, loss = rival(adapter, {}, plainly(bits), windows)
            row(f"nearest {bits} bit a row + zstd", size, compared(loss, plain))
    if "GPTQ" in wanted:
        stats = adapter.moments(sets[0].batches(8))
        for bits in (3, 4, 5):
            size, loss = rival(adapter, stats, gptq(bits, 1 << 20), windows)
            row(f"GPTQ {bits} bit a row + zstd", size, compared(loss, plain))
    if "llama.cpp" in wanted:
        tensors = Stock(adapter, {})
        for kind in ("q3_k", "q4_k"):
            file = file_of(adapter, tensors, kind)[0]
            row(f"llama.cpp {kind}", len(file), compared(likelihoods(Runtime(file), windows), plain))
    for name, points in found.items():
        for drop in options.drops:
            size = at(points, drop / 100)
            told = "not between two points" if size is None else f"{size:,.0f} bytes, {8 * size / weights:.2f} bits"
            print(f"{name} at +{drop:g} %: {told}")


if __name__ == "__main__":
    main()
