"""Progress in a notebook: one output that is drawn anew, with the stage, the best so far and the time that is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from html import escape
from importlib import import_module
from typing import Any

from attar.run.course import Course
from attar.run.progress import Progress, Silent
from attar.types import Json

EVERY = 0.25
"""Seconds between two drawings."""


def suited() -> Progress:
    """What shows progress where nobody has said how: a drawing in a notebook, nothing elsewhere."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return Silent() if getattr(shell, "kernel", None) is None else NotebookProgress()


class NotebookProgress:
    """Draws into the cell that runs; IPython is imported when it is made."""

    def __init__(self) -> None:
        shown = import_module("IPython.display")
        self._html = shown.HTML
        self.course, self.notes, self._drawn = Course(), list[str](), 0.0
        self._handle = shown.display(self._html(self.html()), display_id=True)

    def stage(self, name: str, total: int) -> None:
        """A new stage."""
        self.course.stage(name, total)
        self._draw(now=True)

    def step(self, count: int = 1) -> None:
        """The bar moves."""
        self.course.step(count)
        self._draw()

    def note(self, text: str) -> None:
        """A line that stays."""
        self.notes.append(text)
        self._draw(now=True)

    def event(self, event: Mapping[str, Json]) -> None:
        """An event of the ledger."""
        self.course.event(event)
        self._draw(now=True)

    def _draw(self, now: bool = False) -> None:
        """Anew, but not more often than EVERY."""
        if now or time.monotonic() - self._drawn >= EVERY:
            self._drawn = time.monotonic()
            self._handle.update(self._html(self.html()))

    def html(self) -> str:
        """The drawing: a native bar, which is accessible, and lines below it."""
        course = self.course
        name = "done" if course.ended else course.name or "opening"
        total, done = max(course.total, 1), course.total if course.ended else min(course.done, course.total)
        bar = f'<progress max="{total}" value="{done}" aria-label="{escape(name)}" style="width: 16em"></progress>'
        count = "" if course.ended or course.total <= 1 else f" {course.done:,} of {course.total:,}"
        notes = "".join(f"<div>{escape(text)}</div>" for text in self.notes)
        return f"<div>{bar} {escape(name)}{count}</div><div>{escape(course.line())}</div>{notes}"
