"""The manifest: what the sections are, as compact JSON, deflated with a fixed dictionary, in base 85.

It is text, because the metadata of a safetensors header is. A CRC-32 of the JSON guards it, and every field is checked
before it is used.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass

from attar.archive import records
from attar.archive.base import ArrayInfo, LayerInfo, SectionInfo, SkeletonInfo, TensorInfo, broken, strict_json
from attar.archive.packed import FileInfo
from attar.archive.packed_records import files_from, files_json
from attar.archive.parts import PART, parts_from, parts_json
from attar.coding import DTYPES, known_dtype
from attar.types import Json, Layer

_DICTIONARY = (
    b'running_mean running_var num_batches_tracked moving_mean moving_variance gamma beta kernel embedding,"tensorflow"'
    b'"transformers""einsum",null,0,"recurrent","conv_transpose","float16","bfloat16","int64","uint8","int8"],0,"keep"'
    b',{},[["matrix","float32",["raw",["planes",[{"framework":"keras""torch""onnx"},"version":1}'
    b'],"remainder":null,"skeleton":null,"remainder":[[["skeleton":["lzma",["deflate",["stored",],"meta":{"layers":[["'
    b'.weight","dense",10,16,32,64,128,256,512,3,3],1,"float32",1,null,"uniform",{"step":0.00},[["codes","int32",["rans",'
    b'],["rows","int16",[1],["cols","int16",[1,["bias","int32",[]],["layer1.0.conv1","conv",'
)
"""Text that manifests are likely to contain; part of the file format."""


@dataclass(frozen=True)
class Manifest:
    """sections in the order of their bytes within each of the two groups; layers, then remainder, then skeleton.

    Where there are packed files, there is nothing else: the sections are their pieces. So it is with parts.
    """

    meta: dict[str, Json]
    sections: tuple[SectionInfo, ...]
    layers: tuple[LayerInfo, ...]
    tensors: tuple[TensorInfo, ...]
    skeleton: SkeletonInfo | None
    files: tuple[FileInfo, ...] = ()

    @property
    def decoded_bytes(self) -> int:
        """Memory that all arrays and tensors together declare; those of unknown dtypes, which are refused, count 8."""
        sizes = {name: known_dtype(name).itemsize for name in DTYPES}
        arrays = sum(a.size * sizes.get(a.dtype, 8) for section in self.sections for a in section.arrays)
        return arrays + sum(tensor.size * sizes.get(tensor.dtype, 8) for tensor in self.tensors)


def packed(meta: dict[str, Json], files: tuple[FileInfo, ...]) -> Manifest:
    """The manifest of packed files: their pieces are its sections, file after file."""
    sections = tuple(section for file in files for section in file.sections)
    return Manifest(meta, sections, (), (), None, files)


def in_parts(meta: dict[str, Json], sections: tuple[SectionInfo, ...]) -> Manifest:
    """The manifest of a data set: parts that are named arrays."""
    return Manifest(meta, sections, (), (), None)


def to_text(manifest: Manifest) -> str:
    """The manifest as it stands in the header; raises TypeError or ValueError where meta is not JSON."""
    raw = json.dumps(_to_json(manifest), separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
    packed = _deflate(raw, 9)
    if len(raw) > _longest(len(packed)):
        packed = _deflate(raw, 0)
    return base64.b85encode(packed + zlib.crc32(raw).to_bytes(4, "little")).decode()


def _deflate(raw: bytes, level: int) -> bytes:
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)
    return deflate.compress(raw) + deflate.flush()


def _longest(packed: int) -> int:
    """Bytes of JSON that a reader takes from so many deflated ones."""
    return (1 << 20) + 64 * packed


def from_text(text: str) -> Manifest:
    """Inverse of to_text; raises FormatError."""
    try:
        packed = base64.b85decode(text)
    except ValueError as error:
        raise broken("manifest", "it must be base 85", str(error)) from error
    if len(packed) < 4 or base64.b85encode(packed).decode() != text:
        raise broken("manifest", "it must be the base 85 that attar writes", f"{len(text)} characters")
    raw = _inflate(packed[:-4])
    if zlib.crc32(raw) != int.from_bytes(packed[-4:], "little"):
        raise broken("manifest", "its checksum must hold", "another one")
    try:
        return _from_json(strict_json(raw))
    except (ValueError, RecursionError) as error:
        raise broken("manifest", "it must be JSON", str(error)) from error


def _inflate(packed: bytes) -> bytes:
    inflate = zlib.decompressobj(-15, _DICTIONARY)
    limit = _longest(len(packed))
    try:
        raw = inflate.decompress(packed, limit)
    except zlib.error as error:
        raise broken("manifest", "it must be deflated", str(error)) from error
    if not inflate.eof or inflate.unused_data:
        raise broken("manifest", f"it must inflate to {limit} bytes at most and end there", f"{len(raw)} and more")
    return raw


def _to_json(manifest: Manifest) -> Json:
    """Lists in a fixed order of fields; see the readers below for their meaning."""
    if manifest.files:
        return {"meta": manifest.meta, "files": files_json(manifest.files)}
    if any(section.kind == PART for section in manifest.sections):
        return {"meta": manifest.meta, "parts": parts_json(manifest.sections)}
    by_kind = {kind: [s for s in manifest.sections if s.kind == kind] for kind in ("layer", "remainder", "skeleton")}
    result: dict[str, Json] = {
        "meta": manifest.meta,
        "layers": [layer_record(i, s) for i, s in zip(manifest.layers, by_kind["layer"], strict=True)],
    }
    for section in by_kind["remainder"]:
        tensors = [[t.name, t.dtype, list(t.shape), int(t.constant)] for t in manifest.tensors]
        result["remainder"] = [tensors, [records.array_json(a)[1:] for a in section.arrays], section.crc32]
    for section in by_kind["skeleton"]:
        assert manifest.skeleton is not None
        result["skeleton"] = [manifest.skeleton.codec, manifest.skeleton.length, section.nbytes, section.crc32]
    return result


def layer_record(info: LayerInfo, section: SectionInfo) -> Json:
    """What `layer_of` reads."""
    x = info.layer
    fields = [x.name, x.kind, x.rows, x.cols, list(x.shape), x.groups, x.dtype, int(x.has_bias), x.tied_to]
    return [*fields, info.method, info.meta, [records.array_json(array) for array in section.arrays], section.crc32]


def _from_json(value: Json) -> Manifest:
    """Checks every field; raises FormatError."""
    fields = records.typed(value, dict, "manifest")
    if set(fields) == {"meta", "files"}:
        return packed(records.typed(fields["meta"], dict, "manifest: meta"), files_from(fields["files"]))
    if set(fields) == {"meta", "parts"}:
        return in_parts(records.typed(fields["meta"], dict, "manifest: meta"), parts_from(fields["parts"]))
    unknown = set(fields) - {"meta", "layers", "remainder", "skeleton"}
    if unknown:
        raise broken("manifest", "its fields must be known", ", ".join(sorted(map(str, unknown))), "Upgrade attar.")
    meta = records.typed(fields.get("meta"), dict, "manifest: meta")
    pairs = [layer_of(item) for item in records.typed(fields.get("layers"), list, "manifest: layers")]
    layers = tuple(info for info, _ in pairs)
    sections = [section for _, section in pairs]
    tensors: tuple[TensorInfo, ...] = ()
    if "remainder" in fields:
        tensors, section = _remainder(fields["remainder"])
        sections.append(section)
    skeleton = None
    if "skeleton" in fields:
        codec, length, nbytes, crc = records.row(fields["skeleton"], (str, int, int, int), "skeleton")
        skeleton = SkeletonInfo(codec, length)
        sections.append(SectionInfo("skeleton", "skeleton", nbytes, crc))
    records.unique([info.layer.name for info in layers], "layer")
    records.unique([tensor.name for tensor in tensors], "remainder")
    return Manifest(meta, tuple(sections), layers, tensors, skeleton)


def layer_of(item: Json) -> tuple[LayerInfo, SectionInfo]:
    """[name, kind, rows, cols, shape, groups, dtype, has_bias, tied_to, method, meta, arrays, crc32]."""
    types = (str, str, int, int, list, int, str, int, (str, type(None)), str, dict, list, int)
    name, kind, rows, cols, shape, groups, dtype, bias, tied, method, meta, arrays, crc = records.row(
        item, types, "layer"
    )
    place = f"section {name!r}"
    layer = Layer(name, kind, rows, cols, records.shape(shape, place), groups, dtype, bool(bias), tied)
    coded = tuple(records.array(array, place) for array in arrays)
    records.unique([array.name for array in coded], place)
    return LayerInfo(layer, method, meta), SectionInfo(name, "layer", sum(a.nbytes for a in coded), crc, coded)


def _remainder(item: Json) -> tuple[tuple[TensorInfo, ...], SectionInfo]:
    """[[name, dtype, shape, constant] ..., [dtype, shape, coder, nbytes] ..., crc32]."""
    rows, arrays, crc = records.row(item, (list, list, int), "remainder")
    tensors = []
    for row in rows:
        name, dtype, shape, constant = records.row(row, (str, str, list, int), "remainder")
        tensors.append(TensorInfo(name, dtype, records.shape(shape, f"remainder: {name!r}"), bool(constant)))
    coded = tuple(records.array(["", *records.typed(array, list, "remainder")], "remainder") for array in arrays)
    named = tuple(ArrayInfo(a.dtype, a.dtype, a.shape, a.coder, a.nbytes) for a in coded)
    return tuple(tensors), SectionInfo("remainder", "remainder", sum(a.nbytes for a in named), crc, named)
