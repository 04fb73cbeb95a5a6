"""The safetensors header: eight bytes of length, JSON, then the tensors' bytes without gaps.

Sections below `GROUPED` bytes stand end to end in one tensor called "attar"; every larger one is a tensor of its own.
The pieces of a packed file are one tensor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from attar.archive import manifest as manifests
from attar.archive.base import GROUPED, LONGEST_HEADER, VERSION, SectionInfo, broken, strict_json
from attar.archive.manifest import Manifest
from attar.archive.parts import PART
from attar.types import Json

GROUP = "attar"


def groups(manifest: Manifest) -> dict[str, list[SectionInfo]]:
    """The sections in each tensor, in the order of their bytes in the file; empty sections are in none."""
    if manifest.files:
        return {f"file/{file.name}": pieces for file in manifest.files if (pieces := list(file.sections))}
    result: dict[str, list[SectionInfo]] = {}
    sections = manifest.sections
    small = [section for section in sections if 0 < section.nbytes < GROUPED]
    if small:
        result[GROUP] = small
    for section in sections:
        if section.nbytes >= GROUPED:
            named = section.kind in ("layer", PART)
            result[f"{section.kind}/{section.name}" if named else section.kind] = [section]
    return result


def header_bytes(manifest: Manifest) -> bytes:
    """Length and JSON."""
    entries: dict[str, Json] = {"__metadata__": {"attar": VERSION, "manifest": manifests.to_text(manifest)}}
    at = 0
    for name, sections in groups(manifest).items():
        size = sum(section.nbytes for section in sections)
        entries[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text


def header_length(prefix: bytes, file_bytes: int) -> int:
    """Bytes of JSON behind the first eight of a file; raises FormatError."""
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > min(file_bytes - 8, LONGEST_HEADER):
        raise broken(
            "header",
            f"its length must fit the file and be {LONGEST_HEADER} at most",
            f"{file_bytes} bytes that say {length}",
        )
    return length


def parse_header(text: bytes, data_bytes: int) -> tuple[Manifest, dict[str, int]]:
    """The manifest, and where each tensor begins in the data; raises FormatError."""
    try:
        entries = strict_json(text.decode())
    except (ValueError, RecursionError) as error:
        raise broken("header", "it must be JSON", str(error)[:200]) from error
    metadata = entries.pop("__metadata__", None) if isinstance(entries, dict) else None
    if not isinstance(metadata, dict) or "attar" not in metadata:
        raise broken("header", "a .attar file says so", "another safetensors file", "`attar compress` makes one.")
    if metadata["attar"] != VERSION:
        raise broken(
            "header", f"this attar reads version {VERSION}", repr(metadata["attar"])[:50],
            "Upgrade: pip install --upgrade attar.",
        )  # fmt: skip
    if set(metadata) != {"attar", "manifest"} or not isinstance(metadata["manifest"], str):
        raise broken("header", "its metadata are attar and manifest", repr(sorted(metadata))[:200])
    manifest = manifests.from_text(metadata["manifest"])
    return manifest, _starts(entries, groups(manifest), data_bytes)


def _starts(entries: Mapping[str, Json], expected: Mapping[str, list[SectionInfo]], data_bytes: int) -> dict[str, int]:
    """Where each tensor begins: all expected ones and no others, without gaps, to the end of the file."""
    if set(entries) != set(expected):
        raise broken("header", f"its tensors must be {sorted(expected)}"[:300], repr(sorted(entries))[:300])
    spans = []
    for name, sections in expected.items():
        size = sum(section.nbytes for section in sections)
        entry = entries[name]
        offsets: Json = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not _is_span(offsets, size) or entry != {"dtype": "U8", "shape": [size], "data_offsets": offsets}:
            raise broken(f"tensor {name!r}", f"it must be U8 of {size} bytes", repr(entry)[:200])
        spans.append((int(offsets[0]), size, name))
    at = 0
    for start, size, name in sorted(spans):
        if start != at:
            raise broken(f"tensor {name!r}", f"it must begin at {at}", str(start))
        at += size
    if at != data_bytes:
        raise broken("file", f"the header calls for {at} bytes of data", str(data_bytes))
    return {name: start for start, _, name in spans}


def _is_span(offsets: Json, size: int) -> bool:
    """Whether it is [start, start + size]."""
    return (
        isinstance(offsets, list)
        and len(offsets) == 2
        and all(type(x) is int and 0 <= x < 1 << 62 for x in offsets)
        and offsets[1] - offsets[0] == size
    )
