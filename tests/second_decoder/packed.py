"""Packed checkpoints: the files that `attar pack` was given, from docs/format.md."""

from __future__ import annotations

import zlib

from second_decoder.archive import Archive, decode, inflated, size_of, width_of

PIECE = 1 << 22
CODED = {"bool": ("uint8", 1), "complex64": ("float32", 2), "complex128": ("float64", 2)}
FLOATS = ("float", "bfloat")


def pieces_of(dtype: str, shape: list[int]) -> tuple[str, list[list[int]]]:
    """What a tensor is coded as, and the shapes of its pieces."""
    coded, factor = CODED.get(dtype, (dtype, 1))
    size, last = size_of(shape) * factor, shape[-1] * factor if len(shape) > 1 else 1
    row = last if 1 < last <= PIECE else 1
    step = PIECE // row * row
    counts = [min(step, size - at) for at in range(0, size, step)]
    return coded, [[n // row, row] if row > 1 else [n] for n in counts]


def ranked(word: int, bits: int, floats: bool) -> int:
    """An integer that rises as the number does."""
    sign = 1 << (bits - 1)
    return (word ^ ((1 << bits) - 1) if word & sign else word | sign) if floats else word ^ sign


def plain(rank: int, bits: int, floats: bool) -> int:
    """The bits of a rank."""
    sign = 1 << (bits - 1)
    return (rank & ~sign if rank & sign else rank ^ ((1 << bits) - 1)) if floats else rank ^ sign


class Packed(Archive):
    """The files by name; `base` gives the bits of a base's tensors by name."""

    def __init__(self, data: bytes, base: dict[str, list[int]] | None = None) -> None:
        self.tensors: dict[str, list[int]] = {}
        self._base = base or {}
        super().__init__(data)
        self.files = {record[0]: self._file(record) for record in self.manifest["files"]}

    def _file(self, record: list) -> bytes:
        name, _, nbytes, shell, tensors, _ = record
        self._at = self._offsets[f"file/{name}"][0] if f"file/{name}" in self._offsets else 0
        rest = nbytes - sum(size_of(t[2]) * width_of(t[1]) for t in tensors)
        parts = []
        for i, (codec, size, crc) in enumerate(shell):
            length = min(PIECE, rest - i * PIECE)
            parts.append(inflated(codec, self._take(size, crc), length))
        result, at, used = b"".join(parts), 0, b""
        for tensor in tensors:
            gap = tensor[3] - len(used)
            used += result[at : at + gap] + self._tensor(tensor)
            at += gap
        return used + result[at:]

    def _take(self, size: int, crc: int) -> bytes:
        self._at += size
        blob = self._data[self._at - size : self._at]
        assert zlib.crc32(blob) == crc
        return blob

    def _tensor(self, record: list) -> bytes:
        name, dtype, shape, _, pieces = record
        coded, shapes = pieces_of(dtype, shape)
        width, words = width_of(coded), []
        for (coder, size, crc, *against), piece in zip(pieces, shapes, strict=True):
            found = decode(coder, self._take(size, crc), coded, piece)
            if against:
                old = self._base[name][len(words) : len(words) + len(found)]
                assert zlib.crc32(as_bytes(old, width)) == against[1]
                found = [undone(against[0], x, y, (8 * width, coded)) for x, y in zip(found, old, strict=True)]
            words += found
        self.tensors[name] = words
        return as_bytes(words, width)


def as_bytes(words: list[int], width: int) -> bytes:
    """Little-endian."""
    return b"".join(word.to_bytes(width, "little") for word in words)


def undone(against: str, found: int, old: int, kind: tuple[int, str]) -> int:
    """The bits of a value from the difference to the base's."""
    bits, dtype = kind
    if against == "xor":
        return found ^ old
    floats = dtype.startswith(FLOATS)
    distance = found >> 1 ^ -(found & 1)
    return plain((ranked(old, bits, floats) + distance) % (1 << bits), bits, floats)
