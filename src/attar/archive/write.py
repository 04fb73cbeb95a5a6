"""Writing an archive: the same arguments give the same bytes, and a file is complete or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attar.archive import blobs, header
from attar.archive.base import ArchiveInfo, LayerInfo, SectionInfo, SkeletonInfo, TensorInfo, decoded_limit
from attar.archive.manifest import Manifest
from attar.coding import effort_for
from attar.errors import OutputError, UsageError
from attar.types import Array, Encoded, Json, Layer

_SUFFIX = ".attar-part"


def to_bytes(
    *,
    layers: Sequence[tuple[Layer, Encoded]],
    remainder: Mapping[str, Array],
    skeleton: bytes | None,
    meta: Mapping[str, Json],
    coder: str = "auto",
) -> bytes:
    """The bytes of a .attar file; raises UsageError for names given twice, meta that is not JSON, odd dtypes.

    coder is auto, fast or dense: how much time decoding may take for the sake of size (coding.effort_for).
    """
    _, parts = _build(layers, remainder, skeleton, meta, coder)
    return b"".join(parts)


def write_archive(
    path: Path,
    *,
    layers: Sequence[tuple[Layer, Encoded]],
    remainder: Mapping[str, Array],
    skeleton: bytes | None,
    meta: Mapping[str, Json],
    coder: str = "auto",
    force: bool = False,
) -> ArchiveInfo:
    """Write a .attar file; an existing one is replaced only with `force`, and only when the new one is on the disk.

    Raises OutputError where the place exists, is read-only or is full, with the old file untouched and nothing left
    behind, and UsageError as `to_bytes` does.
    """
    place = Path(path)
    check_free(place, force)
    manifest, parts = _build(layers, remainder, skeleton, meta, coder)
    replace_file(place, lambda part: _write_synced(part, parts), force)
    return ArchiveInfo(place, sum(map(len, parts)), manifest.sections)


def _build(
    layers: Sequence[tuple[Layer, Encoded]],
    remainder: Mapping[str, Array],
    skeleton: bytes | None,
    meta: Mapping[str, Json],
    coder: str,
) -> tuple[Manifest, list[bytes]]:
    """The manifest, and the file in pieces."""
    names = [layer.name for layer, _ in layers]
    if len(set(names)) != len(names):
        raise UsageError(f"archive: every layer must have a name of its own. Received {names}. Rename one.")
    effort = effort_for(coder, [array for _, encoded in layers for array in encoded.arrays.values()])
    coded = [blobs.code_arrays(layer.name, "layer", encoded.arrays, effort) for layer, encoded in layers]
    infos = tuple(LayerInfo(layer, encoded.method, dict(encoded.meta)) for layer, encoded in layers)
    tensors: tuple[TensorInfo, ...] = ()
    form: SkeletonInfo | None = None
    if remainder:
        tensors, section, blob = blobs.code_remainder(remainder)
        coded.append((section, blob))
    if skeleton is not None:
        form, section, blob = blobs.code_skeleton(skeleton)
        coded.append((section, blob))
    manifest, head = described(meta, [section for section, _ in coded], infos, (tensors, form))
    parts = [head]
    by_section = dict(coded)
    for group in header.groups(manifest).values():
        parts += [by_section[section] for section in group]
    check_size(manifest, sum(map(len, parts)))
    return manifest, parts


def described(
    meta: Mapping[str, Json],
    sections: Sequence[SectionInfo],
    layers: Sequence[LayerInfo],
    others: tuple[tuple[TensorInfo, ...], SkeletonInfo | None],
) -> tuple[Manifest, bytes]:
    """The manifest and the header of an archive; raises UsageError."""
    manifest = Manifest(dict(meta), tuple(sections), tuple(layers), *others)
    try:
        return manifest, header.header_bytes(manifest)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"archive: meta must be JSON with finite numbers. Received something else ({error}). Convert it first."
        ) from error


def check_size(manifest: Manifest, file_bytes: int) -> None:
    """That a reader will believe the file."""
    size = manifest.decoded_bytes
    if size > decoded_limit(file_bytes):
        raise UsageError(
            f"archive: a file of {file_bytes} bytes may hold {decoded_limit(file_bytes)} bytes of arrays. "
            f"Received {size}, nearly all of them constant. Remove the layers that hold nothing."
        )


def check_free(path: Path, force: bool) -> None:
    """That a file may be written there; raises OutputError."""
    if path.is_dir():
        raise OutputError(f"output {str(path)!r}: it must be a file. Received a folder. Give the file a name.")
    if path.exists() and not force:
        raise OutputError(
            f"output {str(path)!r}: an existing file is not overwritten. Received one. Choose another, or use force."
        )


def part_of(place: Path, what: str = "") -> Path:
    """A hidden name beside a place for what this process writes; `sweep` finds it if the process is killed."""
    return place.with_name(f".{place.name}.{what}{'.' if what else ''}{os.getpid()}{_SUFFIX}")


def replace_file(path: Path, write: Callable[[Path], None], force: bool) -> None:
    """Let `write` make a new, synced file beside the place, rename it, sync the folder; raises OutputError."""
    place = path.resolve() if path.is_symlink() else path
    part = part_of(place)
    try:
        sweep(place)
        try:
            write(part)
            check_free(place, force)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(place.parent)
    except OSError as error:
        raise OutputError(
            f"output {str(path)!r}: the place must be writable and have room. Received {error.strerror or error}. "
            "Nothing that was there has been changed: free some space or choose another place."
        ) from error


def _write_synced(part: Path, parts: Sequence[bytes]) -> None:
    """A new file with these bytes, on the disk."""
    with part.open("xb") as file:
        for data in parts:
            file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """The rename, on the disk; not every system lets a folder be opened."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(place: Path) -> None:
    """Remove what a killed process left of the same file."""
    for old in place.parent.glob(f".{place.name}.*{_SUFFIX}"):
        owner = old.name.removesuffix(_SUFFIX).rpartition(".")[2]
        if owner.isdecimal() and not _alive(int(owner)):
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    """Whether a process exists; on Windows it is taken to, because signal 0 would end it."""
    if os.name == "nt" or process == os.getpid():
        return process != os.getpid()
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
