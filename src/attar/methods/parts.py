"""The smaller layers that composed methods are made of, as layers of `uniform` and `keep`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from attar.methods import grid
from attar.methods.base import BIAS_PART
from attar.methods.grid import F32
from attar.methods.keep import Keep
from attar.methods.uniform import Uniform
from attar.types import Array, Encoded, Weight


def of_floats(values: Array) -> Encoded:
    """Floats [n, m], or [n] as one row, as `keep` has them."""
    return Encoded(Keep.name, {"matrix": np.atleast_2d(values)})


def of_codes(codes: NDArray[np.int32], step: float) -> Encoded:
    """Integers [n] on one step, as a row of `uniform`."""
    arrays: dict[str, Array] = {"codes": codes[None], "rows": np.zeros(1, np.int16), "cols": np.zeros((1, 1), np.int16)}
    return Encoded(Uniform.name, arrays, {"step": step})


def of_bias(encoded: Encoded) -> dict[str, Encoded]:
    """The bias [rows, 1] on the rows' own steps, by the name of that part; nothing where a layer has none."""
    if "bias" not in encoded.arrays:
        return {}
    rows = encoded.arrays["rows"]
    arrays: dict[str, Array] = {
        "codes": encoded.arrays["bias"][:, None], "rows": rows, "cols": np.zeros((1, 1), np.int16)
    }  # fmt: skip
    return {BIAS_PART: Encoded(Uniform.name, arrays, {"step": encoded.meta["step"]})}


def bias_array(parts: Mapping[str, Encoded], row_step: F32) -> dict[str, Array]:
    """That part as the array that layers store, in units of steps [rows]."""
    if BIAS_PART not in parts:
        return {}
    return {"bias": np.rint(Uniform.decode(parts[BIAS_PART]).matrix[:, 0] / row_step).astype(np.int32)}


def bias_of(parts: Mapping[str, Weight]) -> F32 | None:
    """That part as a bias [rows]."""
    return parts[BIAS_PART].matrix[:, 0] if BIAS_PART in parts else None


def bias_gradient(parts: Mapping[str, Weight], gradient: Weight) -> dict[str, Weight]:
    """What of a layer's gradient is that part's."""
    if BIAS_PART not in parts or gradient.bias is None:
        return {}
    return {BIAS_PART: Weight(gradient.bias[:, None])}


def factors(encoded: Encoded, step: float) -> F32:
    """Row times column steps [rows, 1 or cols]-broadcastable, [rows, cols]: what units are multiplied by."""
    row, column = grid.steps(encoded.arrays["rows"], step), grid.steps(encoded.arrays["cols"], 1.0)
    stacked = row.reshape(len(column), -1, 1) * column[:, None]
    return np.asarray(stacked.reshape(-1, column.shape[1]))


def summed(index: NDArray[np.int64], values: F32, size: int) -> F32:
    """Sums [size] of the values at each index."""
    return np.asarray(np.bincount(index.ravel(), values.ravel(), size), np.float32)
