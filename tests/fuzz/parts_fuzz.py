"""Data sets' archives that lie within their parts: in the index, a table's schema, a sound's form, any array.

Such a lie is compressed, so that changed bytes seldom tell it; here the part is decoded, changed and coded again.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from attar.archive import Archive, blobs, read_archive
from attar.archive.base import SectionInfo, SkeletonInfo
from attar.archive.header import groups, header_bytes
from attar.archive.manifest import in_parts
from attar.archive.parts import PART
from attar.errors import AttarError
from attar.types import Array

Edit = Callable[[random.Random, Any], None]
Arrays = dict[str, Array]
DTYPES = ("uint8", "int16", "int32", "uint32", "int64", "float32", "bool")
NAMES = ("bytes", "words", "schema", "values 0", "kinds 0", "places 0", "names 0", "text 0", "mixed", "latents", "form")


def changed(rng: random.Random, data: bytes, edit: Edit) -> bytes:
    """A data set's archive with one to three of its parts changed; `edit` changes a JSON value somewhere."""
    archive = read_archive(data)
    coded = {name: (section, archive._blob(section)) for name, section in archive.parts.items()}
    meta: dict[str, Any] = dict(archive.meta)
    for _ in range(rng.randrange(1, 4)):
        name = "index" if rng.random() < 0.3 else rng.choice(sorted(coded))
        if name not in coded:
            continue
        try:
            if name == "index":
                meta["index"], coded[name] = _index(rng, archive, edit)
            else:
                arrays = blobs.decode_arrays(*coded[name])
                _change(rng, arrays, edit)
                coded[name] = blobs.code_arrays(name, PART, arrays, "dense")
        except (AttarError, ValueError, TypeError, OverflowError, zlib.error):
            continue  # what cannot be written
    if rng.random() < 0.05 and len(coded) > 1:
        del coded[rng.choice(sorted(coded))]
    return _file(meta, coded)


def _index(rng: random.Random, archive: Archive, edit: Edit) -> tuple[list[Any], tuple[SectionInfo, bytes]]:
    codec, length = archive.meta["index"]  # type: ignore[misc]
    packed = archive.part(archive.parts["index"])["bytes"].tobytes()
    value = json.loads(blobs.decode_skeleton(SkeletonInfo(codec, length), packed))
    for _ in range(rng.randrange(1, 4)):
        edit(rng, value)
    form, _, blob = blobs.code_skeleton(json.dumps(value).encode())
    part = blobs.code_arrays("index", PART, {"bytes": np.frombuffer(blob, np.uint8)})
    return [form.codec, form.length], part


def _change(rng: random.Random, arrays: Arrays, edit: Edit) -> None:
    """One array: its JSON, its values, its shape or type, its name."""
    name = rng.choice(sorted(arrays))
    array, choice = arrays[name], rng.random()
    if name in ("schema", "form") and array.ndim == 1 and choice < 0.9:
        value = json.loads(zlib.decompress(array.tobytes()) if name == "schema" else array.tobytes())
        for _ in range(rng.randrange(1, 4)):
            edit(rng, value)
        text = json.dumps(value).encode()
        arrays[name] = np.frombuffer(zlib.compress(text) if name == "schema" else text, np.uint8)
    elif choice < 0.6:
        arrays[name] = _values(rng, array)
    elif choice < 0.8:
        flat = array.reshape(-1)
        size = max(0, flat.size + rng.choice([-1, 1, -flat.size, flat.size, 1 << 16]))
        arrays[name] = np.resize(flat, size) if flat.size else np.zeros(size, array.dtype)
    elif choice < 0.9:
        with np.errstate(invalid="ignore"):
            arrays[name] = array.astype(rng.choice(DTYPES), copy=True)
    else:
        arrays[rng.choice(NAMES)] = arrays.pop(name)


def _values(rng: random.Random, array: Array) -> Array:
    """Some of its values, often the least and the largest that there can be."""
    out = array.copy()
    flat = out.reshape(-1)
    for _ in range(rng.randrange(1, 6) if flat.size else 0):
        span = rng.randrange(1, 1 + min(flat.size, rng.choice([1, 1, 9, flat.size])))
        at = rng.randrange(flat.size - span + 1)
        if out.dtype.kind in "iu":
            limit = np.iinfo(out.dtype)
            value = rng.choice([limit.min, limit.max, 0, 1, rng.randrange(256) % limit.max, rng.randrange(limit.max)])
            flat[at : at + span] = value
        else:
            flat[at : at + span] = rng.choice([0, 1, -1, 1e30])
    return out


def _file(meta: dict[str, Any], coded: dict[str, tuple[SectionInfo, bytes]]) -> bytes:
    manifest = in_parts(meta, tuple(section for section, _ in coded.values()))
    ordered = [coded[section.name][1] for group in groups(manifest).values() for section in group]
    return header_bytes(manifest) + b"".join(ordered)
