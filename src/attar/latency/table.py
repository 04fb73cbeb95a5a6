"""What works cost on this machine: measured when first asked for, kept on disk for the next run.

The file's name is made of all that a time depends on beside the work: runtime, processor, threads. It holds numbers
only; one that is broken, or of another machine, is as none. Where it cannot be written, what was measured serves the
run and is lost.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from attar.plan.latency import Work
from attar.run.cache import cache_folder

VERSION = 2
LARGEST_BYTES = 16 << 20
"""A longer file is not ours."""


@dataclass
class CostTable:
    """Milliseconds by work; `measure` is asked for those that are not known. path: None for memory alone."""

    measure: Callable[[Work], float]
    place: Mapping[str, str]
    path: Path | None = None
    known: dict[str, float] = field(default_factory=dict)
    fresh: int = 0
    """How many were measured by this one."""

    def __post_init__(self) -> None:
        if self.path is not None:
            self.known = {**read(self.path, self.place), **self.known}

    def __call__(self, work: Work) -> float:
        """Milliseconds of a work."""
        key = work.key
        if key not in self.known:
            self.known[key] = float(self.measure(work))
            self.fresh += 1
        return self.known[key]

    def save(self) -> str | None:
        """Write what is known, with what another run has written meanwhile; what hindered it, or None."""
        if self.path is None or not self.fresh:
            return None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write(self.path, self.place, {**read(self.path, self.place), **self.known})
        except OSError as error:
            return error.strerror or type(error).__name__
        return None


def file_of(place: Mapping[str, str], folder: Path | None = None) -> Path:
    """The file for a machine, in the user's cache folder where none is given."""
    digest = sha256(json.dumps([VERSION, sorted(place.items())]).encode()).hexdigest()[:20]
    return (folder or cache_folder()) / "costs" / f"{digest}.json"


def read(path: Path, place: Mapping[str, str]) -> dict[str, float]:
    """The costs of a file; none where it is missing, broken, too long, or of another machine or version."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            return {}
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or content.get("version") != VERSION or content.get("place") != dict(place):
        return {}
    costs = content.get("milliseconds")
    if not isinstance(costs, dict):
        return {}
    return {
        key: float(value) for key, value in costs.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    }  # fmt: skip


def write(path: Path, place: Mapping[str, str], costs: Mapping[str, float]) -> None:
    """Write beside the file, sync, rename; raises OSError, and leaves nothing behind then."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".costs-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"version": VERSION, "place": dict(place), "milliseconds": dict(sorted(costs.items()))}, file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
