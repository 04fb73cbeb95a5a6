"""Work on threads with a bounded number of pieces in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from attar.coding.kernel import threads
from attar.run.executor import map_in_order

T = TypeVar("T")


def ahead(jobs: Iterator[Callable[[], T]], workers: int | None = None) -> Iterator[T]:
    """Results in order, on as many threads as the coder takes; each job is made when one of the first is done."""
    return map_in_order(lambda job: job(), jobs, workers or threads())
