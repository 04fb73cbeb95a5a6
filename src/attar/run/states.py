"""Activations on their way from block to block: arrays by name, in memory or on disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from attar.errors import OutputError
from attar.types import Array

F32 = NDArray[np.float32]


class States:
    """Arrays float32 [n, ...]; a name is there only when its array is whole.

    folder: where they are files, which a further run finds; None: they are in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._held: dict[str, F32] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._held if self.folder is None else self._place(name).is_file()

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> F32:
        """Rows [start, stop) of an array; raises KeyError where there is none."""
        if name not in self:
            raise KeyError(name)
        if self.folder is None:
            return self._held[name][start:stop]
        with self._place(name).open("rb") as file:
            npy.read_magic(file)
            shape, _, _ = npy.read_array_header_1_0(file)
            last = shape[0] if stop is None else min(stop, shape[0])
            width = int(np.prod(shape[1:], dtype=np.int64))
            file.seek(4 * width * start, os.SEEK_CUR)
            found = np.fromfile(file, np.float32, width * max(last - start, 0))
        return found.reshape(-1, *shape[1:])

    def length(self, name: str) -> int:
        """Rows of an array; raises KeyError."""
        if name not in self:
            raise KeyError(name)
        if self.folder is None:
            return len(self._held[name])
        with self._place(name).open("rb") as file:
            npy.read_magic(file)
            return int(npy.read_array_header_1_0(file)[0][0])

    def put(self, name: str, count: int, parts: Iterator[Array]) -> None:
        """Keep an array of `count` rows that comes in parts, in order; raises OutputError where the disk is full."""
        if self.folder is None:
            whole: F32 | None = None
            done = 0
            for part in parts:
                whole = np.empty((count, *part.shape[1:]), np.float32) if whole is None else whole
                whole[done : done + len(part)] = part
                done += len(part)
            assert whole is not None and done == count
            self._held[name] = whole
            return
        with _writing(self.folder, self._place(name)) as part_path, part_path.open("wb") as file:
            for number, part in enumerate(parts):
                if not number:
                    shape = (count, *part.shape[1:])
                    npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
                file.write(np.ascontiguousarray(part, "<f4").tobytes())
            file.flush()
            os.fsync(file.fileno())

    def drop(self, name: str) -> None:
        """Forget an array; nothing where there is none."""
        self._held.pop(name, None)
        if self.folder is not None:
            self._place(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Forget all of them, and the folder."""
        self._held.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _place(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.npy"


@contextmanager
def _writing(folder: Path, place: Path) -> Iterator[Path]:
    """A name to write under, renamed at the end: what is there under the right name is whole."""
    part = place.with_suffix(f".part-{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(place)
    except OSError as error:
        raise OutputError(
            f"activations {str(folder)!r}: the disk must take them. Received {error.strerror or error}. Free some "
            "space, or choose another folder with --work."
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
