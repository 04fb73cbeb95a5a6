"""What a data set is made of: its files, and for each of them what brings it back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from attar.archive.base import broken, count, strict_json
from attar.archive.packed import is_safe
from attar.archive.records import row, shape, typed, unique
from attar.coding import known_dtype
from attar.sets.tiles import Shape
from attar.types import Json

MODES = {"L": 1, "RGB": 3, "RGBA": 4}
"""Pillow's modes of 8 bits a channel, and their channels."""
MOST_IMAGES = 1 << 16
"""Images of a small file; larger ones may have more."""
KINDS = ("image", "idx", "npz", "table", "audio", "bytes")
LONGEST_NAME = (1 << 16) - 1 - len(".npy")
"""Bytes of the name of an array in an npz file: what a zip file has room for."""
SOLID = "solid"
"""The detail of a file whose bytes lie in a stream with those of others."""


TEXTS = ("table", "audio", "bytes")
"""Kinds whose one array is the file's bytes."""


@dataclass(frozen=True)
class ArrayRecord:
    """An array of a file: name, dtype, shape, and whether it is a stack of images [n, height, width(, channels)]."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def images(self) -> int:
        """Images in it; 0 where it is coded as an array."""
        return self.shape[0] if self.dtype == "uint8" and is_pictures(self.shape) else 0

    @property
    def image_shape(self) -> Shape:
        """Of one image."""
        return self.shape[1], self.shape[2], self.shape[3] if len(self.shape) == 4 else 1


@dataclass(frozen=True)
class FileRecord:
    """A file: relative name, kind (KINDS), what the kind needs to know (mode, idx type, blocks, codec), its arrays."""

    name: str
    kind: str
    detail: str
    arrays: tuple[ArrayRecord, ...]


def is_pictures(axes: tuple[int, ...]) -> bool:
    """Whether bytes of this shape are images: [n, height, width] or with 1 to 4 channels behind."""
    return 0 not in axes and (len(axes) == 3 or (len(axes) == 4 and axes[3] <= 4)) and min(axes[1:3]) >= 4


def image_shapes(files: Sequence[FileRecord]) -> list[Shape]:
    """The shape of each image of a set, file after file."""
    return [array.image_shape for file in files for array in file.arrays for _ in range(array.images)]


def to_json(files: Sequence[FileRecord]) -> bytes:
    """[name, kind, detail, [[name, dtype, shape] ...]] ..."""
    rows = [[f.name, f.kind, f.detail, [[a.name, a.dtype, list(a.shape)] for a in f.arrays]] for f in files]
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False).encode()


def from_json(text: bytes, most: int) -> tuple[FileRecord, ...]:
    """Inverse of to_json, every field checked; arrays of more than `most` bytes together are refused."""
    try:
        rows = strict_json(text.decode())
    except (ValueError, RecursionError) as error:
        raise broken("index", "it must be JSON", str(error)[:200]) from error
    files = tuple(_file(item) for item in typed(rows, list, "index"))
    names = [file.name for file in files]
    if len(set(names)) != len(names) or any(f"{a}/" == b[: len(a) + 1] for a, b in pairwise(sorted(names))):
        raise broken("index", "files must have names of their own", repr(sorted(names))[:200])
    total = sum(count(a.shape) * known_dtype(a.dtype).itemsize for file in files for a in file.arrays)
    if total > most:
        raise broken("index", f"its files may hold {most} bytes", str(total))
    number = sum(array.images for file in files for array in file.arrays)
    if number > MOST_IMAGES + (most >> 10):
        raise broken("index", f"its files may hold {MOST_IMAGES + (most >> 10)} images", str(number))
    return files


def _file(item: Json) -> FileRecord:
    name, kind, detail, arrays = row(item, (str, str, str, list), "index")
    place = f"file {name!r}"
    if not is_safe(name):
        raise broken("index", "a file's name must be a relative path without '..'", repr(name)[:200])
    if kind not in KINDS:
        raise broken(place, f"its kind must be one of {', '.join(KINDS)}", repr(kind)[:50], "Upgrade attar.")
    found = tuple(_array(one, place) for one in arrays)
    unique([array.name for array in found], place)
    names = [array.name for array in found]
    if kind != "npz" and names != [""]:
        raise broken(place, "it must have one array, without a name", repr(names)[:200])
    if kind == "npz" and not all(map(_is_member, names)):
        raise broken(place, f"arrays must have names of text, {LONGEST_NAME} bytes at most", repr(names)[:200])
    if kind == "image":
        size = found[0].shape
        right = detail in MODES and found[0].dtype == "uint8" and len(size) == 4 and size[0] == 1 and 0 not in size
        if not right or size[3] != MODES[detail]:
            raise broken(place, "an image must be one of a known mode", f"{detail[:20]} {list(size)}")
    if kind == "table" and not (detail.isascii() and detail.isdecimal() and len(detail) < 8):
        raise broken(place, "a table must tell its blocks", repr(detail)[:50])
    if kind in TEXTS and (found[0].dtype != "uint8" or len(found[0].shape) != 1):
        raise broken(place, "plain bytes have one axis", str(found[0]))
    return FileRecord(name, kind, detail, found)


def _is_member(name: str) -> bool:
    """Whether a zip file takes the name, which JSON may give half a character."""
    try:
        return "\0" not in name and len(name.encode()) <= LONGEST_NAME
    except UnicodeEncodeError:
        return False


def _array(item: Json, place: str) -> ArrayRecord:
    name, dtype, axes = row(item, (str, str, list), place)
    known_dtype(dtype)
    return ArrayRecord(name, dtype, shape(axes, place))
