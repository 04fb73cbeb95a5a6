"""Folders of images looked at block by block: what was seen is kept until all is, so that a killed run goes on there.

Blocks lie in the user's cache folder (attar.run.cache), named by the files' sizes and times of change and by attar's
own code, and go when the last file has been looked at. What cannot be written is not kept.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from attar.files.pictures import Picture, look
from attar.run.cache import cache_folder
from attar.run.kept import Kept, key_of
from attar.types import Array

BLOCK = 256
"""Files of a block; a folder of no more is looked at again in seconds."""
WEEK = 7 * 24 * 3600
"""Seconds after which what a run has left that nobody took up again is removed."""
Derived = Callable[[Picture, Array | None], Array | None]


def seen(folder: Path, paths: Sequence[str], name: str, derive: Derived) -> Iterator[tuple[Picture, Array | None]]:
    """Each image file, and what `derive` makes of it and its pixels, an array or None; `name` says what that is."""
    place = folder.resolve()
    mark = hashlib.sha256(f"{name}\0{place}".encode()).hexdigest()[:20]
    top = cache_folder() / "looked"
    kept = Kept(top / mark if len(paths) > BLOCK else None)
    _sweep(top)
    for start in range(0, len(paths), BLOCK):
        some = paths[start : start + BLOCK]
        key = key_of("looked", name, str(place), [_state(folder / path, path) for path in some])
        unit = kept.get(key)
        if unit is not None:
            rows, arrays = unit
            for at, row in enumerate(rows):
                yield Picture(**{**row, "colour": tuple(row["colour"])}), arrays.get(str(at))
            continue
        rows, arrays = [], {}
        for at, (picture, pixels) in enumerate(look(folder, some)):
            found = derive(picture, pixels)
            rows.append(asdict(picture))
            if found is not None:
                arrays[str(at)] = found
            yield picture, found
        kept.put(key, rows, arrays)
    kept.clear()


def _state(file: Path, path: str) -> list[str | int]:
    """What tells a file from a later one of its name."""
    try:
        info = file.stat()
    except OSError:
        return [path]
    return [path, info.st_size, info.st_mtime_ns]


def _sweep(top: Path) -> None:
    """Remove what was left long ago."""
    with suppress(OSError):
        for old in top.iterdir():
            if time.time() - old.stat().st_mtime > WEEK:
                shutil.rmtree(old, ignore_errors=True)
