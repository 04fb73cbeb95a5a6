"""Unpacking a data set: its files, written beside and renamed when all are there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

from attar.archive import read_archive
from attar.archive.write import part_of, sweep, sync_folder
from attar.errors import OutputError, UsageError
from attar.sets import files
from attar.sets.contents import contents, named

PathLike = str | os.PathLike[str]


def unpack(path: PathLike, out: PathLike, *, force: bool = False) -> Path:
    """Write the files of a data set into the folder `out`; raises FormatError, UsageError, OutputError."""
    place, goal = Path(path), named(Path(out))
    if not place.is_file():
        raise UsageError(f"archive {str(path)!r}: it must be a file. Received none. Check the path.")
    if goal.exists() and (not goal.is_dir() or (not force and any(goal.iterdir()))):
        raise OutputError(
            f"output {str(goal)!r}: a folder will be written there. Received an existing one with files in it, or a "
            "file. Choose another place with -o, or pass --force."
        )
    archive = read_archive(place)
    stage = part_of(goal, "folder")
    try:
        sweep(goal)
        names = []
        stage.mkdir(parents=True)
        for record, arrays in contents(archive):
            target = stage / PurePosixPath(record.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(files.to_bytes(record, arrays))
            names.append(record.name)
        _move(stage, goal, names)
    except OSError as error:
        raise OutputError(
            f"output {str(goal)!r}: the place must be writable and have room. Received {error.strerror or error}. "
            "Free some space or choose another place with -o."
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return goal


def _move(stage: Path, goal: Path, names: list[str]) -> None:
    """The files under their names: the folder at once where there is none yet."""
    if not goal.exists():
        stage.rename(goal)
    for name in names if stage.exists() else ():
        place = goal / PurePosixPath(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        (stage / PurePosixPath(name)).replace(place)
    sync_folder(goal.parent)
