"""The ledger's events, gathered; whatever is missing or malformed is empty, never an error."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attar.errors import FormatError, UsageError
from attar.types import Json

LARGEST = 1e30
"""Numbers beyond are no measurement, and axes would overflow."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """One run. Every mapping may lack any key; `candidates` are in the order in which they were measured.

    warnings: those that the run began with, and what was noticed on the way.
    """

    run: Mapping[str, Json] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    layers: Sequence[Mapping[str, Json]] = ()
    skipped: Mapping[str, Json] = field(default_factory=dict)
    sensitivity: Mapping[str, Json] = field(default_factory=dict)
    sensitivity_method: str = ""
    scaling: Mapping[str, Json] = field(default_factory=dict)
    data_steps: Sequence[Mapping[str, Json]] = ()
    calibration: Mapping[str, Json] = field(default_factory=dict)
    choice: Mapping[str, Json] = field(default_factory=dict)
    tuned: Mapping[str, Json] = field(default_factory=dict)
    candidates: Sequence[Mapping[str, Json]] = ()
    result: Mapping[str, Json] = field(default_factory=dict)


def gather(events: Iterable[Mapping[str, Json]]) -> Ledger:
    """The last event of each kind; of candidates the last of each (index, split). Unknown events are ignored."""
    last: dict[str, Mapping[str, Json]] = {}
    candidates: dict[tuple[str, str], Mapping[str, Json]] = {}
    noticed: list[Json] = []
    for position, event in enumerate(events):
        kind = mapping(event).get("event")
        if kind == "candidate":
            key = (str(event.get("index", f"event {position}")), str(event.get("split", "select")))
            candidates[key] = event
        elif kind == "warning":
            noticed.append(event.get("text"))
        elif isinstance(kind, str):
            last[kind] = event
    layers, sensitivity = last.get("layers", {}), last.get("sensitivity", {})
    return Ledger(
        run=last.get("run", {}),
        warnings=texts([*listed(last.get("run", {}).get("warnings")), *noticed]),
        layers=mappings(layers.get("layers")),
        skipped=mapping(layers.get("skipped")),
        sensitivity=mapping(sensitivity.get("layers")),
        sensitivity_method=str(sensitivity.get("method") or ""),
        scaling=last.get("scaling", {}),
        data_steps=mappings(last.get("data", {}).get("steps")),
        calibration=last.get("calibration", {}),
        choice=last.get("choice", {}),
        tuned=last.get("tuned", {}),
        candidates=tuple(candidates.values()),
        result=last.get("result", {}),
    )


def read_ledger(path: Path) -> list[dict[str, Json]]:
    """The events of a JSON Lines file; a last line that was cut off by a kill is left out.

    Raises UsageError where the file cannot be read, FormatError where a line before the last is not a JSON object.
    """
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise UsageError(
            f"report: the ledger must be a readable file. Received {str(path)!r} ({error.strerror}). "
            "Name the ledger.jsonl of a run."
        ) from error
    lines = text.split("\n")
    events: list[dict[str, Json]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        event = _parsed(line)
        if event is not None:
            events.append(event)
        elif number < len(lines):
            raise FormatError(
                f"report: every line of a ledger must be a JSON object. Received {line[:60]!r} in line {number} "
                f"of {str(path)!r}. Remove that line."
            )
    return events


def _parsed(line: str) -> dict[str, Json] | None:
    """The line's JSON object, or None."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def number(value: Json) -> float | None:
    """A number that can be drawn, or None for anything else; what is below 1e-30 counts as zero."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        finite = float(value)
    except OverflowError:
        return None
    if not math.isfinite(finite) or abs(finite) > LARGEST:
        return None
    return finite if abs(finite) >= 1 / LARGEST else 0.0


def mapping(value: Json) -> Mapping[str, Json]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def listed(value: Json) -> Sequence[Json]:
    """The items of a list; empty for anything else."""
    return value if isinstance(value, list | tuple) else ()


def texts(value: Json) -> list[str]:
    """The items of a list as text; empty for anything else."""
    return [str(item) for item in listed(value) if item]


def mappings(value: Json) -> tuple[Mapping[str, Json], ...]:
    """The mappings in a list; empty for anything else."""
    return tuple(item for item in listed(value) if isinstance(item, Mapping))
