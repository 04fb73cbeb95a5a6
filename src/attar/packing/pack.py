"""Packing: pieces are coded on threads, written as they come, and the file is read back before it gets its name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from attar.archive import header, read_archive
from attar.archive.folder import named
from attar.archive.manifest import packed
from attar.archive.packed import (
    FileInfo,
    PieceInfo,
    code_shell,
    piece_name,
    piece_shapes,
)  # fmt: skip
from attar.archive.packed_records import SHELL
from attar.archive.write import check_free, check_size, part_of, replace_file
from attar.errors import AttarError
from attar.formats.source import Bytes, Found, pieces_of, shell_pieces
from attar.packing import finding
from attar.packing.ahead import ahead
from attar.packing.base import Base, code, pieces_beside
from attar.packing.unpack import write_file
from attar.types import Json

PathLike = str | os.PathLike[str]
BLOCK = 1 << 22
"""Bytes that are copied at a time."""


@dataclass(frozen=True)
class Packed:
    """What was written: where, the bytes that came in and that it takes, its files, and notes for the user."""

    path: Path
    bytes_before: int
    bytes_after: int
    files: tuple[FileInfo, ...]
    notes: tuple[str, ...]


Coded = tuple[PieceInfo, bytes]


def pack(path: PathLike, out: PathLike | None = None, *, base: PathLike | None = None, force: bool = False) -> Packed:
    """Pack a checkpoint, or a folder of files, without losing a bit.

    The result, PATH.attar beside the original where `out` is not given, has been read back and compared with the
    original before it gets its name. `base` is another checkpoint, plain or packed: tensors that are close to its own
    are stored as differences, and it is needed again to unpack. Raises UsageError, FormatError, OutputError.
    """
    place = named(Path(path))
    files = finding.files_of(place)
    goal = Path(out) if out is not None else place.with_name(place.name + ".attar")
    check_free(goal, force)
    sources = {name: Bytes(file) for name, file in files.items()}
    found = {name: finding.find(source, len(files) == 1) for name, source in sources.items()}
    meta: dict[str, Json] = {"name": place.name, "folder": place.is_dir() or len(files) > 1}
    other = Base(Path(base)) if base is not None else None
    done: list[FileInfo] = []

    def write(part: Path) -> None:
        done.extend(_write(goal, part, (sources, found, other), meta))
        _compare(part, sources, other)

    replace_file(goal, write, force)
    before = sum(source.size for source in sources.values())
    notes = tuple(f"{name}: {note}" for name, one in found.items() for note in one.notes)
    return Packed(goal, before, goal.stat().st_size, tuple(done), notes)


Work = tuple[Mapping[str, Bytes], Mapping[str, Found], Base | None]
"""Files, what was found in them, and the base."""


def _write(goal: Path, part: Path, work: Work, meta: dict[str, Json]) -> tuple[FileInfo, ...]:
    """The archive as a new, synced file.

    The pieces go into a file beside it first: the header comes before them and is known after them.
    """
    side = part_of(goal, "data")
    sources, found, base = work
    try:
        with side.open("x+b") as data, part.open("xb") as target:
            files = tuple(_code_file(data, name, source, found[name], base) for name, source in sources.items())
            manifest = packed(meta, files)
            head = header.header_bytes(manifest)
            check_size(manifest, len(head) + data.tell())
            data.seek(0)
            target.write(head)
            shutil.copyfileobj(data, target, BLOCK)
            target.flush()
            os.fsync(target.fileno())
    finally:
        side.unlink(missing_ok=True)
    return files


def _code_file(out: BinaryIO, name: str, source: Bytes, found: Found, base: Base | None) -> FileInfo:
    """One file's pieces, written in order: the shell's, then the tensors'."""
    shell = []
    for piece, data in ahead(_shell_jobs(name, source, found)):
        out.write(data)
        shell.append(piece.section)
    spans, stream = [], ahead(_tensor_jobs(name, source, found, base))
    for span in found.spans:
        pieces = []
        for _ in piece_shapes(span.dtype, span.shape):
            piece, data = next(stream)
            out.write(data)
            pieces.append(piece)
        spans.append(replace(span, pieces=tuple(pieces)))
    return FileInfo(name, found.kind, source.size, tuple(shell), tuple(spans), found.views)


def _shell_jobs(name: str, source: Bytes, found: Found) -> Iterator[Callable[[], Coded]]:
    """What codes each piece of the shell."""
    for index, data in enumerate(shell_pieces(source, found.spans)):
        yield partial(_code_shell, piece_name(name, SHELL, index), data)


def _code_shell(name: str, data: bytes) -> Coded:
    section, coded = code_shell(name, data)
    return PieceInfo(section), coded


def _tensor_jobs(name: str, source: Bytes, found: Found, base: Base | None) -> Iterator[Callable[[], Coded]]:
    """What codes each piece of each tensor."""
    for span in found.spans:
        pairs = zip(pieces_of(source, span), pieces_beside(base, span), strict=False)
        for index, (array, other) in enumerate(pairs):
            yield partial(code, piece_name(name, span.name, index), array, other)


def _compare(part: Path, sources: Mapping[str, Bytes], base: Base | None) -> None:
    """That the archive gives back every byte of every file."""
    archive = read_archive(part)
    for file in archive.files:
        target = _Comparison(sources[file.name])
        write_file(archive, file, target, base)
        target.finish()


class _Comparison:
    """Takes bytes like a file, but only those that another file holds."""

    def __init__(self, source: Bytes) -> None:
        self.source = source
        self.at = 0

    def write(self, data: bytes | memoryview) -> None:
        """Compare with the next bytes; raises AttarError."""
        if self.source.read(self.at, len(data)) != data:
            raise self._different()
        self.at += len(data)

    def finish(self) -> None:
        """That there are no more."""
        if self.at != self.source.size:
            raise self._different()

    def _different(self) -> AttarError:
        return AttarError(
            f"file {self.source.path.name!r}: what was written must read back as it was. Received other bytes near "
            f"byte {self.at}. Nothing was kept: pack again, with the file at rest, and report it if it persists."
        )
