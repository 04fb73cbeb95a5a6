"""The ledger: every event of a run as one JSON line, on disk before the next thing happens."""

from __future__ import annotations

import copy
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attar.errors import OutputError
from attar.types import Json

log = logging.getLogger("attar")
Watcher = Callable[[Mapping[str, Json]], object]


class Ledger:
    """Appends events to a file and keeps them in memory; a None path keeps them in memory only.

    Each of `watchers` is then called with the event. One that raises is not called again, which is logged: a run of
    hours does not end because something that only looks on has failed.
    """

    def __init__(self, path: Path | None = None, watchers: Sequence[Watcher] = ()) -> None:
        self.path, self.watchers = path, list(watchers)
        self.events: list[dict[str, Json]] = []

    def add(self, event: str, **fields: Json) -> dict[str, Json]:
        """Record an event; raises OutputError where the disk does not take it."""
        line = {"event": event, "time": round(time.time(), 3), **plain(fields)}
        self.events.append(line)
        if self.path is not None:
            self._append(json.dumps(line, separators=(",", ":"), allow_nan=False))
        for watcher in list(self.watchers):
            try:
                watcher(copy.deepcopy(line))
            except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
                self.watchers.remove(watcher)
                log.warning("on_event: it is not called any more. It raised %s: %s", type(error).__name__, error)
        return line

    def _append(self, text: str) -> None:
        """One line, synced."""
        assert self.path is not None
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"output {self.path.name!r}: the disk must take every event of the run. Received {error.strerror}. "
                "Nothing that was there has been changed: free some space or choose another place with -o."
            ) from error


def plain(value: Any) -> Json:
    """The value as JSON takes it: numpy scalars and arrays, tuples and paths converted, non-finite numbers to None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value
