"""Folders that an archive is unpacked into: complete or not there, like its files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from attar.archive.write import part_of, sweep, sync_folder
from attar.errors import OutputError

Named = tuple[str, Callable[[BinaryIO], object]]
"""A file's relative name, and what writes its bytes."""


def named(path: Path) -> Path:
    """The same place with a name of its own: "." and ".." have none to put a hidden file beside."""
    return path.resolve() if path.name in ("", "..") else path


def write_folder(goal: Path, files: Iterable[Named], force: bool) -> Path:
    """All files into a hidden folder beside, synced, then under their names; those of other names stay.

    Raises OutputError where the place has files in it (unless `force`), is no folder, is read-only or full, and what
    the files' own writing raises; nothing is left behind then.
    """
    if goal.exists() and (not goal.is_dir() or (not force and any(goal.iterdir()))):
        raise OutputError(
            f"output {str(goal)!r}: a folder will be written there. Received an existing one with files in it, or a "
            "file. Choose another place with -o, or pass --force."
        )
    stage = part_of(goal, "folder")
    try:
        sweep(goal)
        stage.mkdir(parents=True)
        names = [_written(stage, name, write) for name, write in files]
        _move(stage, goal, names)
    except OSError as error:
        raise OutputError(
            f"output {str(goal)!r}: the place must be writable and have room. Received {error.strerror or error}. "
            "Free some space or choose another place with -o."
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return goal


def _written(stage: Path, name: str, write: Callable[[BinaryIO], object]) -> str:
    """One file, on the disk; its name."""
    place = stage / PurePosixPath(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("xb") as target:
        write(target)
        target.flush()
        os.fsync(target.fileno())
    return name


def _move(stage: Path, goal: Path, names: list[str]) -> None:
    """The files under their names: the folder at once where there is none yet."""
    if not goal.exists():
        stage.rename(goal)
    places = [goal / PurePosixPath(name) for name in names]
    for name, place in zip(names, places, strict=True) if stage.exists() else ():
        place.parent.mkdir(parents=True, exist_ok=True)
        (stage / PurePosixPath(name)).replace(place)
    for folder in {goal.parent, goal, *(place.parent for place in places)}:
        sync_folder(folder)
