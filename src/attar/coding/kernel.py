"""The rANS kernel in use: the native extension, or its numpy twin where it is missing or ATTAR_NATIVE=0."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from attar.coding import twin
from attar.errors import FormatError

T = TypeVar("T")
R = TypeVar("R")
CHUNK = 1 << 20
"""Symbols that are decoded independently of all others; part of the file format."""
LANE_STEPS = ((1 << 16, 1), (1 << 18, 2), (1 << 19, 4), (3 << 18, 8), (1 << 20, 16))
"""Lanes by the number of symbols (below the bound), 32 above; part of the format. A lane costs about three bytes."""


@cache
def kernel() -> ModuleType:
    """The extension or the twin, chosen once; a missing extension is said once."""
    if os.environ.get("ATTAR_NATIVE") == "0":
        return twin
    try:
        return import_module("attar._native")
    except ImportError as error:
        logging.getLogger("attar").warning(
            "coding: the native extension is missing (%s); the numpy twin codes the same bytes, many times slower. "
            "Install attar where a C++17 compiler is found.",
            error,
        )
        return twin


def simd_path() -> str:
    """What codes: "native avx2", "native scalar" or "numpy"."""
    return str(kernel().simd_path())


def lanes_for(count: int) -> int:
    """Interleaved lanes for a chunk of so many symbols."""
    return next((lanes for bound, lanes in LANE_STEPS if count < bound), 32)


def threads() -> int:
    """Threads for chunks: ATTAR_THREADS, or one a core; the bytes do not depend on it."""
    wish = os.environ.get("ATTAR_THREADS", "")
    return max(1, int(wish)) if wish.isdecimal() else os.cpu_count() or 1


def over_chunks(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """function(item) for each, in order, on threads where there are several."""
    work = list(items)
    workers = min(threads(), len(work))
    if workers < 2:
        return [function(item) for item in work]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, work))


def encode(symbols: NDArray[np.uint8], contexts: NDArray[np.uint8], frequencies: NDArray[np.uint16]) -> bytes:
    """One chunk; contexts [n], or [0] where all symbols use table 0."""
    data: bytes = kernel().encode(symbols, contexts, frequencies, lanes_for(symbols.size))
    return data


def decode(
    data: memoryview, count: int, contexts: NDArray[np.uint8], frequencies: NDArray[np.uint16]
) -> NDArray[np.uint8]:
    """One chunk of `count` symbols; raises FormatError."""
    symbols = np.empty(count, np.uint8)
    try:
        kernel().decode(np.frombuffer(data, np.uint8), symbols, contexts, frequencies, lanes_for(count))
    except ValueError as error:
        raise FormatError(
            f"rans: the bytes must be a chunk of {count} symbols. Received {len(data)} bytes ({error}). "
            "Fetch the file again."
        ) from error
    return symbols


def contexts_of(
    start: int, count: int, rows: NDArray[np.int16], cols: NDArray[np.int16], table_of: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Tables [count] of the positions start .. of a matrix; see native/rans.hpp."""
    out = np.empty(count, np.uint8)
    kernel().fill_contexts(out, start, rows, cols, table_of)
    return out
