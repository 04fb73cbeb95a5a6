"""Packing a data set: its files are looked at, coded stack by stack, and the archive is read back and compared."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from attar.archive import blobs, header, read_archive
from attar.archive.folder import named
from attar.archive.manifest import Manifest, in_parts
from attar.archive.packed import is_safe
from attar.archive.write import check_free, check_size, part_of, replace_file
from attar.errors import AttarError, UsageError
from attar.run.progress import Progress, Silent
from attar.sets import files
from attar.sets.coded import Work, coded
from attar.sets.contents import Source, contents
from attar.sets.images import plain
from attar.sets.lossy import Loss, Lossy, Lost, squares
from attar.sets.records import FileRecord, image_shapes, to_json
from attar.sets.resume import Kept
from attar.sets.tiles import stacks_of
from attar.types import Array, Json

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class PackedSet:
    """What was written: where, bytes of the files and of the archive, files by kind, images, bytes of their pixels.

    lost is what images lost, where they were allowed to.
    """

    path: Path
    bytes_before: int
    bytes_after: int
    kinds: dict[str, int]
    images: int
    pixels: int
    lost: Lost | None = None


def pack(
    path: PathLike,
    out: PathLike | None = None,
    *,
    loss: Loss | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> PackedSet:
    """Pack a folder or a file so that every pixel, label, name, number, sample and letter comes back.

    With `loss` images may differ, by as much as it says (quality 1, or `exact`: not at all); all else comes back as it
    was.

    The result, PATH.attar beside the original where `out` is not given, has been read back and compared before it gets
    its name. Pixels are kept, not the bytes of the pictures' files: an unpacked PNG may be larger or smaller. Raises
    UsageError, OutputError.
    """
    place = named(Path(path))
    found = _files_of(place)
    goal = Path(out) if out is not None else place.with_name(place.name + ".attar")
    check_free(goal, force)
    told = progress or Silent()
    told.stage("looking", len(found))
    records = []
    for name, file in found.items():
        records.append(files.look(file, name)[0])
        told.step()
    source, lossy = Source(found, records), None
    if loss is not None and loss.quality != 1:
        lossy = Lossy(loss, place, (source, stacks_of(image_shapes(records))), told)
    work = Work(source, Kept(goal, found), lossy, told)
    lost: list[Lost | None] = [None]

    def write(part: Path) -> None:
        try:
            records[:] = _write(part, goal, work, {"name": place.name, "folder": place.is_dir()})
            back = _compare(part, work)
            lost[0] = lossy.lost(back) if lossy is not None else None
        except Exception:
            # Only a run that was killed or interrupted goes on: what failed would fail again, or needs the room.
            work.kept.close()
            raise

    replace_file(goal, write, force)
    work.kept.close()
    kinds = {kind: sum(one.kind == kind for one in records) for kind in sorted({one.kind for one in records})}
    shapes = image_shapes(records)
    pixels = sum(height * width * channels for height, width, channels in shapes)
    before = sum(file.stat().st_size for file in found.values())
    return PackedSet(goal, before, goal.stat().st_size, kinds, len(shapes), pixels, lost[0])


def _files_of(place: Path) -> dict[str, Path]:
    """Relative names and places, in order; raises UsageError."""
    if place.is_dir():
        found = {file.relative_to(place).as_posix(): file for file in sorted(place.rglob("*")) if file.is_file()}
    else:
        found = {place.name: place} if place.is_file() else {}
    if not found:
        raise UsageError(f"data {str(place)!r}: it must be a file or a folder of files. Received none. Check the path.")
    for name in found:
        if not is_safe(name):
            raise UsageError(
                f"file {name!r}: its name must be one that every system takes. Received it. Rename the file."
            )
    return found


def _write(part: Path, goal: Path, work: Work, meta: dict[str, Json]) -> list[FileRecord]:
    """The archive as a new, synced file, and what its files have become; parts go into a file beside it first."""
    side = part_of(goal, "data")
    try:
        with side.open("x+b") as data, part.open("xb") as target:
            sections, records = [], list(work.source.records)
            for section, blob in coded(work, records):
                data.write(blob)
                sections.append(section)
            form, _, blob = blobs.code_skeleton(to_json(records))
            section, blob = plain("index", blob)
            data.write(blob)
            manifest = in_parts({**meta, "index": [form.codec, form.length]}, (*sections, section))
            _join(target, data, manifest, header.header_bytes(manifest))
    finally:
        side.unlink(missing_ok=True)
    return records


def _join(target: BinaryIO, data: BinaryIO, manifest: Manifest, head: bytes) -> None:
    """Header, then the parts, those of each tensor together."""
    check_size(manifest, len(head) + data.tell())
    starts, at = {}, 0
    for section in manifest.sections:
        starts[section.name] = at
        at += section.nbytes
    target.write(head)
    for group in header.groups(manifest).values():
        for section in group:
            data.seek(starts[section.name])
            target.write(data.read(section.nbytes))
    target.flush()
    os.fsync(target.fileno())


def _compare(part: Path, work: Work) -> dict[int, Array]:
    """That the archive gives back every array of every file, or images with the error that was counted in coding.

    Of images that may differ, those that `lossy` wants are handed back as they were read, by number.
    """
    source, lossy = work.source, work.lossy
    work.told.stage("comparing", len(source.records))
    wanted = lossy.wanted() if lossy is not None else set()
    back: dict[int, Array] = {}
    error = image = 0
    for f, (record, arrays) in enumerate(contents(read_archive(part))):
        work.told.step()
        before = source.content(f)
        same = record.name == source.records[f].name and list(before) == list(arrays)
        for array in record.arrays if same else ():
            one, other = before[array.name], arrays[array.name]
            if lossy is None or not array.images or not lossy.alters(array.image_shape[2]):
                same = same and not _differs(one, other)
            else:
                error += squares(one, other)
                pixels = other.reshape(array.images, *array.image_shape)
                back |= {image + at: pixels[at].copy() for at in range(array.images) if image + at in wanted}
            image += array.images
        if not same:
            raise _altered(f"file {record.name!r}")
    if lossy is not None and not lossy.loss.exact and error != lossy.error:
        raise _altered("images")
    return back


def _altered(place: str) -> AttarError:
    return AttarError(
        f"{place}: what was written must read back as it was. Received other values. Nothing was "
        "kept: pack again, with the file at rest, and report it if it persists."
    )


def _differs(a: Array, b: Array) -> bool:
    return a.dtype != b.dtype or a.shape != b.shape or np.ascontiguousarray(a).tobytes() != b.tobytes()
