"""Finished work on disk, by what it was made from: a run that was killed goes on where it was.

A unit is named by a hash of everything that it depends on, so that one of other weights, data, settings or another
attar is never taken for it. It holds JSON and arrays behind a checksum: nothing in it is run. Statistics are larger
than models: arrays are written from where they are and read into where they stay.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes  # noqa: F401  # numpy knows the names of its types from then on
import numpy as np

import attar
from attar.types import Array, Json, Scaled

Unit = tuple[Json, dict[str, Array]]
"""What is kept of a piece of work: a value that JSON takes, and arrays by name."""
FOLDER = ".attar-work"
DIGEST = 32
"""Bytes of a checksum."""
PIECE = 1 << 20
"""Bytes that are read at once for it."""
ROWS = 32
"""Rows of pictures that are made floats at once for a hash."""


class Kept:
    """Units in a folder, which is made with the first of them; without a folder nothing is kept.

    What cannot be written is not kept, and the run goes on.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.found = 0
        self._used: set[str] = set()

    def get(self, key: str) -> Unit | None:
        """A unit that this run or an earlier one has kept; None where there is none, or a broken one."""
        if self.folder is None:
            return None
        try:
            with (self.folder / key).open("rb") as file:
                unit = _opened(file)
        except OSError:
            return None
        if unit is not None:
            self._used.add(key)
            self.found += 1
        return unit

    def put(self, key: str, told: Json, arrays: Mapping[str, Array]) -> None:
        """Keep a unit: written beside its place, synced, renamed."""
        if self.folder is None:
            return
        part = self.folder / f"{key}.part-{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                _write(file, told, arrays)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.folder / key)
            self._used.add(key)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def clear(self, but: str = "") -> None:
        """Remove all units but one, and the folder where none is left."""
        with suppress(OSError):
            for path in [] if self.folder is None else self.folder.iterdir():
                if path.name != but:
                    path.unlink()
            if self.folder is not None and not but:
                self.folder.rmdir()


def key_of(kind: str, *parts: object) -> str:
    """The name of a unit: its kind and a hash of what it is made from, and of attar's own code."""
    found = hashlib.blake2b(_code().encode(), digest_size=DIGEST)
    for part in parts:
        _feed(found, part)
    return f"{kind}-{found.hexdigest()}"


def _feed(found: Any, part: object) -> None:
    """Add a value to a hash, with its kind and length: no two values look alike."""
    if isinstance(part, np.ndarray):
        array = np.ascontiguousarray(part)
        found.update(f"array {array.dtype.str} {array.shape} ".encode())
        found.update(array.view(np.uint8).reshape(-1) if array.size else b"")
    elif isinstance(part, Scaled):
        found.update(b"scaled %d " % len(part))
        for start in range(0, len(part), ROWS):
            _feed(found, part[start : start + ROWS])
    elif isinstance(part, bytes):
        found.update(b"bytes %d " % len(part))
        found.update(part)
    elif isinstance(part, Mapping):
        found.update(b"mapping %d " % len(part))
        for name, value in part.items():
            _feed(found, str(name))
            _feed(found, value)
    elif isinstance(part, list | tuple):
        found.update(b"list %d " % len(part))
        for value in part:
            _feed(found, value)
    elif part is None or isinstance(part, str | int | float):
        text = repr(part).encode()
        found.update(b"value %d " % len(text))
        found.update(text)
    else:
        raise TypeError(f"{type(part).__name__} cannot name a unit")


@cache
def _code() -> str:
    """What tells one state of attar's code from another: version, sizes and times of its files."""
    root = Path(attar.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".so", ".pyd"))
    marks = [(str(path.relative_to(root)), (info := path.stat()).st_size, info.st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([attar.__version__, marks]).encode()).hexdigest()


def _write(file: BinaryIO, told: Json, arrays: Mapping[str, Array]) -> None:
    """A unit: checksum, length of the head, head, arrays."""
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    named = [[name, array.dtype.name, list(array.shape)] for name, array in plain.items()]
    head = json.dumps({"told": told, "arrays": named}).encode()
    found = hashlib.blake2b(digest_size=DIGEST)
    file.write(bytes(DIGEST))
    parts: list[bytes | memoryview] = [len(head).to_bytes(8, "little"), head]
    parts += [array.reshape(-1).view(np.uint8).data for array in plain.values() if array.size]
    for part in parts:
        found.update(part)
        file.write(part)
    file.seek(0)
    file.write(found.digest())


def _opened(file: BinaryIO) -> Unit | None:
    """The inverse; None where a byte is not as it was written."""
    digest, found = file.read(DIGEST), hashlib.blake2b(digest_size=DIGEST)
    while piece := file.read(PIECE):
        found.update(piece)
    if len(digest) < DIGEST or found.digest() != digest:
        return None
    file.seek(DIGEST)
    head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    arrays = {}
    for name, dtype, shape in head["arrays"]:
        array = arrays[name] = np.empty(shape, dtype)
        if array.size:
            file.readinto(array.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]
    return head["told"], arrays
