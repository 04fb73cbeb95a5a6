"""Coded stacks of a data set that is being packed, kept beside the archive: a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import attar
from attar.archive.base import SectionInfo, strict_json
from attar.archive.parts import parts_from, parts_json
from attar.archive.write import replace_file
from attar.errors import FormatError, OutputError

Coded = tuple[SectionInfo, bytes]


class Kept:
    """Units by number, in the hidden folder .NAME.attar.work beside the archive; each is a file with checksums.

    A unit is good for the same files (by name, size and time of change) and the same version of attar alone: what is of
    others is removed. What cannot be written is not kept, and packing goes on, as it does where the
    folder is not ours.
    """

    def __init__(self, goal: Path, places: Mapping[str, Path]) -> None:
        self._folder = goal.with_name(f".{goal.name}.work")
        files = [[name, (info := place.stat()).st_size, info.st_mtime_ns] for name, place in places.items()]
        self._mark = hashlib.sha256(json.dumps([attar.__version__, files]).encode()).hexdigest()
        self.found = 0
        # A run that was killed at once has left an empty one.
        self._ours = not self._folder.exists() or (self._folder / "mark").is_file() or _is_empty(self._folder)
        if self._folder.exists() and self._read(self._folder / "mark") != self._mark.encode():
            self.close()

    def get(self, number: int) -> list[Coded] | None:
        """A unit that an earlier run has kept; None where there is none, or a broken one."""
        data = self._read(self._folder / f"{number}.unit") if self._ours else None
        unit = None if data is None else _opened(data)
        self.found += unit is not None
        return unit

    def keep(self, number: int, unit: Sequence[Coded]) -> None:
        """Write a unit, synced."""
        if not self._ours:
            return
        head = json.dumps(parts_json([section for section, _ in unit]), separators=(",", ":")).encode()
        try:
            if not self._folder.exists():
                self._folder.mkdir()
                _write(self._folder / "mark", [self._mark.encode()])
            _write(
                self._folder / f"{number}.unit", [len(head).to_bytes(8, "little"), head, *(data for _, data in unit)]
            )
        except (OSError, OutputError):
            self.close()

    def close(self) -> None:
        """Remove all of it."""
        if self._ours:
            shutil.rmtree(self._folder, ignore_errors=True)

    @staticmethod
    def _read(path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except OSError:
            return None


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _write(path: Path, parts: Sequence[bytes]) -> None:
    """A whole, synced file, or none."""

    def write(part: Path) -> None:
        with part.open("xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())

    replace_file(path, write, force=True)


def _opened(data: bytes) -> list[Coded] | None:
    """The sections of a unit, every checksum right; None for anything else."""
    length = int.from_bytes(data[:8], "little")
    try:
        sections = parts_from(strict_json(data[8 : 8 + length].decode()))
    except (FormatError, ValueError, RecursionError):
        return None
    found, at = [], 8 + length
    for section in sections:
        blob = data[at : at + section.nbytes]
        if len(blob) != section.nbytes or zlib.crc32(blob) != section.crc32:
            return None
        found.append((section, blob))
        at += section.nbytes
    return found if at == len(data) else None
