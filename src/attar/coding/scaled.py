"""Codes times scales in one go: the decoder's symbols become floats while they are in the cache."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from attar.coding import kernel, rans, values
from attar.coding.streams import Reader
from attar.types import Array

F32 = NDArray[np.float32]
FORMATS = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def scaled(codes: Array, row: F32, column: F32, format: str) -> Array:
    """code * column * row [rows, cols], each product rounded to float32, then to the format; column [groups, cols]."""
    with np.errstate(over="ignore", invalid="ignore"):
        stacked = codes.astype(np.float32).reshape(len(column), -1, codes.shape[1]) * column[:, None]
        return np.asarray(stacked.reshape(codes.shape) * row[:, None], np.float32).astype(FORMATS[format], copy=False)


def fused(data: bytes | memoryview, dtype: str, shape: tuple[int, ...], row: F32, column: F32, format: str) -> Array:
    """The same from the bytes of the `rans` coder; raises FormatError."""
    reader = Reader(data)
    form = data[0] if len(data) else 0
    if len(shape) != 2 or min(shape) < 2 or not values.STATIC <= form < values.FORMS:
        return scaled(rans.Rans.decode(data, dtype, shape), row, column, format)
    reader.take(1)
    size = (shape[0], shape[1])
    plan, outside = values.open_static(reader, size, form - values.STATIC, np.dtype(dtype))
    if not -(1 << 30) < plan.low < 1 << 30:
        return scaled(rans.Rans.decode(data, dtype, shape), row, column, format)
    out = np.empty(size, FORMATS[format])
    places = np.empty(outside.size, np.int64)
    chunks = reader.rest()
    with kernel.refused(f"{out.size} symbols", len(chunks)):
        plan.decode_scaled(chunks, column, row, out.view(np.uint8), format, places, kernel.threads_for(out.size))
    if places.size:
        r, c = np.divmod(places, size[1])
        with np.errstate(over="ignore", invalid="ignore"):
            exact = outside.astype(np.float32) * column[r // (size[0] // len(column)), c] * row[r]
            out[r, c] = exact.astype(FORMATS[format])
    return out
