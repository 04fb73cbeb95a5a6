"""Checkpoints for the tests: real containers, made by their own libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

FLOATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "bool")


def weights(dtype: str, shape: tuple[int, ...], seed: int = 0) -> Any:
    """Numbers as trained weights have them, in any dtype."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.05, shape) * np.exp(rng.normal(0, 0.5, shape[:1] + (1,) * (len(shape) - 1)))
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    if kind.kind in "iu":
        return np.clip(np.rint(values * 300), 0 if kind.kind == "u" else -128, 127).astype(kind)
    return (values > 0) if dtype == "bool" else values.astype(kind)


def tensors() -> dict[str, Any]:
    """One matrix of each dtype, with scalars, empty and constant tensors, and a NaN with a payload."""
    result = {f"{dtype}.weight": weights(dtype, (33, 48), i) for i, dtype in enumerate((*FLOATS, *INTEGERS))}
    result["scalar"] = np.array(7, np.int64)
    result["empty"] = np.zeros((0, 3), np.float32)
    result["zeros"] = np.zeros((64, 64), np.float16)
    result["odd"] = np.array([0x7FC00001, 0x80000000, 0xFF800000], np.uint32).view(np.float32)
    return result


def safetensors(path: Path, arrays: dict[str, Any] | None = None) -> Path:
    """A safetensors file."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors() if arrays is None else arrays, path, {"format": "pt"})
    return path
