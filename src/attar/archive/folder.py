"""Folders that an archive is unpacked into: complete or not there, like its files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from threading import get_ident
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
    _check(goal, force)
    stage = part_of(goal, "folder")
    try:
        with _told(goal):
            sweep(goal)
            stage.mkdir(parents=True)
            names = [_written(stage, name, write) for name, write in files]
            _move(stage, goal, names)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return goal


class Begun:
    """A folder that is being written, hidden beside its place as .NAME.work; a run that was killed goes on with it.

    mark says what the files are made from: those of another mark are removed. What is there under its name is whole.
    """

    def __init__(self, goal: Path, mark: str, force: bool) -> None:
        """Raises OutputError, as `write_folder` does."""
        _check(goal, force)
        self._goal, self._work = goal, goal.with_name(f".{goal.name}.work")
        with _told(goal):
            sweep(goal)
            known = self._work / "mark"
            # A folder of that name without a mark is somebody else's, but for an empty one.
            if self._work.exists() and not known.is_file() and any(self._work.iterdir()):
                self._work = part_of(goal, "folder")
            elif known.is_file() and known.read_text(encoding="utf-8", errors="replace") != mark:
                shutil.rmtree(self._work)
            self._stage = self._work / "files"
            # The mark comes first: a run that is killed here leaves a folder that the next one knows.
            self._work.mkdir(parents=True, exist_ok=True)
            (self._work / "mark").write_text(mark, encoding="utf-8")
            self._stage.mkdir(exist_ok=True)

    def has(self, name: str) -> bool:
        """Whether an earlier run has written this file."""
        return (self._stage / PurePosixPath(name)).is_file()

    def write(self, name: str, make: Callable[[Path], object]) -> None:
        """A file that `make` writes at the path it is given, unless it is there; threads may write at a time."""
        if self.has(name):
            return
        place = self._stage / PurePosixPath(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = self._work / f"part-{get_ident()}"
        make(part)
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        part.replace(place)

    def finish(self, files: Iterable[Named]) -> Path:
        """Write those that are missing and move all to their place; what fails leaves nothing, what is killed goes on.

        Raises OutputError and what the files' own writing raises.
        """
        try:
            with _told(self._goal):
                names = [
                    name if self.has(name) else _written(self._stage, name, write, self._work / "part")
                    for name, write in files
                ]
                _move(self._stage, self._goal, names)
        except Exception:
            shutil.rmtree(self._work, ignore_errors=True)
            raise
        shutil.rmtree(self._work, ignore_errors=True)
        return self._goal


def _check(goal: Path, force: bool) -> None:
    """That a folder may be written there; raises OutputError."""
    if goal.exists() and (not goal.is_dir() or (not force and any(goal.iterdir()))):
        raise OutputError(
            f"output {str(goal)!r}: a folder will be written there. Received an existing one with files in it, or a "
            "file. Choose another place with -o, or pass --force."
        )


@contextmanager
def _told(goal: Path) -> Iterator[None]:
    """What the system refuses, as an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"output {str(goal)!r}: the place must be writable and have room. Received {error.strerror or error}. "
            "Free some space or choose another place with -o."
        ) from error


def _written(stage: Path, name: str, write: Callable[[BinaryIO], object], part: Path | None = None) -> str:
    """One file, on the disk, under its name when it is whole where a place for its part is given; its name."""
    place = stage / PurePosixPath(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    with (part or place).open("xb" if part is None else "wb") as target:
        write(target)
        target.flush()
        os.fsync(target.fileno())
    if part is not None:
        part.replace(place)
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
