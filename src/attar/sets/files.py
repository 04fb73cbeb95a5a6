"""Files of data sets: pictures, idx files, npz files; what is none of these is kept as its bytes."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from attar.coding import DTYPES
from attar.data.idx import TYPES, is_idx, read_idx
from attar.data.images import pillow_module
from attar.errors import AttarError, FormatError, UsageError
from attar.sets.records import MODES, SOLID, TEXTS, ArrayRecord, FileRecord
from attar.types import Array

PICTURES = {".png": "PNG", ".bmp": "BMP"}
"""Suffixes of pictures whose pixels are taken: their formats lose nothing."""
MOST_PIXELS = 64 << 20
PLAIN = {"gamma", "dpi", "aspect", "compression", "bmp_compression"}
"""What Pillow says of a picture that pixels do without; a file that says more is kept as its bytes."""
Content = Mapping[str, Array]


def look(path: Path, name: str) -> tuple[FileRecord, Content | None]:
    """What a file is, and its arrays where they had to be read for that; raises UsageError where it cannot be read."""
    found = None
    if path.suffix.lower() in PICTURES:
        found = _picture(path, name)
    elif is_idx(path):
        found = _idx(path, name)
    elif path.suffix.lower() == ".npz":
        found = _npz(path, name)
    if found is not None:
        return found
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(
            f"file {str(path)!r}: it must be readable. Received {error.strerror}. Check the path."
        ) from error
    return FileRecord(name, "bytes", SOLID, (ArrayRecord("", "uint8", (size,)),)), None


def content(path: Path, record: FileRecord) -> Content:
    """The arrays of a file that `look` has seen, read again; raises UsageError where it has changed."""
    if record.kind == "bytes":
        found: Content = {"": np.frombuffer(path.read_bytes(), np.uint8)}
    else:
        again, read = look(path, record.name)
        found = read if read is not None else {"": _pixels(path)[1]} if again.kind == "image" else {}
    shapes = [(name, array.shape) for name, array in found.items()]
    if shapes != [(array.name, array.shape) for array in record.arrays]:
        raise UsageError(f"file {str(path)!r}: it must not change while it is packed. Received another. Pack again.")
    return found


def _pixels(path: Path) -> tuple[str, Array]:
    """Mode, and pixels [1, height, width, channels]."""
    with pillow_module().open(path, formats=tuple(PICTURES.values())) as image:
        pixels = np.asarray(image, np.uint8)
        return image.mode, pixels.reshape(1, *pixels.shape[:2], -1)


def _picture(path: Path, name: str) -> tuple[FileRecord, Content | None] | None:
    """A picture of a plain mode, its pixels not kept; None for what is better kept as bytes."""
    pillow = pillow_module()
    try:
        with pillow.open(path, formats=tuple(PICTURES.values())) as image:
            frames = getattr(image, "n_frames", 1)
            known = image.mode in MODES and frames == 1 and not set(image.info) - PLAIN
            if not known or 0 in image.size or image.width * image.height > MOST_PIXELS:
                return None
            mode, size = image.mode, (1, image.height, image.width, MODES[image.mode])
            image.load()
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError):
        return None
    return FileRecord(name, "image", mode, (ArrayRecord("", "uint8", size),)), None


def _idx(path: Path, name: str) -> tuple[FileRecord, Content] | None:
    try:
        array = read_idx(path)
    except AttarError:
        return None
    code = next(code for code, kind in TYPES.items() if np.dtype(kind).newbyteorder("=") == array.dtype)
    return FileRecord(name, "idx", f"{code:02x}", (_record("", array),)), {"": array}


def _npz(path: Path, name: str) -> tuple[FileRecord, Content] | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    if any(array.dtype.name not in DTYPES or not array.dtype.isnative for array in arrays.values()):
        return None
    return FileRecord(name, "npz", "", tuple(_record(key, array) for key, array in arrays.items())), arrays


def _record(name: str, array: Array) -> ArrayRecord:
    return ArrayRecord(name, array.dtype.name, array.shape)


def to_bytes(record: FileRecord, arrays: Content) -> bytes:
    """The file with these contents; raises FormatError where they cannot be its."""
    if record.kind in TEXTS:
        return arrays[""].tobytes()
    if record.kind == "image":
        return _picture_bytes(record, arrays[""][0])
    if record.kind == "idx":
        return _idx_bytes(record, arrays[""])
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
            # Without a time, so that the same arrays make the same file.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_DEFLATED)
    return target.getvalue()


def _picture_bytes(record: FileRecord, pixels: Array) -> bytes:
    form = PICTURES.get(Path(record.name).suffix.lower())
    if form is None:
        raise FormatError(
            f"file {record.name!r}: an image is a PNG or BMP file. Received another name. Fetch the file again."
        )
    target = io.BytesIO()
    plain = pixels[..., 0] if record.detail == "L" else pixels
    pillow_module().fromarray(np.ascontiguousarray(plain)).save(target, form)
    return target.getvalue()


def _idx_bytes(record: FileRecord, array: Array) -> bytes:
    codes = {f"{code:02x}": kind for code, kind in TYPES.items()}
    kind = codes.get(record.detail, "")
    wrong = not kind or np.dtype(kind).newbyteorder("=") != array.dtype or not 0 < array.ndim < 9
    if wrong or max(array.shape) >= 1 << 32:
        raise FormatError(
            f"file {record.name!r}: an idx file has one of its six types. Received {array.dtype}. Fetch the file again."
        )
    head = bytes((0, 0, int(record.detail, 16), array.ndim)) + np.array(array.shape, ">u4").tobytes()
    data = head + array.astype(kind).tobytes()
    return gzip.compress(data, mtime=0) if record.name.endswith(".gz") else data
