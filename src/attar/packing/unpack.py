"""Unpacking: the shell and the tensors, piece by piece, put together as they were."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from attar.archive import Archive, read_archive
from attar.archive.folder import named, write_folder
from attar.archive.packed import FileInfo, PieceInfo, is_safe, to_bytes
from attar.archive.write import check_free, replace_file
from attar.errors import UsageError
from attar.packing.ahead import ahead
from attar.packing.base import Base, pieces_beside, restore
from attar.types import Array

PathLike = str | os.PathLike[str]


class Target(Protocol):
    """What takes bytes in order."""

    def write(self, data: bytes | memoryview, /) -> Any:
        """The next bytes."""
        ...


def unpack(path: PathLike, out: PathLike | None = None, *, base: PathLike | None = None, force: bool = False) -> Path:
    """Write the file or folder that was packed: to `out`, or beside the archive under its own name.

    A file goes into `out` where that is a folder. `base` is the checkpoint that it was packed against. Raises
    FormatError, UsageError, OutputError.
    """
    place = Path(path)
    other = Base(Path(base)) if base is not None else None
    archive = read_archive(place)
    if archive.parts:
        raise UsageError(
            f"archive {place.name!r}: unpack takes what `attar pack` wrote. Received a data set. "
            "`attar data unpack` writes its files."
        )
    if not archive.files:
        raise UsageError(
            f"archive {place.name!r}: unpack takes what `attar pack` wrote. Received a compressed model. "
            "`attar expand` writes it as a plain model."
        )
    name = archive.meta.get("name")
    name = name if isinstance(name, str) and "/" not in name and is_safe(name) else "unpacked"
    goal = named(Path(out)) if out is not None else place.parent / name
    if archive.meta.get("folder") is True or len(archive.files) > 1:
        return write_folder(goal, ((file.name, _writer(archive, file, other)) for file in archive.files), force)
    goal = goal / archive.files[0].name if goal.is_dir() else goal
    check_free(goal, force)
    replace_file(goal, lambda part: _write_synced(archive, archive.files[0], part, other), force)
    return goal


def _writer(archive: Archive, file: FileInfo, base: Base | None) -> Callable[[Target], None]:
    """What writes one file."""
    return lambda target: write_file(archive, file, target, base)


def _write_synced(archive: Archive, file: FileInfo, place: Path, base: Base | None) -> None:
    """One file, on the disk."""
    with place.open("xb") as target:
        write_file(archive, file, target, base)
        target.flush()
        os.fsync(target.fileno())


def write_file(archive: Archive, file: FileInfo, target: Target, base: Base | None) -> None:
    """All bytes of one packed file, in order; raises FormatError, and UsageError for a wrong base."""
    shell = _Shell(archive, file)
    stream = ahead(
        partial(_bytes_of, archive, piece, other)
        for span in file.spans
        for piece, other in zip(span.pieces, pieces_beside(base, span), strict=False)
    )
    at = 0
    for span in file.spans:
        shell.copy(span.offset - at, target)
        for _ in span.pieces:
            target.write(next(stream))
        at = span.offset + span.nbytes
    shell.copy(file.nbytes - at, target)


def _bytes_of(archive: Archive, piece: PieceInfo, base: Array | None) -> memoryview:
    """One piece of a tensor as it was in the file."""
    return to_bytes(restore(piece, archive.piece(piece.section), base))


class _Shell:
    """The shell as a stream, one piece in memory."""

    def __init__(self, archive: Archive, file: FileInfo) -> None:
        self.pieces: Iterator[bytes] = (archive.shell_piece(section) for section in file.shell)
        self.kept = memoryview(b"")

    def copy(self, length: int, target: Target) -> None:
        """The next bytes."""
        while length:
            if not self.kept:
                self.kept = memoryview(next(self.pieces))
            part = self.kept[:length]
            target.write(part)
            self.kept = self.kept[len(part) :]
            length -= len(part)
