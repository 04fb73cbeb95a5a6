"""Stacks of images of one shape: a model for the whole stack, and parts that decode on their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from attar.archive import blobs
from attar.archive.base import SectionInfo
from attar.archive.parts import PART as PARTS
from attar.coding.kernel import over_chunks
from attar.coding.layout import Malformed
from attar.errors import FormatError
from attar.sets import fit
from attar.sets.geometry import Geometry, geometry
from attar.sets.model import Model, model_from, sites_kernel
from attar.types import Array

U8 = NDArray[np.uint8]
PART = 1 << 21
"""Bytes of a part at most, but for a single image; part of the file format."""
MOST_SITES = 1 << 16
"""Bytes of one image at most: larger ones are cut into tiles."""
MIDDLE = 128
"""What a pixel less its like is moved by, so that small errors lie together; part of the file format."""


def part_sizes(images: int, sites: int) -> list[int]:
    """Images in each part."""
    most = max(PART // max(sites, 1), 1)
    number = -(-images // most)
    return [(images * (k + 1)) // number - (images * k) // number for k in range(number)]


def encode(stack: U8) -> tuple[dict[str, Array], list[bytes]]:
    """A model's arrays, and the bytes of each part, of images [n, height, width, channels]."""
    n, *shape = stack.shape
    place = geometry(shape[0], shape[1], shape[2])
    flat = stack.reshape(n, place.sites)
    model = fit.predictors(np.ascontiguousarray(flat[:: -(-n // fit.SAMPLE)].T), place)
    parts = list(_cut(flat, place.sites))
    model = fit.with_tables(model, fit.counted(model, (np.ascontiguousarray(part.T) for part in parts), place))
    return model.arrays(), over_chunks(lambda part: _encoded(model, part, place), parts)


def coded(k: int, stack: U8) -> list[tuple[SectionInfo, bytes]]:
    """The parts of an archive that a stack becomes, the k-th of its set."""
    arrays, parts = encode(stack)
    found = [blobs.code_arrays(f"stack {k}", PARTS, arrays)]
    return [*found, *(plain(f"stack {k} part {j}", data) for j, data in enumerate(parts))]


def plain(name: str, data: bytes) -> tuple[SectionInfo, bytes]:
    """Bytes as a part."""
    return blobs.code_arrays(name, PARTS, {"bytes": np.frombuffer(data, np.uint8)})


def rest(pixels: U8, made: U8) -> U8:
    """What is left of pixels where others were made of them: their difference, around MIDDLE, modulo 256."""
    return pixels - made + np.uint8(MIDDLE)


def whole(left: U8, made: U8) -> U8:
    """Inverse of rest."""
    return left + made - np.uint8(MIDDLE)


def _cut(flat: U8, sites: int) -> Iterator[U8]:
    at = 0
    for size in part_sizes(len(flat), sites):
        yield flat[at : at + size]
        at += size


def _encoded(model: Model, part: U8, place: Geometry) -> bytes:
    residuals, contexts = fit.scan(model, np.ascontiguousarray(part.T), place)
    tables = model.table.reshape(-1)[contexts]
    data: bytes = sites_kernel().encode_sites(residuals, tables, model.frequency)
    return data


def decode(arrays: Mapping[str, Array], parts: list[U8], shape: tuple[int, int, int, int]) -> U8:
    """Inverse of encode, for images of this shape, which has been held against the file's size; raises FormatError."""
    n, height, width, channels = shape
    if not 0 < height * width * channels <= MOST_SITES:
        raise FormatError(
            f"images: one must have 1 to {MOST_SITES} bytes. Received {height} x {width} x {channels}. "
            "Fetch the file again."
        )
    place = geometry(height, width, channels)
    sizes = part_sizes(n, place.sites)
    if len(sizes) != len(parts):
        raise FormatError(f"images: there must be {len(sizes)} parts. Received {len(parts)}. Fetch the file again.")
    try:
        model = model_from(arrays, place)
        native = model.native(place)
        out = np.empty((n, place.sites), np.uint8)
        targets = np.split(out, np.cumsum(sizes)[:-1])

        def one(pair: tuple[U8, U8]) -> None:
            sites_kernel().decode_sites(native, np.ascontiguousarray(pair[0]), model.frequency, pair[1])

        over_chunks(one, list(zip(parts, targets, strict=True)))
    except (Malformed, ValueError) as error:
        raise FormatError(
            f"images: the bytes must be what attar writes. Received others ({error}). Fetch the file again."
        ) from error
    return out.reshape(shape)
