"""A second reader of .attar files, written from docs/format.md: plain Python, no numpy, nothing of attar's.

Arrays come back as lists of unsigned integers, the bits of their elements. It is slow, and trusts what it reads.
"""

from __future__ import annotations

import base64
import json
import lzma
import zlib
from pathlib import Path

from second_decoder import dense, rans
from second_decoder.numbers import Bytes

DICTIONARIES = json.loads((Path(__file__).parents[2] / "docs" / "dictionaries.json").read_text())
WIDTHS = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16,
}  # fmt: skip


def width_of(dtype: str) -> int:
    """Bytes of an element."""
    return 1 if dtype.startswith("float8") else WIDTHS[dtype]


def size_of(shape: list[int]) -> int:
    """Elements."""
    size = 1
    for axis in shape:
        size *= axis
    return size


def decode(coder: str, data: bytes, dtype: str, shape: list[int]) -> list[int]:
    """The elements' bits."""
    count, width = size_of(shape), width_of(dtype)
    if not count:
        return []
    if coder == "raw":
        return [int.from_bytes(data[width * i : width * (i + 1)], "little") for i in range(count)]
    if coder == "planes":
        return planes(Bytes(data), count, width)
    values = {"rans": rans.decode, "dense": dense.decode}[coder](Bytes(data), shape)
    return [value % (1 << (8 * width)) for value in values]


def planes(data: Bytes, count: int, width: int) -> list[int]:
    """Byte planes of numbers whose bits are rotated left by one, perhaps in sections."""
    form = data.take(1)[0]
    if form != 2:
        return section(data, form, count, width)
    words: list[int] = []
    while len(words) < count:
        length = min(data.varint() << 16, count - len(words))
        words += section(data, data.take(1)[0], length, width)
    return words


def section(data: Bytes, form: int, count: int, width: int) -> list[int]:
    """Numbers of one form."""
    bits = 8 * width
    if form == 0:
        return [int.from_bytes(data.take(width), "little")] * count
    words = [0] * count
    for k in range(width):
        plane = data.sized()
        symbols = list(plane) if len(plane) == count else rans.decode(Bytes(plane), [count])
        for i, symbol in enumerate(symbols):
            words[i] |= symbol << (8 * k)
    return [word >> 1 | (word & 1) << (bits - 1) for word in words]


class Archive:
    """A file, read: manifest, arrays by layer and name, remainder by name, skeleton."""

    def __init__(self, data: bytes) -> None:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        self._data = data[8 + length :]
        self._offsets = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
        self.manifest = self._manifest(header["__metadata__"]["manifest"])
        self._group = 0
        self.layers = {record[0]: self._layer(record) for record in self.manifest.get("layers", [])}
        self.remainder = self._remainder()
        self.skeleton = self._skeleton()

    def _manifest(self, text: str) -> dict:
        packed = base64.b85decode(text)
        inflate = zlib.decompressobj(-15, base64.b64decode(DICTIONARIES["manifest"]))
        raw = inflate.decompress(packed[:-4])
        assert zlib.crc32(raw) == int.from_bytes(packed[-4:], "little")
        return json.loads(raw)

    def _section(self, tensor: str, size: int, crc: int) -> bytes:
        """A section of its own tensor, or the next of those that stand end to end."""
        if tensor in self._offsets and size >= 1 << 16:
            start = self._offsets[tensor][0]
        else:
            start = self._offsets["attar"][0] + self._group if size else 0
            self._group += size
        blob = self._data[start : start + size]
        assert zlib.crc32(blob) == crc
        return blob

    def _layer(self, record: list) -> dict[str, list[int]]:
        name, arrays, crc = record[0], record[11], record[12]
        blob = Bytes(self._section(f"layer/{name}", sum(array[4] for array in arrays), crc))
        return {array[0]: decode(array[3], blob.take(array[4]), array[1], array[2]) for array in arrays}

    def _remainder(self) -> dict[str, list[int]]:
        if "remainder" not in self.manifest:
            return {}
        tensors, arrays, crc = self.manifest["remainder"]
        blob = Bytes(self._section("remainder", sum(array[3] for array in arrays), crc))
        values = {array[0]: decode(array[2], blob.take(array[3]), array[0], array[1]) for array in arrays}
        result = {}
        for name, dtype, shape, constant in tensors:
            size = size_of(shape)
            stored = min(size, 1) if constant else size
            part, values[dtype] = values[dtype][:stored], values[dtype][stored:]
            result[name] = part * size if constant else part
        return result

    def _skeleton(self) -> bytes | None:
        if "skeleton" not in self.manifest:
            return None
        codec, length, size, crc = self.manifest["skeleton"]
        return inflated(codec, self._section("skeleton", size, crc), length)


def inflated(codec: str, blob: bytes, length: int) -> bytes:
    """What a codec made smaller."""
    if codec == "words":
        blob = zlib.decompressobj(-15, base64.b64decode(DICTIONARIES["skeleton"])).decompress(blob)
    elif codec == "lzma":
        blob = lzma.decompress(blob, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 23}])
    assert len(blob) == length
    return blob
