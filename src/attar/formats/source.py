"""A file to be packed: which of its byte ranges are tensors, and how its bytes are read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attar.archive.base import count
from attar.archive.packed import PIECE, SpanInfo, ViewInfo, coded_form, from_bytes, piece_shapes
from attar.coding import known_dtype
from attar.errors import FormatError, UsageError
from attar.types import Array


@dataclass(frozen=True)
class Found:
    """What a format's finder makes of a file: the format's name, tensors by offset, views on them, notes."""

    kind: str
    spans: tuple[SpanInfo, ...] = ()
    views: tuple[ViewInfo, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Bytes:
    """A file read by ranges; raises UsageError where it cannot be read, FormatError past its end.

    It is opened for each of them: a folder may have more files than a process may hold open.
    """

    path: Path
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = self._from(0, 0, os.SEEK_END)[1]

    def _from(self, offset: int, size: int, whence: int = os.SEEK_SET) -> tuple[bytes, int]:
        """Bytes from a place, and where they begin."""
        try:
            with self.path.open("rb") as file:
                at = file.seek(offset, whence)
                return file.read(size), at
        except OSError as error:
            raise UsageError(
                f"file {str(self.path)!r}: it must be readable. Received {error.strerror}. Check the path."
            ) from error

    def read(self, offset: int, size: int) -> bytes:
        """Exactly these bytes."""
        if size > self.size - offset or min(offset, size) < 0:
            raise self.broken(f"bytes {offset} to {offset + size} must be in the file", f"{self.size} bytes")
        data = self._from(offset, size)[0]
        if len(data) != size:
            raise self.broken("it must not change while it is read", f"{offset + len(data)} of {self.size} bytes")
        return data

    def broken(self, rule: str, received: str) -> FormatError:
        """The error for a file that is not what it claims to be."""
        return FormatError(f"file {self.path.name!r}: {rule}. Received {received}. Fetch or save the file again.")


def gaps(size: int, spans: Sequence[SpanInfo]) -> Iterator[tuple[int, int]]:
    """(offset, length) of what is not in a tensor, in order."""
    at = 0
    for span in spans:
        if span.offset > at:
            yield at, span.offset - at
        at = span.offset + span.nbytes
    if at < size:
        yield at, size - at


def shell_pieces(source: Bytes, spans: Sequence[SpanInfo]) -> Iterator[bytes]:
    """The shell in pieces of PIECE bytes."""
    kept = bytearray()
    for offset, length in gaps(source.size, spans):
        done = 0
        while done < length:
            part = min(length - done, PIECE - len(kept))
            kept += source.read(offset + done, part)
            done += part
            if len(kept) == PIECE:
                yield bytes(kept)
                kept.clear()
    if kept:
        yield bytes(kept)


def apart(spans: Sequence[SpanInfo]) -> tuple[SpanInfo, ...]:
    """All by offset, without those that overlap one before."""
    kept: list[SpanInfo] = []
    for span in sorted(spans, key=lambda one: (one.offset, one.nbytes)):
        if not kept or span.offset >= kept[-1].offset + kept[-1].nbytes:
            kept.append(span)
    return tuple(kept)


def pieces_of(source: Bytes, span: SpanInfo) -> Iterator[Array]:
    """A tensor's pieces, read one after the other."""
    dtype, _, _ = coded_form(span.dtype, span.shape)
    at = span.offset
    for shape in piece_shapes(span.dtype, span.shape):
        size = count(shape) * known_dtype(dtype).itemsize
        yield from_bytes(source.read(at, size), dtype).reshape(shape)
        at += size
