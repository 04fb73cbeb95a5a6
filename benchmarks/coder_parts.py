"""The parts of the coder's benchmark; each runs in a process of its own, with its own environment, and gives JSON."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import inputs
from attar.coding import decode_scaled, simd_path
from attar.types import Array
from contenders import Attar, choose, digest, measure
from timing import medians

RATES = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
ALL = ("rans", "order-0", "zstd", "huff0_x1", "huff0_x2", "rans32x16")
SLOW = ("rans", "dense", "cabac", "ans")
PATH = ("rans", "huff0_x1", "huff0_x2", "zstd", "ans")
Part = dict[str, Any]


def every(weights: list[Array], repeats: int) -> Part:
    """All matrices, by the coders that take a second or less."""
    return _rates(ALL, weights, repeats)


def slow(weights: list[Array], repeats: int) -> Part:
    """Two layers, by the coders that take seconds, and rans."""
    return _rates(SLOW, layers(weights), min(repeats, 3))


def dense(weights: list[Array], repeats: int) -> Part:
    """All matrices by the dense coder, once."""
    del repeats
    return _rates(("dense",), weights, 1)


def pooled(weights: list[Array], repeats: int) -> Part:
    """Sizes of all matrices where one step is for all of them, over the entropy of one table for all."""
    del repeats
    coders = {name: Attar(name) for name in ("rans", "dense")}
    rates = []
    for bits in RATES[1:5]:
        matrices = inputs.together(weights, bits)
        whole = inputs.order0_bytes(np.concatenate([codes.ravel() for codes in matrices]))
        sizes = {name: {"bytes": sum(len(c.encode(m)) for m in matrices)} for name, c in coders.items()}
        rates.append({"entropy": whole, "coders": sizes})
    return {"rates": rates}


def path(weights: list[Array], repeats: int) -> Part:
    """Two layers on the path that ATTAR_SIMD names, beside the rivals of the targets."""
    return _rates(PATH, layers(weights), repeats)


def twin(weights: list[Array], repeats: int) -> Part:
    """One matrix with the numpy twin."""
    return _rates(("rans",), layers(weights)[:1], min(repeats, 2))


def threads(weights: list[Array], repeats: int) -> Part:
    """Seconds of decoding the largest matrix with one and with two threads."""
    rans = Attar("rans")
    largest = max(weights, key=lambda weight: weight.size)
    rates = []
    for bits in RATES:
        (codes,) = inputs.quantised([largest], bits)
        data = rans.encode(codes)

        def decode(count: int, data: bytes = data, shape: tuple[int, int] = codes.shape) -> Array:
            os.environ["ATTAR_THREADS"] = str(count)
            return rans.decode(data, shape)

        rates.append(medians({"1": lambda d=decode: d(1), "2": lambda d=decode: d(2)}, 2 * repeats))
    return {"path": simd_path(), "symbols": largest.size, "rates": rates}


def fused(weights: list[Array], repeats: int) -> Part:
    """Seconds of decoding to scaled float32, of decoding to codes and scaling by numpy, and of copying the result."""
    rans = Attar("rans")
    rates = []
    for bits in RATES:
        matrices = inputs.quantised(weights, bits)
        coded = [rans.encode(codes) for codes in matrices]
        sides = [(np.ones(m.shape[0], np.float32), np.ones((1, m.shape[1]), np.float32)) for m in matrices]
        results = [m.astype(np.float32) for m in matrices]
        spare = [np.empty_like(result) for result in results]
        jobs = list(zip(coded, matrices, sides, strict=True))

        data, codes, (row, column) = jobs[0]
        first = decode_scaled("rans", data, "int8", codes.shape, row, column, "float32")
        if not np.array_equal(first, results[0]):
            raise SystemExit("fused decoding differs from codes times scales")
        actions = {
            "fused": partial(_decode_scaled, jobs), "copy": partial(_copy, results),
            "overwrite": partial(_overwrite, spare, results),
        }  # fmt: skip
        seconds = medians(actions, repeats)
        rates.append({**seconds, "raw": sum(r.nbytes for r in results), "coded": sum(map(len, coded))})
    return {"path": simd_path(), "rates": rates}


def _decode_scaled(jobs: list[Any]) -> None:
    for data, codes, (row, column) in jobs:
        decode_scaled("rans", data, "int8", codes.shape, row, column, "float32")


def _copy(results: list[Array]) -> None:
    for result in results:
        result.copy()


def _overwrite(targets: list[Array], results: list[Array]) -> None:
    for target, result in zip(targets, results, strict=True):
        np.copyto(target, result)


def layers(weights: list[Array]) -> list[Array]:
    """The twelve matrices of MiniLM's first two layers; all where the weights are others."""
    return [weight for weight in weights if sorted(weight.shape) in ([384, 384], [384, 1536])][:12] or weights


def _rates(names: tuple[str, ...], weights: list[Array], repeats: int) -> Part:
    found, missing = choose(names)
    rates = [measure(found, inputs.quantised(weights, bits), repeats) for bits in RATES]
    return {
        "path": simd_path(),
        "names": {name: coder.NAME for name, coder in found.items()},
        "missing": missing,
        "matrices": len(weights),
        "digest": digest(inputs.quantised(layers(weights)[:1], 2.0)),
        "rates": rates,
    }


PARTS: dict[str, tuple[Callable[[list[Array], int], Part], dict[str, str]]] = {
    "every": (every, {}),
    "slow": (slow, {}),
    "dense": (dense, {}),
    "pooled": (pooled, {}),
    "avx512": (path, {"ATTAR_SIMD": "avx512"}),
    "avx2": (path, {"ATTAR_SIMD": "avx2"}),
    "scalar": (path, {"ATTAR_SIMD": "scalar"}),
    "twin": (twin, {"ATTAR_NATIVE": "0"}),
    "threads": (threads, {"ATTAR_CLOCK": "wall"}),
    "fused": (fused, {}),
}
"""By name: what to do, and the environment to do it in besides ATTAR_THREADS=1."""
