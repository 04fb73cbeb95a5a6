"""Random numbers and threads of tasks: neither order nor bytes depend on how many run at once."""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from attar.errors import UsageError

AHEAD = 2
"""Tasks for each thread that are begun before the first result is taken."""
T = TypeVar("T")
R = TypeVar("R")


def generator(seed: int, task: str) -> np.random.Generator:
    """The random numbers of one task, from (run seed, task name) alone."""
    return np.random.default_rng([seed, zlib.crc32(task.encode())])


def map_in_order(function: Callable[[T], R], items: Iterable[T], jobs: int | None = None) -> Iterator[R]:
    """function(item) for each item, in order, on `jobs` threads (None: one a core); the first error is raised.

    No more than AHEAD results a thread wait to be taken, with the memory that they hold. Raises UsageError where `jobs`
    is not a positive number.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs: it must be one or more. Received {jobs}. Leave it out for one thread a core.")
    workers = jobs or os.cpu_count() or 1
    if workers == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
