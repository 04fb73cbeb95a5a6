"""`attar pick`: another point of a run that has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attar.cli_options import AsJson, Force, Verbose
from attar.ending import guard
from attar.stdout import json_line, tell


def pick(
    run: Annotated[Path, typer.Argument(help="Folder that `attar compress -o` wrote.")],
    max_drop: Annotated[float | None, typer.Option(help="Allowed drop; without it the candidates are listed.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the chosen one.")] = None,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Choose another candidate of a finished run for another drop. Exit code 3 where none is within it."""
    with guard(verbose):
        from dataclasses import asdict

        from attar import show
        from attar.picking import pick as picking

        found = picking(run, max_drop, out, force=force)
        rows = [{"bytes": len(one.data), "trained": one.trained, **asdict(one.certificate)} for one in found.choices]
        chosen = None if found.chosen is None else {"bytes": len(found.chosen.data), **asdict(found.chosen.certificate)}
        told = {"candidates": rows, "chosen": chosen, "within": found.within, "files": [str(p) for p in found.files]}
        tell(json_line(told) if as_json else "\n".join(show.picked_lines(found)))
        if not found.within:
            raise typer.Exit(3)
