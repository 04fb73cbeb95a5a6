"""The rANS kernel in use: the native extension, or its numpy twin where it is missing or ATTAR_NATIVE=0."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from threading import current_thread
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from attar.coding import twin
from attar.errors import FormatError

T = TypeVar("T")
R = TypeVar("R")
FEW = 1 << 20
LANE_BYTES = ((1 << 12, 1), (1 << 13, 32), (1 << 14, 64))
"""Lanes by the bytes of a chunk (below the bound), 128 above: a lane costs about one byte."""


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
    """What codes: "native avx512", "native avx2", "native neon", "native scalar" or "numpy"."""
    return str(kernel().simd_path())


def lanes_for(nbytes: float) -> int:
    """Interleaved lanes for a chunk that takes about so many bytes."""
    return next((lanes for bound, lanes in LANE_BYTES if nbytes < bound), 128)


def threads() -> int:
    """Threads for chunks: ATTAR_THREADS, or one a core; the bytes do not depend on it."""
    wish = os.environ.get("ATTAR_THREADS", "")
    return max(1, int(wish)) if wish.isdecimal() else os.cpu_count() or 1


def threads_for(values: int) -> int:
    """Threads for so many values: one where they are a chunk or two, which take less time than to ask."""
    return threads() if values > FEW else 1


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """One pool for the whole process: starting its threads takes as long as decoding a chunk."""
    return ThreadPoolExecutor(workers, "attar-chunk")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def over_chunks(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """function(item) for each, in order, on threads where there are several."""
    if len(items) < 2 or threads() < 2 or current_thread().name.startswith("attar-chunk"):
        return [function(item) for item in items]
    return list(_pool(threads()).map(function, items))


def encode(symbols: NDArray[np.uint8], runs: NDArray[np.int32], tables: Any, nbytes: float) -> bytes:
    """One chunk of symbols [n] in runs [k, 3] that takes about so many bytes; tables is kernel().EncodeTables(...)."""
    data: bytes = kernel().encode(symbols, runs, tables, lanes_for(nbytes))
    return data


def encode_rows(
    matrix: NDArray[np.uint8],
    rows: NDArray[np.int32],
    columns: NDArray[np.int32],
    runs: NDArray[np.int32],
    tables: Any,
    nbytes: float,
) -> bytes:
    """The same of some rows and all columns of a matrix, both in the order of coding."""
    data: bytes = kernel().encode_rows(matrix, rows, columns, runs, tables, lanes_for(nbytes))
    return data


@contextmanager
def refused(what: str, nbytes: int) -> Iterator[None]:
    """What the kernel refuses, as a FormatError."""
    try:
        yield
    except ValueError as error:
        raise FormatError(
            f"rans: the bytes must be {what}. Received {nbytes} bytes ({error}). Fetch the file again."
        ) from error
