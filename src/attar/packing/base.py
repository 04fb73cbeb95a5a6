"""Differences to another checkpoint of the same family: a fine-tune, the next step of a training."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import numpy as np

from attar.archive import Archive, read_archive
from attar.archive.packed import PieceInfo, SpanInfo, code_piece, to_bytes
from attar.coding.planes import is_float
from attar.errors import UsageError
from attar.formats.source import Bytes, pieces_of
from attar.packing import finding
from attar.types import Array

Pieces = Callable[[], Iterator[Array]]


class Base:
    """Another checkpoint, packed or plain: pieces of its tensors by name. Raises UsageError, FormatError."""

    def __init__(self, path: Path) -> None:
        self._found: dict[str, tuple[SpanInfo, Pieces]] = {}
        if path.suffix == ".attar":
            self._take_archive(read_archive(path))
        else:
            files = finding.files_of(path)
            for file in files.values():
                source = Bytes(file)
                for span in finding.find(source, len(files) == 1).spans:
                    self._found[span.name] = span, _plain(source, span)
        if not self._found:
            raise UsageError(
                f"base {str(path)!r}: it must be a checkpoint, packed or plain. Received one without tensors. "
                "Give the file that this one was made from."
            )

    def _take_archive(self, archive: Archive) -> None:
        for file in archive.files:
            for span in file.spans:
                if any(piece.against for piece in span.pieces):
                    raise UsageError(
                        "base: it must stand alone. Received an archive of differences. Unpack it, and give the result."
                    )
                self._found[span.name] = span, _packed(archive, span)

    def pieces(self, span: SpanInfo) -> Iterator[Array] | None:
        """The pieces of the tensor with the same name, dtype and shape, read one by one; None where there is none."""
        found = self._found.get(span.name)
        if found is None or (found[0].dtype, found[0].shape) != (span.dtype, span.shape):
            return None
        return found[1]()


def pieces_beside(base: Base | None, span: SpanInfo) -> Iterator[Array | None]:
    """The base's pieces of a tensor, or None for each."""
    found = base.pieces(span) if base else None
    yield from found if found is not None else repeat(None)


def _plain(source: Bytes, span: SpanInfo) -> Pieces:
    return lambda: pieces_of(source, span)


def _packed(archive: Archive, span: SpanInfo) -> Pieces:
    return lambda: (archive.piece(piece.section) for piece in span.pieces)


def code(name: str, array: Array, base: Array | None) -> tuple[PieceInfo, bytes]:
    """A piece by itself or as a difference, whichever is smallest."""
    section, data = code_piece(name, array)
    best = PieceInfo(section), data
    if base is None:
        return best
    crc = zlib.crc32(to_bytes(base))
    for against in ("xor", "minus"):
        section, data = code_piece(name, _difference(against, array, base))
        if len(data) + 12 < len(best[1]):
            best = PieceInfo(section, against, crc), data
    return best


def restore(piece: PieceInfo, coded: Array, base: Array | None) -> Array:
    """The piece itself; raises UsageError where the base is not the one it was packed against."""
    if not piece.against:
        return coded
    place = f"section {piece.section.name!r}"
    if base is None:
        raise UsageError(f"{place}: it is a difference. Received no base that has this tensor. Name it with --base.")
    if zlib.crc32(to_bytes(base)) != piece.base_crc32:
        raise UsageError(
            f"{place}: the base must be the one that was packed against. Received other values. Find the right one."
        )
    return _undone(piece.against, coded, base)


def _words(array: Array) -> Array:
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def _ordered(words: Array, floats: bool) -> Array:
    """Bits as unsigned integers that rise as the numbers do: those of negative floats stand the other way round."""
    sign = words.dtype.type(1 << (8 * words.itemsize - 1))
    return np.asarray(np.where(words & sign, ~words, words | sign) if floats else words ^ sign)


def _unordered(rank: Array, floats: bool) -> Array:
    """Inverse of _ordered."""
    sign = rank.dtype.type(1 << (8 * rank.itemsize - 1))
    return np.asarray(np.where(rank & sign, rank & ~sign, ~rank) if floats else rank ^ sign)


def _difference(against: str, array: Array, base: Array) -> Array:
    """Bits that differ, or the zigzag difference of ordered integers, in the array's own dtype for its coder's sake."""
    new, old = _words(array), _words(base)
    if against == "xor":
        return np.asarray((new ^ old).view(array.dtype))
    floats = is_float(array.dtype)
    distance = _ordered(new, floats) - _ordered(old, floats)
    one, zero = distance.dtype.type(1), distance.dtype.type(0)
    sign = np.where(distance >> distance.dtype.type(8 * distance.itemsize - 1), ~zero, zero)
    return np.asarray(((distance << one) ^ sign).view(array.dtype))


def _undone(against: str, coded: Array, base: Array) -> Array:
    """Inverse of _difference."""
    words, old = _words(coded), _words(base)
    if against == "xor":
        return np.asarray((words ^ old).view(coded.dtype))
    floats = is_float(coded.dtype)
    one, zero = words.dtype.type(1), words.dtype.type(0)
    distance = (words >> one) ^ np.where(words & one, ~zero, zero)
    return np.asarray(_unordered(_ordered(old, floats) + distance, floats).view(coded.dtype))
