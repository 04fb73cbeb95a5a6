"""constriction's ANS coder with one categorical model for the matrix; the table is counted as 2 bytes a symbol."""

from __future__ import annotations

from importlib.metadata import version

import constriction
import numpy as np

from attar.types import Array

NAME = f"constriction {version('constriction')}"


def encode(codes: Array) -> bytes:
    """Lowest code and 256 counts in 16 bits, then the words of the coder."""
    counts = np.bincount(codes.ravel().astype(np.int16) + 128, minlength=256)
    scaled = np.maximum(counts * 65535 // counts.max(), counts > 0).astype("<u2")
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(codes.ravel().astype(np.int32) + 128, _model(scaled))
    kept = np.flatnonzero(scaled)
    table = scaled[kept[0] : kept[-1] + 1].tobytes()
    return bytes([kept[0], kept[-1]]) + table + coder.get_compressed().astype("<u4").tobytes()


def decode(data: bytes, shape: tuple[int, int]) -> Array:
    """Int32 symbols, then the codes."""
    first, last = data[0], data[1]
    end = 2 + 2 * (last - first + 1)
    scaled = np.zeros(256, "<u2")
    scaled[first : last + 1] = np.frombuffer(data[2:end], "<u2")
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(data[end:], "<u4").astype(np.uint32))
    symbols = coder.decode(_model(scaled), shape[0] * shape[1])
    return np.asarray(symbols - 128, np.int8).reshape(shape)


def _model(scaled: Array) -> constriction.stream.model.Categorical:
    used = scaled.astype(np.float32)
    return constriction.stream.model.Categorical(used / used.sum(), perfect=False)
