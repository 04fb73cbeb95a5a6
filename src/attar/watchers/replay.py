"""A ledger that is there already, finished or broken off, told to a tool event by event."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from attar.report.page import told_of_a_run
from attar.watchers.base import watch

BESIDE = ("report.html", "recipe.toml", "ledger.jsonl")


def log(run: str | os.PathLike[str], to: str, dest: str | os.PathLike[str] | None = None) -> int:
    """Tell a tool of a run: its folder, or a ledger. Returns the number of candidates.

    The tool also gets the report, the recipe, the ledger and the certificate, as far as they are there. Raises
    UsageError for an unknown tool or a package that is missing, FormatError for what is no ledger of a run.
    """
    place = Path(run)
    events = told_of_a_run(place)
    folder = place if place.is_dir() else place.parent
    result = next((event for event in reversed(events) if event.get("event") == "result"), {})
    with watch(to, dest) as told, TemporaryDirectory() as own:
        for event in events:
            told(event)
        paths = [folder / name for name in BESIDE]
        if result.get("certificate"):
            paths.append(Path(own) / "certificate.json")
            paths[-1].write_text(json.dumps(result["certificate"], indent=1) + "\n", "utf-8")
        if place.is_file():
            paths = [place, *(path for path in paths if path.name != "ledger.jsonl")]
        told.files(paths)
    return sum(event.get("event") == "candidate" for event in events)
