"""The files of a run: written into a hidden folder beside the old ones, which are replaced only when all is done."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from attar.errors import OutputError

PREFIX = ".attar-run-"


def check_free(folder: Path, names: list[str], force: bool) -> None:
    """That the outputs can be written; raises OutputError before any work is done."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(
            f"output {str(folder)!r}: it must be a folder. Received a file. Choose another place with -o."
        )
    taken = [name for name in names if (folder / name).exists()]
    if taken and not force:
        raise OutputError(
            f"output {str(folder)!r}: existing files are not overwritten. Received a folder that holds "
            f"{', '.join(taken)}. Choose another place with -o, or pass --force."
        )


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A hidden folder inside `folder` for the files of a run, gone afterwards, with what earlier killed runs left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(PREFIX + "*"):
            if not _alive(old):
                shutil.rmtree(old, ignore_errors=True)
        place = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=folder))
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _alive(place: Path) -> bool:
    """Whether the run that owns a hidden folder still goes on."""
    try:
        os.kill(int(place.name.removeprefix(PREFIX).split("-")[0]), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError):
        return True
    return True


def publish(place: Path, folder: Path) -> None:
    """Sync every staged file to disk, then rename them into the folder, one after the other."""
    try:
        files = sorted(path for path in place.iterdir())
        for path in files:
            _sync(path)
        for path in files:
            path.replace(folder / path.name)
        _sync(folder)
    except OSError as error:
        raise output_error(folder, error) from error


def write(path: Path, data: bytes) -> None:
    """The bytes as a file; raises OutputError."""
    guarded(lambda: path.write_bytes(data), path)


def guarded(action: Callable[[], object], place: Path) -> None:
    """Run something that writes; what the operating system refuses becomes an OutputError."""
    try:
        action()
    except OSError as error:
        raise output_error(place, error) from error


def _sync(path: Path) -> None:
    """fsync of a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def output_error(place: Path, error: OSError) -> OutputError:
    """What the operating system said, as an error of ours."""
    return OutputError(
        f"output {str(place)!r}: the place must be writable and have room. Received {error.strerror or error}. "
        "Nothing that was there has been changed: free some space or choose another place with -o."
    )
