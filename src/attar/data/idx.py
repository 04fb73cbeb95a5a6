"""idx files (MNIST and its kin), plain or gzipped, and folders of them."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from attar.data.limits import MAX_BYTES
from attar.errors import DataError, FormatError
from attar.types import Array, Dataset

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
DEFLATE_RATIO = 1032
"""Most bytes that one byte of deflate can stand for."""
MAX_AXES = 8


def read_idx(path: Path) -> Array:
    """The array of an idx or idx.gz file, in the machine's byte order.

    Raises FormatError before anything is allocated where the header cannot be true of a file of this size, and where
    data are missing or left over.
    """
    zipped = path.suffix == ".gz"
    try:
        with path.open("rb") as raw:
            stream = gzip.GzipFile(fileobj=raw) if zipped else raw
            return _read(stream, path, path.stat().st_size, zipped)  # type: ignore[arg-type]
    except OSError as error:
        raise FormatError(f"idx file {path.name!r}: it must be readable. Received: {error}.") from None
    except (EOFError, zlib.error) as error:
        raise FormatError(f"idx file {path.name!r}: the gzip data must be whole. Received: {error}.") from None


def _read(stream: BinaryIO, path: Path, file_size: int, zipped: bool) -> Array:
    """Header, checks, data."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 0 < magic[3] <= MAX_AXES:
        raise FormatError(f"idx file {path.name!r}: it must begin with a magic number of idx. Received {magic!r}.")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise FormatError(f"idx file {path.name!r}: the header must be whole. Received {4 + len(sizes)} bytes.")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    dtype = np.dtype(TYPES[magic[2]])
    expected = math.prod(shape) * dtype.itemsize
    room = file_size * DEFLATE_RATIO if zipped else file_size - 4 - len(sizes)
    if expected > room or (not zipped and expected < room):
        raise FormatError(
            f"idx file {path.name!r}: shape {shape} takes {expected} bytes. Received a file of {file_size}. "
            "Fetch it again."
        )
    if expected > MAX_BYTES:
        raise DataError(
            f"idx file {path.name!r}: data must fit {MAX_BYTES} bytes. Received {expected}. Use fewer examples."
        )
    data = stream.read(expected + 1)
    if len(data) != expected:
        found = "more" if len(data) > expected else str(len(data))
        raise FormatError(
            f"idx file {path.name!r}: shape {shape} takes {expected} bytes. Received {found}. Fetch it again."
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def is_idx(path: Path) -> bool:
    """Whether a file's name says idx: images-idx3-ubyte, labels.idx1, x.idx, each also with .gz."""
    return re.search(r"[-.]idx\d?([-.]ubyte)?(\.gz)?$", path.name) is not None


def read_idx_folder(folder: Path) -> Dataset | dict[str, Dataset]:
    """The *images* files of a folder with their *labels*: one data set, or parts "train" and "test" where names say so.

    Raises DataError where files do not pair, FormatError where one is broken.
    """
    files = {path: re.sub(r"[-.]idx.*$", "", path.name) for path in sorted(folder.iterdir()) if is_idx(path)}
    labels = {stem.replace("labels", "images"): path for path, stem in files.items() if "labels" in stem}
    parts: dict[str, Dataset] = {}
    for path, stem in files.items():
        if "labels" in stem:
            continue
        name = "test" if re.search("t10k|test", stem) else "train" if "train" in stem else stem
        if name in parts:
            raise DataError(
                f"folder {str(folder)!r}: there must be one set for {name!r}. Received a second, {path.name!r}."
            )
        parts[name] = _pair(path, labels.get(stem))
    if not parts:
        raise DataError(f"folder {str(folder)!r}: there must be an idx file of images. Received only labels.")
    if len(parts) == 1:
        return next(iter(parts.values()))
    if set(parts) != {"train", "test"}:
        raise DataError(f"folder {str(folder)!r}: sets must be train and test, or one. Received {', '.join(parts)}.")
    return parts


def _pair(images: Path, labels: Path | None) -> Dataset:
    """Images, and labels where there are some, of equal number."""
    x, y = read_idx(images), None if labels is None else read_idx(labels)
    if y is not None and (y.ndim != 1 or len(y) != len(x)):
        raise DataError(f"idx file {images.name!r}: there must be one label for each of {len(x)}. Received {y.shape}.")
    return Dataset({"x": x}, None if y is None else y.astype(np.int64), str(images))
