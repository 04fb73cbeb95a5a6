"""A sentence encoder compressed beside rivals, on text of another kind than the calibration text.

    python benchmarks/language.py [--mails N] [--passages N] [--only attar] [--drop 0.01] [--json FILE]

all-MiniLM-L6-v2 (22.7 million float32 weights, embeddings included) is calibrated on passages of Moby Dick; cosines to
the original's sentence vectors are those of SpamAssassin's e-mails, which no method calibrates on. attar searches on
half of the e-mails and is measured, like the rivals, on the other half. Rivals, both at several rates:

- GPTQ in groups of 128 (Frantar et al. 2023; asymmetric, by falling diagonal, damped by 1 %) on the same passages, its
  codes packed and scales in float16, embeddings rounded to nearest in the same groups; then zstd -19 over everything;
- absmax and entropy: rows scaled by their largest weight and rounded, priced at the order-0 entropy of each matrix.

Bytes at a mean cosine of 0.99 are read off between two rates (log bytes over log (1 - cosine)).
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

import attar
from attar import reading, recipe
from attar.adapters.transformers.adapter import TransformersAdapter
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.types import Array, Dataset, Layer, Stats, Weight
from inputs import MINILM, asset
from real_sets import mails, novel

GROUP, DAMP = 128, 0.01
LENGTH = 600
"""Characters of a text."""
COSINE = 0.99
Rounding = Callable[[Layer, Array, Stats | None], tuple[Array, bytes | float]]


def passages(count: int) -> list[str]:
    """Pieces of the novel, drawn at random."""
    found = []
    for text in novel():
        plain = re.sub(r"\s+", " ", text).strip()
        found += [plain[start : start + LENGTH] for start in range(0, len(plain) - LENGTH // 2, LENGTH)]
    random.Random(0).shuffle(found)
    return found[:count]


def letters(count: int) -> list[str]:
    """Beginnings of different e-mails without header and markup, drawn at random."""
    named = sorted(mails().items())
    random.Random(0).shuffle(named)
    found: dict[str, None] = {}
    for _, data in named:
        text = data.decode("latin-1")
        body = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text[text.find("\n\n") :])).strip()
        if len(body) > LENGTH // 3 and body.isascii():
            found[body[:LENGTH]] = None
        if len(found) == count:
            break
    return list(found)


def ours(
    folder: Path, calibrate: Sequence[str], seen: Sequence[str], new: Sequence[str], drop: float
) -> list[dict[str, Any]]:
    """Every candidate that attar measured on the new texts, the one that it hands back last."""
    result = attar.compress(
        folder, calibrate=calibrate, select=seen, certify=new, metric="cosine", max_drop=drop,
        guarantee="estimate", evaluations=6, coder="dense",
    )  # fmt: skip
    found = [e for e in result.events if e["event"] == "candidate" and e["split"] == "certify"]
    return [
        {"method": "attar", "bytes": e["bytes"], "cosine": e["value"], "low": 1 - e["upper"], "certified": None}
        for e in sorted(found, key=lambda e: e["bytes"] == result.bytes_after)
    ]


def rival(adapter: Any, stats: Mapping[str, Stats], name: str, rounding: Rounding, new: Dataset) -> dict[str, Any]:
    """One rival's bytes and cosines; the adapter is as before afterwards."""
    original, blobs, priced = adapter.run(whole(new)), [], 0.0
    layers = [layer for layer in adapter.layers() if layer.tied_to is None]
    kept = {layer.name: adapter.read(layer.name) for layer in layers}
    for layer in layers:
        matrix, cost = rounding(layer, kept[layer.name].matrix, stats.get(layer.name))
        adapter.write(layer.name, Weight(matrix, kept[layer.name].bias))
        blobs += [cost] if isinstance(cost, bytes) else []
        priced += 0 if isinstance(cost, bytes) else cost
    rest = [np.asarray(array, np.float16).tobytes() for array in adapter.remainder().values()]
    rest += [np.asarray(weight.bias, np.float16).tobytes() for weight in kept.values() if weight.bias is not None]
    size = len(zstandard.ZstdCompressor(level=19).compress(b"".join([*blobs, *rest]))) + priced
    measured = score(adapter.run, new, resolve_metric("cosine"), original)
    for layer in layers:
        adapter.write(layer.name, kept[layer.name])
    each = np.asarray(measured.per_example)
    low = measured.value - 1.645 * float(each.std(ddof=1)) / np.sqrt(len(each))
    return {"method": name, "bytes": int(size) + skeleton_bytes(adapter), "cosine": measured.value, "low": low}


def whole(data: Dataset) -> dict[str, Array]:
    """All inputs as one batch."""
    return next(data.batches(len(data)))


def skeleton_bytes(adapter: Any) -> int:
    """Configuration and tokenizer, compressed, which each file holds."""
    return len(zstandard.ZstdCompressor(level=19).compress(adapter.skeleton()))


def gptq(bits: int, group: int = GROUP) -> Rounding:
    """Codes in groups of columns with error feedback; tables are rounded to nearest in groups of a vector's entries."""

    def rounding(layer: Layer, matrix: Array, stats: Stats | None) -> tuple[Array, bytes]:
        if layer.kind == "embedding" or stats is None:
            table = np.ascontiguousarray(matrix.T) if layer.kind == "embedding" else matrix
            made, data = nearest(table, bits, group)
            return (np.ascontiguousarray(made.T) if layer.kind == "embedding" else made), data
        hessian = stats.hessian[0] + np.outer(stats.mean[0], stats.mean[0])
        return feedback(matrix, hessian, bits, group)

    return rounding


def grid(block: Array, bits: int) -> tuple[Array, Array]:
    """Scale and zero point [rows, 1] of a block [rows, group]; zero is on the grid."""
    low, high = np.minimum(block.min(1), 0), np.maximum(block.max(1), 0)
    scale = np.maximum((high - low) / (2**bits - 1), 1e-8).astype(np.float16).astype(np.float32)
    scale = np.maximum(scale, np.float32(6e-8))
    return scale[:, None], np.clip(np.rint(-low / scale), 0, 2**bits - 1)[:, None]


def stored(codes: Sequence[Array], scales: Sequence[Array], zeros: Sequence[Array], bits: int) -> bytes:
    """Bit-packed codes and zero points, scales as float16."""
    flat = np.concatenate([part.ravel() for part in (*codes, *zeros)]).astype(np.uint8)
    packed = np.packbits(np.unpackbits(flat[:, None], axis=1)[:, 8 - bits :])
    return packed.tobytes() + np.concatenate([s.ravel() for s in scales]).astype(np.float16).tobytes()


def nearest(matrix: Array, bits: int, group: int = GROUP) -> tuple[Array, bytes]:
    """Rounded to nearest in groups of columns."""
    made, parts = np.empty_like(matrix), ([], [], [])  # type: ignore[var-annotated]
    for start in range(0, matrix.shape[1], group):
        block = matrix[:, start : start + group]
        scale, zero = grid(block, bits)
        code = np.clip(np.rint(block / scale) + zero, 0, 2**bits - 1)
        made[:, start : start + group] = (code - zero) * scale
        for part, value in zip(parts, (code, scale, zero), strict=True):
            part.append(value)
    return made, stored(*parts, bits)


def feedback(matrix: Array, hessian: Array, bits: int, group: int = GROUP) -> tuple[Array, bytes]:
    """GPTQ: columns by falling diagonal, each error made up for by the columns to come."""
    order = np.argsort(-np.diag(hessian), kind="stable")
    damped = hessian[order][:, order] + DAMP * np.mean(np.diag(hessian)) * np.eye(len(order))
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    work, made = matrix[:, order].copy(), np.empty_like(matrix)
    parts: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    for start in range(0, len(order), group):
        stop = min(start + group, len(order))
        scale, zero = grid(work[:, start:stop], bits)
        codes, errors = np.empty((len(work), stop - start)), np.empty((len(work), stop - start), np.float32)
        for column in range(start, stop):
            code = np.clip(np.rint(work[:, column : column + 1] / scale) + zero, 0, 2**bits - 1)
            value = ((code - zero) * scale)[:, 0]
            error = (work[:, column] - value) / upper[column, column]
            work[:, column + 1 : stop] -= np.outer(error, upper[column, column + 1 : stop])
            codes[:, column - start], errors[:, column - start], made[:, column] = code[:, 0], error, value
        work[:, stop:] -= errors @ upper[start:stop, stop:]
        for part, item in zip(parts, (codes, scale, zero), strict=True):
            part.append(item)
    back = np.empty_like(made)
    back[:, order] = made
    return back, stored(*parts, bits)


def absmax(levels: float) -> Rounding:
    """Rows over their largest weight, rounded to so many steps to either side; bytes at the order-0 entropy."""

    def rounding(layer: Layer, matrix: Array, _: Stats | None) -> tuple[Array, float]:
        table = matrix.T if layer.kind == "embedding" else matrix
        scale = np.maximum(np.abs(table).max(1, keepdims=True) / levels, 1e-12)
        scale = np.maximum(scale.astype(np.float16).astype(np.float32), np.float32(6e-8))
        codes = np.rint(table / scale)
        counts = np.unique(codes, return_counts=True)[1]
        bits = float(-(counts * np.log2(counts / codes.size)).sum())
        made = (codes * scale).astype(np.float32)
        return (np.ascontiguousarray(made.T) if layer.kind == "embedding" else made), bits / 8 + 2 * len(scale)

    return rounding


def at_cosine(points: Sequence[Mapping[str, Any]]) -> float | None:
    """Bytes at COSINE between the two points about it; None where it is not between two."""
    ordered = sorted(points, key=lambda point: point["bytes"])
    for small, large in pairwise(ordered):
        if small["cosine"] <= COSINE <= large["cosine"]:
            x = np.log([1 - small["cosine"], 1 - large["cosine"]])
            share = (np.log(1 - COSINE) - x[0]) / (x[1] - x[0])
            return float(np.exp(np.log(small["bytes"]) + share * np.log(large["bytes"] / small["bytes"])))
    return None


def points(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All that is measured."""
    folder = asset(*MINILM).parent
    texts, new = passages(arguments.passages), letters(arguments.mails)
    half = len(new) // 2
    if arguments.only in (None, "attar"):
        yield from ours(folder, texts, new[:half], new[half:], arguments.drop)
    if arguments.only == "attar":
        return
    adapter, plan = TransformersAdapter.open(folder), recipe.make()
    stats = adapter.moments(reading.read_whole(texts, plan, adapter).batches(256))
    held = reading.read_whole(new[half:], plan, adapter)
    for bits in (4, 5, 6):
        yield rival(adapter, stats, f"GPTQ {bits} bit g128 + zstd", gptq(bits), held)
    for levels in (7, 15, 31):
        yield rival(adapter, stats, f"absmax {levels} + entropy", absmax(levels), held)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mails", type=int, default=240, help="e-mails, half of them to search on")
    parser.add_argument("--passages", type=int, default=2000, help="passages to calibrate on")
    parser.add_argument("--only", choices=("attar", "rivals"), help="measure these alone")
    parser.add_argument("--drop", type=float, default=1 - COSINE, help="what attar may lose, as its search sees it")
    parser.add_argument("--json", type=Path, help="write all points here")
    arguments = parser.parse_args()
    weights = sum(layer.size for layer in TransformersAdapter.open(asset(*MINILM).parent).layers())
    print("| method | bytes | bits per weight | mean cosine | lower 95 % |\n|---|---|---|---|---|")
    found: dict[str, list[dict[str, Any]]] = {}
    for point in points(arguments):
        found.setdefault(point["method"].split()[0], []).append(point)
        print(
            f"| {point['method']} | {point['bytes']:,} | {8 * point['bytes'] / weights:.2f} | {point['cosine']:.4f} | "
            f"{point['low']:.4f} |",
            flush=True,
        )
    for name, each in found.items():
        size = at_cosine(each)
        told = "not between two points" if size is None else f"{size:,.0f} bytes, {8 * size / weights:.2f} bits"
        print(f"{name} at cosine {COSINE}: {told}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
