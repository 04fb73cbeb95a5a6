"""A run on the terminal: a bar for the stage, and a line with the best so far and the time that is left."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from attar.run.course import Course
from attar.show import printable, say
from attar.types import Json


class Bars:
    """Progress on stderr: on a terminal a view that is drawn anew, elsewhere plain lines.

    A run does not end because nobody can read its progress any more: what cannot be written is left out.
    """

    def __init__(self) -> None:
        self.live: Any = None
        self.bars: Any = None
        self.task: Any = None
        self.course = Course()

    def __enter__(self) -> Bars:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            name = TextColumn("{task.description}", markup=False)
            console = Console(stderr=True)
            self.bars = RichProgress(name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console)
            self.live = Live(get_renderable=self._drawn, console=console, transient=True, refresh_per_second=8)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            with contextlib.suppress(OSError):
                self.live.refresh()
                self.live.stop()

    def _drawn(self) -> Any:
        """The bar above the line."""
        from rich.console import Group
        from rich.text import Text

        return Group(self.bars, Text(printable(self.course.line()), style="dim", no_wrap=True, overflow="ellipsis"))

    def stage(self, name: str, total: int) -> None:
        """A new bar, or a line."""
        self.course.stage(name, total)
        if self.live is None:
            say(f"[{self.course.elapsed:6.1f} s] {printable(name)}")
            return
        with contextlib.suppress(OSError):
            if self.task is not None:
                self.live.refresh()  # a stage shorter than the refresh interval would never be seen to end
                self.bars.remove_task(self.task)
            self.task = self.bars.add_task(printable(name), total=total)

    def step(self, count: int = 1) -> None:
        """The bar moves."""
        self.course.step(count)
        if self.live is not None and self.task is not None:
            with contextlib.suppress(OSError):
                self.bars.advance(self.task, count)

    def note(self, text: str) -> None:
        """A line that stays."""
        if self.live is None:
            say(f"note: {printable(text)}")
            return
        with contextlib.suppress(OSError):
            self.live.console.print(f"note: {printable(text)}", markup=False, highlight=False)

    def event(self, event: Mapping[str, Json]) -> None:
        """An event of the ledger: after each candidate a line says which is the best, where there is no terminal."""
        self.course.event(event)
        if self.live is None and event.get("event") == "candidate":
            left = self.course.left()
            rest = "" if not left else f"; at most {left:.0f} s left"
            say(f"[{self.course.elapsed:6.1f} s] best of {self.course.evaluations}: {self.course.best_line()}{rest}")
