"""The contents of a data set's files, from the files or from an archive, with a bounded number of bytes in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attar.archive import Archive, blobs
from attar.archive.base import SkeletonInfo, broken, count, decoded_limit
from attar.archive.records import row
from attar.coding import kernel, known_dtype
from attar.errors import UsageError
from attar.latent import codes
from attar.latent.network import Network, network_from
from attar.sets import files, images, mixed, solid, sound, tables
from attar.sets.records import SOLID, TEXTS, FileRecord, from_json, image_shapes
from attar.sets.tiles import Shape, Stack, stacks_of, tiles_of
from attar.types import Array

U8 = NDArray[np.uint8]
KEPT = 1 << 28
"""Bytes of decoded stacks that are kept for the next image."""


class Source:
    """The files that are packed; the contents of one of them are kept."""

    def __init__(self, places: Mapping[str, Path], records: Sequence[FileRecord]) -> None:
        self.records = tuple(records)
        self._places = dict(places)
        self._kept: tuple[int, files.Content] = (-1, {})
        counts = [sum(array.images for array in record.arrays) for record in records]
        self._firsts = np.array([0, *accumulate(counts)])

    def content(self, index: int) -> files.Content:
        """All arrays of a file; raises UsageError where it has changed."""
        if self._kept[0] != index:
            record = self.records[index]
            self._kept = index, files.content(self._places[record.name], record)
        return self._kept[1]

    def image(self, number: int) -> U8:
        """One image of the set, [height, width, channels]."""
        index = int(np.searchsorted(self._firsts, number, side="right")) - 1
        at = number - int(self._firsts[index])
        for array in self.records[index].arrays:
            if at < array.images:
                pixels = self.content(index)[array.name][at]
                return np.asarray(pixels.reshape(array.image_shape), np.uint8)
            at -= array.images
        raise IndexError(number)


def stack_pixels(source: Source, stack: Stack) -> U8:
    """The tiles of a stack, [n, height, width, channels]."""
    height, width, _ = stack.shape
    out = np.empty((len(stack), *stack.shape), np.uint8)
    for k, (image, y, x) in enumerate(stack):
        out[k] = source.image(image)[y : y + height, x : x + width]
    return out


def index_of(archive: Archive) -> tuple[FileRecord, ...]:
    """The files of a packed data set; raises FormatError, and UsageError for another archive."""
    if not archive.parts:
        raise UsageError(
            "archive: it must be a data set. Received another one. `attar data pack` makes one; `attar unpack` and "
            "`attar expand` are for models."
        )
    if "index" not in archive.parts:
        raise broken("manifest", "a data set has an index", "none")
    codec, length = row(archive.meta.get("index"), (str, int), "meta: index")
    data = archive.part(archive.parts["index"]).get("bytes", np.zeros(0, np.uint8)).tobytes()
    return from_json(blobs.decode_skeleton(SkeletonInfo(codec, length), data), decoded_limit(archive.nbytes))


def contents(
    archive: Archive, there: Callable[[str], bool] = lambda _: False
) -> Iterator[tuple[FileRecord, dict[str, Array]]]:
    """Each file with its arrays, in order, but for those that are `there` by name; raises FormatError."""
    records = index_of(archive)
    reader, whole = _Reader(archive, records), True
    for f, record in enumerate(records):
        if there(record.name):
            reader.pass_over(record)
            whole = False
            continue
        found: dict[str, Array] = {}
        for a, array in enumerate(record.arrays):
            if array.images:
                found[array.name] = reader.pictures(array.images, array.image_shape).reshape(array.shape)
            else:
                found[array.name] = reader.values(f, a)
        yield record, found
    if whole:
        reader.finish()


def _places(stacks: Sequence[Stack]) -> dict[Shape, Iterator[tuple[int, int]]]:
    """Stack and row of every tile of a shape, in the order in which images are cut into tiles."""
    found: dict[Shape, list[int]] = {}
    for k, stack in enumerate(stacks):
        found.setdefault(stack.shape, []).append(k)
    return {shape: ((k, at) for k in each for at in range(len(stacks[k]))) for shape, each in found.items()}


class _Reader:
    """Images in order, out of the stacks that hold their tiles; bytes, out of the blocks of their streams."""

    def __init__(self, archive: Archive, records: Sequence[FileRecord]) -> None:
        self._archive, self._records = archive, records
        self._stacks = stacks_of(image_shapes(records))
        self._places = _places(self._stacks)
        self._decoded: OrderedDict[int, U8] = OrderedDict()
        self._streams = solid.streams_of(records)
        self._begins = {
            f: (s, start)
            for s, stream in enumerate(self._streams)
            for f, start in zip(stream.files, stream.starts, strict=True)
        }
        self._blocks: dict[tuple[int, int], U8] = {}
        self._networks: dict[str, Network] = {}
        self._used = {"index"}

    def pictures(self, number: int, shape: tuple[int, int, int]) -> U8:
        """The next images, [number, height, width, channels]."""
        out = np.empty((number, *shape), np.uint8)
        tiles = list(tiles_of(shape))
        for k in range(number):
            for y, x, (height, width, channels) in tiles:
                stack, at = next(self._places[height, width, channels])
                out[k, y : y + height, x : x + width] = self._stack(stack)[at]
        return out

    def pass_over(self, record: FileRecord) -> None:
        """A file whose images nobody asks for."""
        for array in record.arrays:
            for _ in range(array.images):
                for _, _, shape in tiles_of(array.image_shape):
                    next(self._places[shape])

    def _stack(self, k: int) -> U8:
        if k in self._decoded:
            self._decoded.move_to_end(k)
            return self._decoded[k]
        stack = self._stacks[k]
        while self._decoded and sum(one.nbytes for one in self._decoded.values()) > KEPT:
            self._decoded.popitem(last=False)
        shape = (len(stack), *stack.shape)
        if f"stack {k} latents 0" not in self._archive.parts:
            self._decoded[k] = self._coded(k, shape)
        elif f"stack {k}" not in self._archive.parts:
            self._decoded[k] = self._made(k, shape)
        else:
            self._decoded[k] = images.whole(self._coded(k, shape), self._made(k, shape))
        return self._decoded[k]

    def _coded(self, k: int, shape: codes.Shape) -> U8:
        """A stack as the coder of images has it."""
        sizes = images.part_sizes(shape[0], count(shape[1:]))
        parts = [self._bytes(f"stack {k} part {j}") for j in range(len(sizes))]
        return images.decode(self._part(f"stack {k}"), parts, shape)

    def _made(self, k: int, shape: codes.Shape) -> U8:
        """A stack whose images may differ: a network makes them."""
        name = f"network {shape[3]}"
        if name not in self._networks:
            self._networks[name] = network_from(self._part(name))
        network, parts = self._networks[name], []
        for j in range(len(codes.part_rows(shape[0], codes.columns(network, shape)))):
            found = self._part(f"stack {k} latents {j}")
            if list(found) != ["latents"]:
                raise broken(f"section 'stack {k} latents {j}'", "it must hold latents", repr(list(found))[:100])
            parts.append(found["latents"])
        return codes.pixels(network, codes.latents_of(parts, network, shape), shape[1], shape[2])

    def values(self, f: int, a: int) -> Array:
        """An array that holds no images."""
        record, array = self._records[f], self._records[f].arrays[a]
        name = f"file {f} array {a}"
        length = array.shape[0] if record.kind in TEXTS else 0
        if record.kind == "table":
            if int(record.detail) > len(self._archive.parts):
                raise broken(f"file {record.name!r}", "each of its blocks must be a part", record.detail)
            blocks = [partial(self._part, f"file {f} block {b}") for b in range(int(record.detail))]
            return np.frombuffer(tables.decode(blocks, length, f"file {record.name!r}"), np.uint8)
        if record.kind == "audio":
            return np.frombuffer(sound.decode(self._part(name), length, f"file {record.name!r}"), np.uint8)
        if record.kind == "bytes" and record.detail == SOLID:
            return self._solid(f)
        if record.kind == "bytes":
            data = self._bytes(name).tobytes()
            return np.frombuffer(blobs.decode_skeleton(SkeletonInfo(record.detail, array.shape[0]), data), np.uint8)
        found = self._part(name).get("values")
        if found is None or found.dtype != known_dtype(array.dtype) or found.shape != array.shape:
            raise broken(f"section {name!r}", f"it must hold {array.dtype} {list(array.shape)}", "another array")
        return found

    def _solid(self, f: int) -> U8:
        """The bytes of a file that lie in a stream."""
        s, start = self._begins[f]
        out = np.empty(self._records[f].arrays[0].shape[0], np.uint8)
        at = 0
        for block, first, end in solid.spans(start, out.size):
            out[at : at + end - first] = self._block(s, block)[first:end]
            at += end - first
        return out

    def _block(self, s: int, block: int) -> U8:
        """A block of a stream; those that follow are decoded beside it, and all are kept for the files to come."""
        if (s, block) not in self._blocks:
            stream = self._streams[s]
            self._blocks = {key: data for key, data in self._blocks.items() if key[0] != s}
            while sum(data.size for data in self._blocks.values()) > KEPT:
                del self._blocks[next(iter(self._blocks))]
            # As many of each stream as are kept: files of all streams may follow on each other.
            room = max(1, KEPT // (solid.BLOCK * len(self._streams)))
            wanted = range(block, min(block + min(kernel.threads(), solid.AT_ONCE, room), stream.blocks))
            names = [f"stream {s} block {k}" for k in wanted]
            coded = [(*mixed.only(self._part(name), f"section {name!r}"), stream.size(k))
                     for name, k in zip(names, wanted, strict=True)]  # fmt: skip
            decoded = kernel.over_chunks(lambda one: mixed.bytes_of(*one), coded)
            for k, data in zip(wanted, decoded, strict=True):
                self._blocks[s, k] = np.frombuffer(data, np.uint8)
        return self._blocks[s, block]

    def _bytes(self, name: str) -> U8:
        found = self._part(name).get("bytes")
        if found is None or found.dtype != np.uint8 or found.ndim != 1:
            raise broken(f"section {name!r}", "it must hold bytes", "another array")
        return found

    def _part(self, name: str) -> dict[str, Array]:
        section = self._archive.parts.get(name)
        if section is None:
            raise broken("manifest", f"it must have the part {name!r}", "none")
        self._used.add(name)
        return self._archive.part(section)

    def finish(self) -> None:
        """That every part has been of use."""
        left = sorted(set(self._archive.parts) - self._used)
        if left:
            raise broken("manifest", "every part must belong to a file", repr(left)[:200])
