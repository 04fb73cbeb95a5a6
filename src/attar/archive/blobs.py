"""Sections as bytes: a layer's coded arrays, the remainder's tensors by dtype, the compressed skeleton."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from attar.archive.base import ArrayInfo, SectionInfo, SkeletonInfo, TensorInfo, broken, count, skeleton_limit
from attar.archive.vocabulary import VOCABULARY
from attar.coding import decode_array, decode_scaled, encode_array
from attar.errors import FormatError
from attar.types import Array

_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 23}]


def code_arrays(name: str, kind: str, arrays: Mapping[str, Array], effort: str = "fast") -> tuple[SectionInfo, bytes]:
    """One section of named arrays, each by the coder that makes it smallest; effort as in coding.encode_array."""
    infos, parts = [], []
    for label, array in arrays.items():
        coder, data = encode_array(array, effort)
        infos.append(ArrayInfo(label, array.dtype.name, array.shape, coder, len(data)))
        parts.append(data)
    blob = b"".join(parts)
    return SectionInfo(name, kind, len(blob), zlib.crc32(blob), tuple(infos)), blob


def decode_arrays(section: SectionInfo, blob: bytes, without: str | None = None) -> dict[str, Array]:
    """The arrays of a section, by name, but for one; raises FormatError that names section and array."""
    view, at, result = memoryview(blob), 0, {}
    for array in section.arrays:
        if array.name != without:
            with _in_array(section, array):
                data = view[at : at + array.nbytes]
                result[array.name] = decode_array(array.coder, data, array.dtype, array.shape)
        at += array.nbytes
    return result


def decode_scaled_array(section: SectionInfo, blob: bytes, name: str, row: Array, column: Array, form: str) -> Array:
    """One integer matrix of a section times its scales; raises FormatError that names section and array."""
    at = 0
    for array in section.arrays:
        if array.name == name:
            with _in_array(section, array):
                data = memoryview(blob)[at : at + array.nbytes]
                return decode_scaled(array.coder, data, array.dtype, array.shape, row, column, form)
        at += array.nbytes
    raise broken(f"section {section.name!r}", f"it must have an array {name!r}", str([a.name for a in section.arrays]))


@contextmanager
def _in_array(section: SectionInfo, array: ArrayInfo) -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        raise FormatError(f"section {section.name!r}, array {array.name!r}: {error}") from error


def code_remainder(tensors: Mapping[str, Array]) -> tuple[tuple[TensorInfo, ...], SectionInfo, bytes]:
    """All tensors in one section: those of a dtype are concatenated and coded together, constants as one value."""
    infos = []
    parts: dict[str, list[Array]] = {}
    for name, array in tensors.items():
        flat = np.ascontiguousarray(array).reshape(-1)
        same = flat.size > 1 and _all_equal(flat)
        infos.append(TensorInfo(name, array.dtype.name, array.shape, same))
        parts.setdefault(array.dtype.name, []).append(flat[:1] if same else flat)
    joined = {dtype: np.concatenate(flats) for dtype, flats in parts.items()}
    section, blob = code_arrays("remainder", "remainder", joined)
    return tuple(infos), section, blob


def _all_equal(flat: Array) -> bool:
    """Whether all elements have the same bits."""
    raw = flat.view(np.uint8).reshape(flat.size, -1)
    return bool((raw == raw[0]).all())


def decode_remainder(tensors: Sequence[TensorInfo], section: SectionInfo, blob: bytes) -> dict[str, Array]:
    """Inverse of code_remainder; raises FormatError."""
    joined = decode_arrays(section, blob)
    at = dict.fromkeys(joined, 0)
    result = {}
    for tensor in tensors:
        start = at[tensor.dtype]
        at[tensor.dtype] = start + tensor.stored
        values = joined[tensor.dtype][start : at[tensor.dtype]]
        if tensor.constant:
            values = np.broadcast_to(values, (count(tensor.shape),) if values.size else (0,))
        result[tensor.name] = values.reshape(tensor.shape).copy()
    return result


def check_remainder(tensors: Sequence[TensorInfo], section: SectionInfo) -> None:
    """That the tensors use up the arrays of their dtypes exactly; raises FormatError."""
    need: dict[str, int] = {}
    for tensor in tensors:
        need[tensor.dtype] = need.get(tensor.dtype, 0) + tensor.stored
    have = {array.dtype: array.size for array in section.arrays if len(array.shape) == 1}
    if need != have or len(have) != len(section.arrays):
        raise broken("remainder", "its arrays must hold what its tensors need", f"{have} for {need}")


def code_skeleton(skeleton: bytes) -> tuple[SkeletonInfo, SectionInfo, bytes]:
    """The shortest of stored, raw deflate with the vocabulary, and raw LZMA2."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, VOCABULARY)
    options = {
        "stored": skeleton,
        "words": deflate.compress(skeleton) + deflate.flush(),
        "lzma": lzma.compress(skeleton, lzma.FORMAT_RAW, filters=_LZMA),
    }
    fit = [name for name, blob in options.items() if len(skeleton) <= skeleton_limit(len(blob))]
    codec = min(fit, key=lambda name: len(options[name]))
    blob = options[codec]
    return SkeletonInfo(codec, len(skeleton)), SectionInfo("skeleton", "skeleton", len(blob), zlib.crc32(blob)), blob


def decode_skeleton(info: SkeletonInfo, blob: bytes) -> bytes:
    """Inverse of code_skeleton, never more than the stated length; raises FormatError."""
    if info.length > skeleton_limit(len(blob)):
        raise broken("skeleton", f"its length must be {skeleton_limit(len(blob))} at most", str(info.length))
    try:
        if info.codec == "stored":
            data, ended = blob, True
        elif info.codec in ("deflate", "words"):
            inflate = zlib.decompressobj(-15, VOCABULARY) if info.codec == "words" else zlib.decompressobj(-15)
            data = inflate.decompress(blob, info.length + 1)
            ended = inflate.eof and not inflate.unused_data
        elif info.codec == "lzma":
            unpack = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA)
            data = unpack.decompress(blob, info.length + 1)
            ended = unpack.eof and not unpack.unused_data
        else:
            raise broken(
                "skeleton", "the codec must be stored, words, deflate or lzma", repr(info.codec), "Upgrade attar."
            )
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        raise broken("skeleton", f"it must be {info.codec} data", str(error)) from error
    if len(data) != info.length or not ended:
        raise broken("skeleton", f"it must have {info.length} bytes", f"{len(data)} or more")
    return data
