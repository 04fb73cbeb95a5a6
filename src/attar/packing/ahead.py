"""Work on threads with a bounded number of pieces in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from attar.coding.kernel import threads

T = TypeVar("T")
AHEAD = 2
"""Jobs for each thread that are begun before the first result is taken."""


def ahead(jobs: Iterator[Callable[[], T]], workers: int | None = None) -> Iterator[T]:
    """Results in order; no more than a few jobs, with the bytes they hold, at a time."""
    workers = workers or threads()
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
