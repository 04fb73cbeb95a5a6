"""The parts of a data set's archive in order: stacks of images, arrays, tables, sounds, streams of bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePosixPath

from attar.archive import blobs
from attar.archive.parts import PART
from attar.coding import kernel
from attar.run.progress import Progress
from attar.sets import images, mixed, solid, sound, tables
from attar.sets.contents import Source, stack_pixels
from attar.sets.lossy import Lossy
from attar.sets.records import FileRecord, image_shapes
from attar.sets.resume import Coded, Kept
from attar.sets.tiles import Stack, stacks_of
from attar.types import Array

SOUNDS = (".wav",)


@dataclass(frozen=True)
class Work:
    """What is packed, what an interrupted run has kept of it, and which images may differ, if any."""

    source: Source
    kept: Kept
    lossy: Lossy | None
    told: Progress


def coded(work: Work, records: list[FileRecord]) -> Iterator[Coded]:
    """The parts of all stacks, those of other arrays, then the streams; kinds of tables and sounds go into records."""
    source, told = work.source, work.told
    yield from _stacks(work, stacks_of(image_shapes(records)))
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


def _stacks(work: Work, stacks: Sequence[Stack]) -> Iterator[Coded]:
    """The parts of the images: without loss, each stack by itself and kept for a run that goes on, or of networks."""
    work.told.stage("coding images", len(stacks))
    if work.lossy is not None:
        yield from work.lossy.networks()
    for k, stack in enumerate(stacks):
        if work.lossy is not None and work.lossy.takes(stack):
            yield from work.lossy.parts(k, stack_pixels(work.source, stack))
        else:
            yield from _stack(work, k, stack, alone=len(stacks) == 1)
        work.told.step()
    if work.kept.found:
        work.told.note(f"{work.kept.found:,} of {len(stacks):,} stacks were there from a run that was interrupted")


def _stack(work: Work, k: int, stack: Stack, *, alone: bool) -> list[Coded]:
    """A stack that comes back as it is."""
    unit = work.kept.get(k)
    if unit is None:
        unit = images.coded(k, stack_pixels(work.source, stack))
        if not alone:
            work.kept.keep(k, unit)
    return unit


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
