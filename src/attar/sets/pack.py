"""Packing a data set: its files are looked at, coded stack by stack, and the archive is read back and compared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from attar.archive import blobs, header, read_archive
from attar.archive.folder import named
from attar.archive.manifest import Manifest, in_parts
from attar.archive.packed import is_safe
from attar.archive.parts import PART
from attar.archive.write import check_free, check_size, part_of, replace_file
from attar.coding import kernel
from attar.errors import AttarError, UsageError
from attar.run.progress import Progress, Silent
from attar.sets import files, images, mixed, solid, sound, tables
from attar.sets.contents import Source, contents, stack_pixels
from attar.sets.records import FileRecord, image_shapes, to_json
from attar.sets.resume import Coded, Kept
from attar.sets.tiles import stacks_of
from attar.types import Array, Json

PathLike = str | os.PathLike[str]
SOUNDS = (".wav",)


@dataclass(frozen=True)
class PackedSet:
    """What was written: where, bytes of the files and of the archive, files by kind, images, bytes of their pixels."""

    path: Path
    bytes_before: int
    bytes_after: int
    kinds: dict[str, int]
    images: int
    pixels: int


def pack(
    path: PathLike, out: PathLike | None = None, *, force: bool = False, progress: Progress | None = None
) -> PackedSet:
    """Pack a folder or a file so that every pixel, label, name, number, sample and letter comes back.

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
    source = Source(found, records)
    kept = Kept(goal, found)

    def write(part: Path) -> None:
        try:
            work = (goal, source, kept, told)
            records[:] = _write(part, work, {"name": place.name, "folder": place.is_dir()})
            _compare(part, source, told)
        except Exception:
            # Only a run that was killed or interrupted goes on: what failed would fail again, or needs the room.
            kept.close()
            raise

    replace_file(goal, write, force)
    kept.close()
    kinds = {kind: sum(one.kind == kind for one in records) for kind in sorted({one.kind for one in records})}
    shapes = image_shapes(records)
    pixels = sum(height * width * channels for height, width, channels in shapes)
    before = sum(file.stat().st_size for file in found.values())
    return PackedSet(goal, before, goal.stat().st_size, kinds, len(shapes), pixels)


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


def _write(part: Path, work: tuple[Path, Source, Kept, Progress], meta: dict[str, Json]) -> list[FileRecord]:
    """The archive as a new, synced file, and what its files have become; parts go into a file beside it first."""
    goal, source, kept, told = work
    side = part_of(goal, "data")
    try:
        with side.open("x+b") as data, part.open("xb") as target:
            sections, records = [], list(source.records)
            for section, blob in _coded(source, records, kept, told):
                data.write(blob)
                sections.append(section)
            form, _, blob = blobs.code_skeleton(to_json(records))
            section, blob = _plain("index", blob)
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


def _plain(name: str, data: bytes) -> Coded:
    """Bytes as a part."""
    return blobs.code_arrays(name, PART, {"bytes": np.frombuffer(data, np.uint8)})


def _coded(source: Source, records: list[FileRecord], kept: Kept, told: Progress) -> Iterator[Coded]:
    """The parts of all stacks, those of other arrays, then the streams; kinds of tables and sounds go into records."""
    stacks = stacks_of(image_shapes(records))
    told.stage("coding images", len(stacks))
    for k, stack in enumerate(stacks):
        unit = kept.get(k)
        if unit is None:
            arrays, parts = images.encode(stack_pixels(source, stack))
            unit = [blobs.code_arrays(f"stack {k}", PART, arrays)]
            unit += [_plain(f"stack {k} part {j}", data) for j, data in enumerate(parts)]
            if len(stacks) > 1:
                kept.keep(k, unit)
        yield from unit
        told.step()
    if kept.found:
        told.note(f"{kept.found:,} of {len(stacks):,} stacks were there from a run that was interrupted")
    told.stage("coding other files", len(records))
    for f, record in enumerate(records):
        told.step()
        if record.kind == "bytes":
            records[f], parts_found = _special(source, f, record)
            yield from parts_found
            continue
        for a, array in enumerate(record.arrays):
            if not array.images:
                values: Array = source.content(f)[array.name]
                yield blobs.code_arrays(f"file {f} array {a}", PART, {"values": values})
    yield from _streams(source, records, told)


def _special(source: Source, f: int, record: FileRecord) -> tuple[FileRecord, list[Coded]]:
    """A table or a sound as such, with its parts, where that makes it smaller; else the record as it is."""
    suffix = PurePosixPath(record.name).suffix.lower()
    if suffix not in (*tables.SUFFIXES, *SOUNDS):
        return record, []
    data = source.content(f)[""].tobytes()
    if suffix in SOUNDS:
        arrays = sound.encode(data)
        kind, detail, parts = "audio", "", [] if arrays is None else [(f"file {f} array 0", arrays)]
    else:
        blocks = tables.encode(data, suffix) or []
        kind, detail = "table", str(len(blocks))
        parts = [(f"file {f} block {b}", block) for b, block in enumerate(blocks)]
    coded = [blobs.code_arrays(name, PART, arrays, "dense") for name, arrays in parts]
    size = sum(len(blob) for _, blob in coded)
    if not coded or size >= len(blobs.code_skeleton(data)[2]):
        return record, []
    return replace(record, kind=kind, detail=detail), coded


def _streams(source: Source, records: list[FileRecord], told: Progress) -> Iterator[Coded]:
    """The blocks of all streams, some of them at a time."""
    streams = solid.streams_of(records)
    told.stage("coding bytes", sum(stream.blocks for stream in streams))
    for s, stream in enumerate(streams):
        cut = _blocks(source, stream)
        done = 0
        while blocks := list(islice(cut, min(kernel.threads(), solid.AT_ONCE))):
            for codec, data in kernel.over_chunks(mixed.code_bytes, blocks):
                yield blobs.code_arrays(f"stream {s} block {done}", PART, {codec: data})
                done += 1
                told.step()


def _blocks(source: Source, stream: solid.Stream) -> Iterator[bytes]:
    """The bytes of a stream's files, block by block."""
    held = bytearray()
    for f in stream.files:
        held += source.content(f)[""].tobytes()
        while len(held) >= solid.BLOCK:
            yield bytes(held[: solid.BLOCK])
            del held[: solid.BLOCK]
    if held:
        yield bytes(held)


def _compare(part: Path, source: Source, told: Progress) -> None:
    """That the archive gives back every array of every file."""
    told.stage("comparing", len(source.records))
    for f, (record, arrays) in enumerate(contents(read_archive(part))):
        told.step()
        before = source.content(f)
        same = record.name == source.records[f].name and list(before) == list(arrays)
        if not same or any(_differs(before[name], arrays[name]) for name in before):
            raise AttarError(
                f"file {record.name!r}: what was written must read back as it was. Received other values. Nothing was "
                "kept: pack again, with the file at rest, and report it if it persists."
            )


def _differs(a: Array, b: Array) -> bool:
    return a.dtype != b.dtype or a.shape != b.shape or np.ascontiguousarray(a).tobytes() != b.tobytes()
