"""The manifest's records of packed files, as lists in a fixed order of fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from attar.archive.base import ArrayInfo, SectionInfo, broken
from attar.archive.packed import (
    AGAINST,
    FileInfo,
    PieceInfo,
    SpanInfo,
    ViewInfo,
    check_files,
    coded_form,
    piece_name,
    piece_shapes,
    shell_lengths,
)  # fmt: skip
from attar.archive.records import row, shape, typed
from attar.types import Json

SHELL = "shell"


def files_json(files: Sequence[FileInfo]) -> list[Json]:
    """[name, kind, nbytes, shell pieces, spans, views] ..."""
    return [
        [
            file.name, file.kind, file.nbytes, [_piece_json(PieceInfo(section)) for section in file.shell],
            [[s.name, s.dtype, list(s.shape), s.offset, [_piece_json(p) for p in s.pieces]] for s in file.spans],
            [[v.name, v.span, v.offset, list(v.shape), list(v.strides)] for v in file.views],
        ]
        for file in files
    ]  # fmt: skip


def _piece_json(piece: PieceInfo) -> Json:
    """[coder, nbytes, crc32], with [against, crc32 of the base] behind where there is one."""
    (info,) = piece.section.arrays
    plain: list[Json] = [info.coder, piece.section.nbytes, piece.section.crc32]
    return [*plain, piece.against, piece.base_crc32] if piece.against else plain


def files_from(value: Json) -> tuple[FileInfo, ...]:
    """Checks every field; raises FormatError."""
    files = tuple(_file(item) for item in typed(value, list, "manifest: files"))
    check_files(files)
    return files


def _file(item: Json) -> FileInfo:
    name, kind, nbytes, shell, spans, views = row(item, (str, str, int, list, list, list), "packed file")
    place = f"packed file {name!r}"
    found = tuple(_span(name, one, place) for one in spans)
    seen = tuple(_view(one, place) for one in views)
    bare = FileInfo(name, kind, nbytes, (), found, seen)
    if bare.shell_bytes < 0:
        raise broken(place, f"its tensors must fit {nbytes} bytes", f"{-bare.shell_bytes} more")
    shapes = ((length,) for length in _few(shell_lengths(bare.shell_bytes), len(shell)))
    pieces = _pieces((name, SHELL), shell, "uint8", list(shapes))
    if any(piece.against for piece in pieces):
        raise broken(place, "its shell is coded on its own", "a difference")
    sections = tuple(replace(piece.section, kind="shell") for piece in pieces)
    return FileInfo(name, kind, nbytes, sections, found, seen)


def _span(file: str, item: Json, place: str) -> SpanInfo:
    name, dtype, axes, offset, pieces = row(item, (str, str, list, int, list), place)
    size = shape(axes, place)
    coded, _, _ = coded_form(dtype, size)
    shapes = list(_few(piece_shapes(dtype, size), len(pieces)))
    return SpanInfo(name, dtype, size, offset, _pieces((file, name), pieces, coded, shapes))


def _view(item: Json, place: str) -> ViewInfo:
    name, span, offset, axes, steps = row(item, (str, str, int, list, list), place)
    size, strides = shape(axes, place), shape(steps, place)
    if len(size) != len(strides):
        raise broken(place, "a view has a stride for each axis", f"{len(strides)} for {len(size)}")
    return ViewInfo(name, span, offset, size, strides)


def _few(shapes: Iterator[int] | Iterator[tuple[int, ...]], most: int) -> Iterator[object]:
    """No more than one of them beyond those that have records: a stated size is not believed."""
    return (one for one, _ in zip(shapes, range(most + 1), strict=False))


def _pieces(names: tuple[str, str], records: list[Json], dtype: str, shapes: list[object]) -> tuple[PieceInfo, ...]:
    """The pieces of one tensor or shell: as many records as shapes."""
    place = piece_name(*names, 0)
    if len(records) != len(shapes):
        raise broken(f"section {place!r}", "it must have a record for each piece", f"{len(records)} records")
    return tuple(
        _piece(piece_name(*names, i), record, dtype, size)
        for i, (record, size) in enumerate(zip(records, shapes, strict=True))
    )


def _piece(name: str, record: Json, dtype: str, size: object) -> PieceInfo:
    """[coder, nbytes, crc32] or [coder, nbytes, crc32, against, crc32 of the base]."""
    place = f"section {name!r}"
    long = isinstance(record, list) and len(record) == 5
    fields = row(record, (str, int, int, str, int) if long else (str, int, int), place)
    coder, nbytes, crc, against, base = fields if long else (*fields, "", 0)
    if against not in AGAINST or long != bool(against):
        raise broken(place, "a difference is xor or minus", repr(against)[:50], "Upgrade attar.")
    assert isinstance(size, tuple)
    info = ArrayInfo("", dtype, size, coder, nbytes)
    return PieceInfo(SectionInfo(name, "piece", nbytes, crc, (info,)), against, base)
