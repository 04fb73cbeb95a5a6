"""Writing an archive whose layers come one by one: what is coded waits on the disk, not in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from attar.archive import blobs, header
from attar.archive.base import ArchiveInfo, LayerInfo, SectionInfo, SkeletonInfo, TensorInfo
from attar.archive.write import check_free, check_size, described, part_of, replace_file
from attar.types import Array, Encoded, Json, Layer

BLOCK = 1 << 22
"""Bytes that are copied at a time."""
Coded = tuple[LayerInfo, SectionInfo, bytes]
"""A layer's record, its section and that section's bytes."""


def coded(layer: Layer, encoded: Encoded, effort: str) -> Coded:
    """A layer as it stands in the file; effort as in coding.encode_array."""
    section, blob = blobs.code_arrays(layer.name, "layer", encoded.arrays, effort)
    return LayerInfo(layer, encoded.method, dict(encoded.meta)), section, blob


def write_streamed(
    place: Path,
    *,
    layers: Iterable[Coded],
    remainder: Mapping[str, Array],
    skeleton: bytes | None,
    meta: Mapping[str, Json],
    force: bool = False,
) -> ArchiveInfo:
    """Write a .attar file, the same bytes as write_archive makes of the same parts; raises what that raises."""
    check_free(place, force)
    done: list[ArchiveInfo] = []

    def write(part: Path) -> None:
        side = part_of(place, "data")
        try:
            with side.open("x+b") as data, part.open("xb") as target:
                done.append(_write(place, data, target, (layers, remainder, skeleton, meta)))
        finally:
            side.unlink(missing_ok=True)

    replace_file(place, write, force)
    return done[0]


def _write(
    place: Path,
    data: BinaryIO,
    target: BinaryIO,
    parts: tuple[Iterable[Coded], Mapping[str, Array], bytes | None, Mapping[str, Json]],
) -> ArchiveInfo:
    """Sections into one file as they come, then all of the other in its order, synced."""
    layers, remainder, skeleton, meta = parts
    starts: dict[SectionInfo, int] = {}
    infos = []

    def put(section: SectionInfo, blob: bytes) -> None:
        starts[section] = data.tell()
        data.write(blob)

    for info, section, blob in layers:
        infos.append(info)
        put(section, blob)
    tensors: tuple[TensorInfo, ...] = ()
    form: SkeletonInfo | None = None
    if remainder:
        tensors, section, blob = blobs.code_remainder(remainder)
        put(section, blob)
    if skeleton is not None:
        form, section, blob = blobs.code_skeleton(skeleton)
        put(section, blob)
    manifest, head = described(meta, list(starts), infos, (tensors, form))
    check_size(manifest, len(head) + data.tell())
    target.write(head)
    for group in header.groups(manifest).values():
        for section in group:
            data.seek(starts[section])
            _copy(data, target, section.nbytes)
    target.flush()
    os.fsync(target.fileno())
    return ArchiveInfo(place, target.tell(), manifest.sections)


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    for start in range(0, size, BLOCK):
        target.write(source.read(min(BLOCK, size - start)))
