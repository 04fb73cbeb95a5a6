"""Unpacking a data set: its files, written beside and renamed when all are there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import attar
from attar.archive import Archive, read_archive
from attar.archive.folder import Begun, Named, named
from attar.errors import UsageError
from attar.run.progress import Progress, Silent
from attar.sets import files
from attar.sets.contents import contents, index_of

PathLike = str | os.PathLike[str]


def unpack(path: PathLike, out: PathLike, *, force: bool = False, progress: Progress | None = None) -> Path:
    """Write the files of a data set into the folder `out`; raises FormatError, UsageError, OutputError.

    A run that was killed or interrupted goes on with the same archive, by its name, size and time of change.
    """
    place = Path(path)
    if not place.is_file():
        raise UsageError(f"archive {str(path)!r}: it must be a file. Received none. Check the path.")
    archive, info = read_archive(place), place.stat()
    mark = json.dumps([attar.__version__, str(place.resolve()), info.st_size, info.st_mtime_ns])
    records = index_of(archive)
    begun = Begun(named(Path(out)), mark, force)
    there = [record.name for record in records if begun.has(record.name)]
    told = progress or Silent()
    told.stage("writing files", len(records))
    if there:
        told.note(f"{len(there):,} of {len(records):,} files were there from a run that was interrupted")
    return begun.finish(_files(archive, set(there), told))


def _files(archive: Archive, there: set[str], told: Progress) -> Iterator[Named]:
    """Names, and what writes them, one decoded after the other; those that are there first."""
    for name in sorted(there):
        yield name, _nothing
        told.step()
    for record, arrays in contents(archive, there.__contains__):
        yield record.name, partial(_write, files.to_bytes(record, arrays))
        told.step()


def _write(data: bytes, target: BinaryIO) -> None:
    target.write(data)


def _nothing(target: BinaryIO) -> None:
    """What is there is not written again."""
    del target
