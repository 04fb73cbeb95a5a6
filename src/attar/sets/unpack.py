"""Unpacking a data set: its files, written beside and renamed when all are there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from attar.archive import Archive, read_archive
from attar.archive.folder import Named, named, write_folder
from attar.errors import UsageError
from attar.sets import files
from attar.sets.contents import contents

PathLike = str | os.PathLike[str]


def unpack(path: PathLike, out: PathLike, *, force: bool = False) -> Path:
    """Write the files of a data set into the folder `out`; raises FormatError, UsageError, OutputError."""
    place = Path(path)
    if not place.is_file():
        raise UsageError(f"archive {str(path)!r}: it must be a file. Received none. Check the path.")
    return write_folder(named(Path(out)), _files(read_archive(place)), force)


def _files(archive: Archive) -> Iterator[Named]:
    """Names, and what writes them, one decoded after the other."""
    for record, arrays in contents(archive):
        yield record.name, partial(_write, files.to_bytes(record, arrays))


def _write(data: bytes, target: BinaryIO) -> None:
    target.write(data)
