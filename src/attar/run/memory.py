"""Memory that is no longer used, handed back to the system.

glibc keeps what arrays leave behind, and keeps it apart for each thread: of stages that follow each other, each with
large arrays of its own, a process would hold the sum. Its malloc_trim (malloc_trim(3)) returns whole pages from
anywhere in the heap; other systems' allocators do so themselves, or offer nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from attar.run.progress import Progress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
APART, USUAL = 1 << 20, 1 << 25
"""Bytes from which memory is mapped for itself, and unmapped when it is freed: here, and as glibc comes to itself."""
FREE = 1 << 22
"""Bytes that are free at the end of a heap from which they are returned: each thread has a heap, and there
malloc_trim leaves the end as it is."""
_lasting = Lock()


@cache
def _own(name: str) -> Callable[..., Any] | None:
    """A function of the C library's own allocator, where it has it."""
    try:
        found: Callable[..., Any] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return found


def give_back() -> None:
    """Return freed pages to the system, where that is possible; takes milliseconds."""
    trim = _own("malloc_trim")
    if trim is not None:
        trim(0)


@contextmanager
def at_once() -> Iterator[None]:
    """Return the memory of every large array when it is freed, while this lasts; up to a sixth slower.

    glibc raises the size from which it does so to that of the largest array that was freed, up to 32 MiB: what is freed
    after leaves holes, which hardly an array of another size fits in. Within another, this changes nothing.
    """
    set_to = _own("mallopt")
    if set_to is None or not _lasting.acquire(blocking=False):
        yield
        return
    give_back()
    set_to(M_MMAP_THRESHOLD, APART)
    set_to(M_TRIM_THRESHOLD, FREE)
    try:
        yield
    finally:
        set_to(M_MMAP_THRESHOLD, USUAL)
        set_to(M_TRIM_THRESHOLD, 2 * USUAL)
        give_back()
        _lasting.release()


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
