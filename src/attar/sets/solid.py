"""Files that are kept as their bytes, end to end: those of an ending are a stream, cut into blocks coded apart.

So small files share what they have in common, and a reader holds some blocks and no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from attar.sets.records import SOLID, FileRecord

BLOCK = 1 << 23
"""Bytes of a block, but of a stream's last; part of the file format."""
AT_ONCE = 4
"""Blocks that are worked on at a time, at most: the contexts of each take 200 MB."""


@dataclass
class Stream:
    """Files of an ending: which, where each begins, and the bytes of all."""

    files: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    length: int = 0

    @property
    def blocks(self) -> int:
        """How many there are."""
        return -(-self.length // BLOCK)

    def size(self, block: int) -> int:
        """Bytes of a block."""
        return min(BLOCK, self.length - block * BLOCK)


def streams_of(records: Sequence[FileRecord]) -> list[Stream]:
    """The streams of a set, in the order of their first files."""
    found: dict[str, Stream] = {}
    for f, record in enumerate(records):
        if record.kind == "bytes" and record.detail == SOLID:
            stream = found.setdefault(PurePosixPath(record.name).suffix.lower(), Stream())
            stream.files.append(f)
            stream.starts.append(stream.length)
            stream.length += record.arrays[0].shape[0]
    return list(found.values())


def spans(start: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Block, first and last byte but one within it, for bytes of a stream."""
    at = start
    while at < start + length:
        block = at // BLOCK
        end = min((block + 1) * BLOCK, start + length)
        yield block, at - block * BLOCK, end - block * BLOCK
        at = end
