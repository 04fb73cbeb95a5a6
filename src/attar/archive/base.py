"""What an archive is made of: records of its sections, and the limits within which a reader believes a file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from attar.errors import FormatError
from attar.types import Json, Layer

VERSION = "1"
GROUPED = 1 << 16
"""Sections smaller than this share one tensor of the safetensors file: an entry of its own takes about 70 bytes."""
LONGEST_HEADER = 1 << 26
MOST_AXES = 32


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """One coded array: its name, dtype and shape, the coder and the size of its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    coder: str
    nbytes: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return count(self.shape)


@dataclass(frozen=True, slots=True)
class SectionInfo:
    """One section: kind "layer", "remainder", "skeleton", "piece" or "shell"; its coded arrays, bytes and CRC-32.

    The arrays of a remainder are its tensors by dtype, concatenated; those of a skeleton are none. A piece is a part of
    a packed file: one array, or bytes under one of the skeleton's codecs.
    """

    name: str
    kind: str
    nbytes: int
    crc32: int
    arrays: tuple[ArrayInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of the remainder; a constant one holds a single value of its dtype's array."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    constant: bool

    @property
    def size(self) -> int:
        """Number of elements."""
        return count(self.shape)

    @property
    def stored(self) -> int:
        """Number of elements that the dtype's array holds for it."""
        size = count(self.shape)
        return min(size, 1) if self.constant else size


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """A layer's record: what it is, which method stored it, with which parameters."""

    layer: Layer
    method: str
    meta: dict[str, object]


@dataclass(frozen=True, slots=True)
class SkeletonInfo:
    """How the skeleton is compressed ("stored", "words", "deflate", "lzma"), and its length without compression."""

    codec: str
    length: int


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """What was written: where, the size of the file and its sections."""

    path: Path
    nbytes: int
    sections: tuple[SectionInfo, ...]


def count(shape: tuple[int, ...]) -> int:
    """Number of elements, exact."""
    product = 1
    for axis in shape:
        product *= axis
    return product


def decoded_limit(file_bytes: int) -> int:
    """Bytes that all arrays of a file of this size may take: a wholly empty matrix is legal, a bomb is not."""
    return (1 << 24) + (file_bytes << 14)


def skeleton_limit(nbytes: int) -> int:
    """Length that a compressed skeleton of this size may have."""
    return (1 << 24) + (nbytes << 10)


def strict_json(text: str | bytes) -> Json:
    """JSON as two readers cannot understand it differently: no name twice, no NaN, no infinity; raises ValueError."""
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice")
    return result


def _no_number(text: str) -> Json:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is not finite")
    return value


def broken(place: str, rule: str, received: str, remedy: str = "Fetch the file again.") -> FormatError:
    """The error for a file that is not what it claims to be."""
    return FormatError(f"{place}: {rule}. Received {received}. {remedy}")
