"""Where a choice goes: the source's own form, or a list of positions."""

from __future__ import annotations

import json
from pathlib import Path

from attar.files.sources import Source, check_output, open_source, save
from attar.outputs import check_free, publish, staged, write
from attar.selection.choose import Chosen, train_part


def check_place(source: str | Path | Source, out: Path | None, force: bool = False) -> Source:
    """The source, opened, where its chosen examples can be written to `out` (None: nowhere).

    Raises UsageError, OutputError before any work is done; DataError, FormatError for what is no data set.
    """
    opened = open_source(source)
    if out is not None and is_list(out):
        check_free(out.parent, [out.name], force)
    elif out is not None:
        check_output(train_part(opened), out, force)
    return opened


def is_list(out: Path) -> bool:
    """Whether a place is one for positions."""
    return out.suffix.lower() == ".json"


def write_choice(found: Chosen, out: Path) -> None:
    """The chosen examples as a set of the source's form, or their positions as JSON; raises OutputError."""
    if not is_list(out):
        save(found.kept(), out)
        return
    with staged(out.parent) as stage:
        write(stage / out.name, (json.dumps(found.facts(), ensure_ascii=False) + "\n").encode())
        publish(stage, out.parent)
