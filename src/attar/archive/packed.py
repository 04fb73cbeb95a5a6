"""Packed files: byte ranges that are tensors, cut into pieces that are coded alone, and the rest, the file's shell.

A file is the shell with the tensors put in at their offsets, so it is reproduced to the byte whatever its format is.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from attar.archive import blobs
from attar.archive.base import ArrayInfo, SectionInfo, SkeletonInfo, broken, count
from attar.coding import decode_array, decode_arrays, encode_array, known_dtype
from attar.errors import FormatError
from attar.types import Array

PIECE = 1 << 22
"""Elements of a piece at most; part of the file format."""
CODED_AS = {"bool": "uint8", "complex64": "float32", "complex128": "float64"}
"""Dtypes that are coded as others: a stranger's booleans may be any byte, a complex number is two floats."""
AGAINST = ("", "xor", "minus")
"""What a piece holds: its own bits, those that differ from the base's, or the difference of their ordered integers."""


@dataclass(frozen=True, slots=True)
class PieceInfo:
    """One piece of a tensor; base_crc32 is that of the base's bytes, 0 where it is coded on its own."""

    section: SectionInfo
    against: str = ""
    base_crc32: int = 0


@dataclass(frozen=True, slots=True)
class SpanInfo:
    """A tensor of a packed file: name, dtype, shape, the offset of its bytes in the file, and its pieces in order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    pieces: tuple[PieceInfo, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes in the file that was packed."""
        return count(self.shape) * known_dtype(self.dtype).itemsize

    @property
    def packed_bytes(self) -> int:
        """Bytes in the archive."""
        return sum(piece.section.nbytes for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class ViewInfo:
    """A tensor that is a part of a span, or another look at it: where it begins and its strides, in elements."""

    name: str
    span: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A packed file: relative path, format, size, the pieces of its shell, its tensors by offset, views on them."""

    name: str
    kind: str
    nbytes: int
    shell: tuple[SectionInfo, ...]
    spans: tuple[SpanInfo, ...]
    views: tuple[ViewInfo, ...] = ()

    @property
    def sections(self) -> Iterator[SectionInfo]:
        """All pieces, in the order of their bytes in the archive."""
        yield from self.shell
        for span in self.spans:
            yield from (piece.section for piece in span.pieces)

    @property
    def shell_bytes(self) -> int:
        """Length of the shell."""
        return self.nbytes - sum(span.nbytes for span in self.spans)


def coded_form(dtype: str, shape: tuple[int, ...]) -> tuple[str, int, int]:
    """How a tensor is coded: dtype, number of elements, and the row length by which pieces are cut (1: none)."""
    coded = CODED_AS.get(dtype, dtype)
    factor = known_dtype(dtype).itemsize // known_dtype(coded).itemsize
    row = shape[-1] * factor if len(shape) > 1 else 1
    return coded, count(shape) * factor, row if 1 < row <= PIECE else 1


def piece_shapes(dtype: str, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Shapes of a tensor's pieces, in order: whole rows [n, row] where there are rows, else [n]."""
    _, size, row = coded_form(dtype, shape)
    step = PIECE // row * row
    for at in range(0, size, step):
        length = min(step, size - at)
        yield (length // row, row) if row > 1 else (length,)


def shell_lengths(nbytes: int) -> Iterator[int]:
    """Lengths of a shell's pieces."""
    for at in range(0, nbytes, PIECE):
        yield min(PIECE, nbytes - at)


def piece_name(file: str, tensor: str, index: int) -> str:
    """How messages call a piece."""
    return f"{file}: {tensor}" + (f" [{index}]" if index else "")


def from_bytes(data: bytes, dtype: str) -> Array:
    """Little-endian bytes as a flat array of this machine's."""
    array = np.frombuffer(data, known_dtype(dtype))
    return array if sys.byteorder == "little" else array.byteswap()


def to_bytes(array: Array) -> memoryview:
    """Inverse of from_bytes; without a copy where there can be none."""
    flat = np.ascontiguousarray(array).reshape(-1)
    raw: Any = (flat if sys.byteorder == "little" else flat.byteswap()).view(np.uint8)
    return memoryview(raw).cast("B")


def code_piece(name: str, array: Array) -> tuple[SectionInfo, bytes]:
    """One piece of a tensor as a section, by the coder that makes it smallest."""
    coder, data = encode_array(array)
    info = ArrayInfo("", array.dtype.name, array.shape, coder, len(data))
    return SectionInfo(name, "piece", len(data), zlib.crc32(data), (info,)), data


def decode_piece(section: SectionInfo, data: bytes) -> Array:
    """Inverse of code_piece; raises FormatError that names the piece."""
    (info,) = section.arrays
    try:
        return decode_array(info.coder, data, info.dtype, info.shape)
    except FormatError as error:
        raise FormatError(f"section {section.name!r}: {error}") from error


def decode_pieces(sections: Sequence[SectionInfo], data: Sequence[bytes]) -> list[Array]:
    """The same of many, together, which takes less time where they are small."""
    infos = [section.arrays[0] for section in sections]
    try:
        return decode_arrays([(i.coder, d, i.dtype, i.shape) for i, d in zip(infos, data, strict=True)])
    except FormatError:
        # One by one the error is that of a piece, by name.
        return [decode_piece(section, blob) for section, blob in zip(sections, data, strict=True)]


def code_shell(name: str, data: bytes) -> tuple[SectionInfo, bytes]:
    """One piece of a shell, by the codec that makes it smallest."""
    form, section, blob = blobs.code_skeleton(data)
    info = ArrayInfo("", "uint8", (len(data),), form.codec, len(blob))
    return SectionInfo(name, "shell", section.nbytes, section.crc32, (info,)), blob


def decode_shell(section: SectionInfo, data: bytes) -> bytes:
    """Inverse of code_shell; raises FormatError that names the piece."""
    (info,) = section.arrays
    try:
        return blobs.decode_skeleton(SkeletonInfo(info.coder, info.size), data)
    except FormatError as error:
        raise FormatError(f"section {section.name!r}: {error}") from error


def check_files(files: Sequence[FileInfo]) -> None:
    """That names are safe and differ, that spans lie in their files in order and apart, and views in their spans."""
    names = [file.name for file in files]
    for name in names:
        if not is_safe(name):
            raise broken("manifest", "a packed file's name must be a relative path without '..'", repr(name)[:200])
    if len(set(names)) != len(names) or any(f"{a}/" == b[: len(a) + 1] for a, b in pairwise(sorted(names))):
        raise broken("manifest", "packed files must have names of their own", repr(sorted(names))[:200])
    for file in files:
        _check_spans(file)


def is_safe(name: str) -> bool:
    """Whether a name is a relative path, with slashes, that stays in its folder on every system."""
    parts = name.split("/")
    return (
        name.isprintable() and len(name) < 4096 and not any(c in name for c in '\\:*?"<>|')
        and all(part.strip(" ") == part and part.rstrip(".") == part and part for part in parts)
    )  # fmt: skip


def _check_spans(file: FileInfo) -> None:
    place = f"packed file {file.name!r}"
    at = 0
    for span in file.spans:
        if span.offset < at or span.offset + span.nbytes > file.nbytes:
            raise broken(place, "its tensors must lie apart and in order", f"{span.name!r} at {span.offset}")
        at = span.offset + span.nbytes
    sizes = {span.name: count(span.shape) for span in file.spans}
    all_names = [span.name for span in file.spans] + [view.name for view in file.views]
    if len(set(all_names)) != len(all_names):
        raise broken(place, "its tensors must have names of their own", "one name twice")
    for view in file.views:
        last = view.offset + sum((n - 1) * step for n, step in zip(view.shape, view.strides, strict=True))
        if view.span not in sizes or (count(view.shape) and last >= sizes[view.span]):
            raise broken(place, "a view must lie in its tensor", f"{view.name!r} up to {last}")
