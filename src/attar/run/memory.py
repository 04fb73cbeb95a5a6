"""Memory that is no longer used, handed back to the system.

glibc keeps what arrays leave behind, and keeps it apart for each thread: of stages that follow each other, each with
large arrays of its own, a process would hold the sum. Its malloc_trim (malloc_trim(3)) returns whole pages from
anywhere in the heap; other systems' allocators do so themselves, or offer nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

from attar.run.progress import Progress


@cache
def _trim() -> Callable[[int], int] | None:
    """The C library's own function, where it has one."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return found


def give_back() -> None:
    """Return freed pages to the system, where that is possible; takes milliseconds."""
    trim = _trim()
    if trim is not None:
        trim(0)


class Sparing:
    """Progress that is told on, and hands back what a stage has left behind when the next one begins."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def stage(self, name: str, total: int) -> None:
        """A new stage."""
        give_back()
        self._progress.stage(name, total)

    def step(self, count: int = 1) -> None:
        """Told on."""
        self._progress.step(count)

    def note(self, text: str) -> None:
        """Told on."""
        self._progress.note(text)
