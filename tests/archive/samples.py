"""Small archives with everything in them, the same on every machine."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from attar.types import Encoded, Layer


def laplacian(rng, rows, cols, rate):
    scale = np.exp(rng.normal(0, 0.6, (1, cols)))
    return np.rint(rng.laplace(0, rate, (rows, cols)) * scale).astype(np.int32)


def layer(seed: int, name: str, rows: int, cols: int) -> tuple[Layer, Encoded]:
    """A layer as the base method leaves it."""
    rng = np.random.default_rng(seed)
    arrays = {
        "codes": laplacian(rng, rows, cols, 0.5),
        "rows": rng.integers(-4, 5, rows).astype(np.int16),
        "cols": rng.integers(-6, 7, (1, cols)).astype(np.int16),
        "bias": rng.integers(-40, 41, rows).astype(np.int32),
    }
    shape = (rows, cols // 9, 3, 3) if cols % 9 == 0 else (rows, cols)
    kind = "conv" if len(shape) == 4 else "dense"
    step = float(np.float32(rng.uniform(0.01, 0.1)))
    return Layer(name, kind, rows, cols, shape, has_bias=True), Encoded("uniform", arrays, {"step": step})


def remainder() -> dict[str, Any]:
    """Tensors of several dtypes; constants, scalars, empty ones, and a NaN with a payload."""
    rng = np.random.default_rng(9)
    return {
        "norm.weight": np.ones(48, np.float32),
        "norm.running_var": np.abs(rng.normal(1, 0.1, 48)).astype(np.float32),
        "norm.num_batches_tracked": np.array(1234, np.int64),
        "half": rng.normal(0, 1, (5, 6)).astype(np.float16),
        "brain": rng.normal(0, 1, (3, 4)).astype(ml_dtypes.bfloat16),
        "empty": np.zeros((0, 3), np.float32),
        "mask": np.array([True, False, True]),
        "odd": np.array([0x7FC00001, 0x80000000], np.uint32).view(np.float32),
        "zeros": np.zeros((7, 8, 9), np.float16),
    }


def contents(layers: int = 3) -> dict[str, Any]:
    """The arguments of to_bytes."""
    return {
        "layers": [layer(i, f"block{i // 2}.conv{i % 2}", 6 + i, 36) for i in range(layers)],
        "remainder": remainder(),
        "skeleton": b'{"class_name": "Conv2D", "config": {"filters": 6}}' * 12,
        "meta": {"framework": "torch", "inputs": [["x", "float32", [None, 4]]]},
    }


def same_encoded(left: Encoded, right: Encoded) -> bool:
    return (
        left.method == right.method
        and dict(left.meta) == dict(right.meta)
        and list(left.arrays) == list(right.arrays)
        and all(same_array(left.arrays[name], right.arrays[name]) for name in right.arrays)
    )


def same_array(left: Any, right: Any) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
