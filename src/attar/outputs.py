"""The files of a run: written into a hidden folder beside the old ones, which are replaced only when all is done."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from attar.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")
PREFIX = ".attar-run-"
MOVING = ".attar-moving"
"""Lies in a folder while files are renamed into it: which they are. A run that is killed then may be given again."""


def check_free(folder: Path, names: list[str], force: bool) -> None:
    """That the outputs can be written, names that end in "/" as folders; raises OutputError before any work is done."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(
            f"output {str(folder)!r}: it must be a folder. Received a file. Choose another place with -o."
        )
    _check_names(folder, names, force)
    if not force and any(_running(stage) for stage in _stages(folder) if any((stage / n).exists() for n in names)):
        raise OutputError(
            f"output {str(folder)!r}: one run at a time can write there. Received a folder in which another run is at "
            "work. Choose another place with -o, or pass --force: then the last to end stays."
        )


def _check_names(folder: Path, names: list[str], force: bool) -> None:
    """That no folder is in the way of a file or the reverse, and nothing at all where `force` is missing."""
    for name in names:
        wanted, other = ("folder", "file") if name.endswith("/") else ("file", "folder")
        place = folder / name.rstrip("/")
        if os.path.lexists(place) and place.is_dir() != (wanted == "folder"):
            raise OutputError(
                f"output {str(folder / name)!r}: a {wanted} will be written there. Received a {other} of that name. "
                "Choose another place with -o."
            )
    half = _half_moved(folder)
    taken = [name for name in names if os.path.lexists(place := folder / name.rstrip("/")) and place.name not in half]
    if taken and not force:
        raise OutputError(
            f"output {str(folder)!r}: existing files are not overwritten. Received a folder that holds "
            f"{', '.join(taken)}. Choose another place with -o, or pass --force."
        )


def _half_moved(folder: Path) -> set[str]:
    """Names of what a run that was killed while it moved its files has put there, where it is still the same."""
    try:
        moved = json.loads((folder / MOVING).read_bytes())
        return {name for name, mark in moved.items() if os.path.lexists(folder / name) and _mark(folder / name) == mark}
    except (OSError, ValueError, AttributeError):
        return set()


def _mark(path: Path) -> list[int]:
    """What tells a file from any other that may come to have its name, and stays when it is renamed."""
    info = path.lstat()
    return [info.st_ino, info.st_mtime_ns, info.st_size]


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A hidden folder inside `folder` for the files of a run, gone afterwards, with what earlier killed runs left.

    Where nothing is written, folders that were made for it are gone too. Raises OutputError.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    place, lock = None, None
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            place, lock = _stage(folder)
        except OSError as error:
            raise output_error(folder, error) from error
        yield place
    finally:
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
        if lock is not None:
            os.close(lock)
        for path in made:
            with contextlib.suppress(OSError):  # the results are in it
                path.rmdir()


def _stages(folder: Path) -> list[Path]:
    """Hidden folders of runs that are at work, or were killed."""
    return list(folder.glob(PREFIX + "*"))


def _stage(folder: Path) -> tuple[Path, int | None]:
    """A new hidden folder and its lock; it gets its name when it is locked, so that nobody sweeps it before."""
    fresh = Path(tempfile.mkdtemp(prefix=".attar-new-", dir=folder))
    place = folder / fresh.name.replace(".attar-new-", PREFIX)
    lock = None
    with contextlib.suppress(OSError):
        lock = _lock(fresh)
    fresh.rename(place)
    return place, lock


def _lock(place: Path) -> int | None:
    """A folder's lock, which the system takes back when this process ends in whatever way; None on Windows.

    Raises BlockingIOError where another run has it, OSError where the file system has no locks.
    """
    if fcntl is None:
        return None
    handle = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _sweep(folder: Path) -> None:
    """Remove what killed runs left; what cannot be locked is not known to be left, and stays."""
    for stage in _stages(folder):
        with contextlib.suppress(OSError):
            lock = _lock(stage)
            if lock is not None:
                shutil.rmtree(stage, ignore_errors=True)
                os.close(lock)


def _running(stage: Path) -> bool:
    """Whether the run that a hidden folder belongs to still goes on."""
    try:
        lock = _lock(stage)
    except BlockingIOError:
        return True
    except OSError:
        return False
    if lock is not None:
        os.close(lock)
    return False


def publish(place: Path, folder: Path, force: bool = True) -> None:
    """Sync every staged file to disk, then rename them into the folder, one after the other.

    Without `force`, what another run has put there meanwhile is not replaced. Raises OutputError.
    """
    try:
        files = sorted(path for path in place.iterdir())
        for path in [inner for file in files for inner in (*file.rglob("*"), file)]:
            _sync(path)
        _check_names(folder, [path.name + "/" * path.is_dir() for path in files], force)
        if len(files) > 1:
            (folder / MOVING).write_text(json.dumps({path.name: _mark(path) for path in files}))
            _sync(folder / MOVING)
        for path in files:
            if path.is_dir() and (folder / path.name).is_dir():
                (folder / path.name).rename(place / f".before-{path.name}")  # gone with the hidden folder
            path.replace(folder / path.name)
        (folder / MOVING).unlink(missing_ok=True)
        _sync(folder)
    except OSError as error:
        raise output_error(folder, error) from error


def write(path: Path, data: bytes) -> None:
    """The bytes as a file; raises OutputError."""
    guarded(lambda: path.write_bytes(data), path)


def guarded(action: Callable[[], T], place: Path) -> T:
    """Run something that writes; what the operating system refuses becomes an OutputError."""
    try:
        return action()
    except OSError as error:
        raise output_error(place, error) from error


def _sync(path: Path) -> None:
    """fsync of a file or a folder; Windows syncs neither through a handle for reading."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def output_error(place: Path, error: OSError) -> OutputError:
    """What the operating system said, as an error of ours; the hidden folder is not for the reader."""
    shown = Path(*(part for part in place.parts if not part.startswith(PREFIX)))
    return OutputError(
        f"output {str(shown)!r}: the place must be writable and have room. Received {error.strerror or error}. "
        "Nothing that was there has been changed: free some space or choose another place with -o."
    )
