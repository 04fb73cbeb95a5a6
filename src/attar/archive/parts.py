"""The parts of a data set: sections of named arrays, and nothing else in the file."""

from __future__ import annotations

from collections.abc import Sequence

from attar.archive.base import SectionInfo, broken
from attar.archive.records import array, array_json, row, typed, unique
from attar.types import Json

PART = "part"


def parts_json(sections: Sequence[SectionInfo]) -> list[Json]:
    """[name, [[name, dtype, shape, coder, nbytes] ...], crc32] ..."""
    return [[section.name, [array_json(info) for info in section.arrays], section.crc32] for section in sections]


def parts_from(value: Json) -> tuple[SectionInfo, ...]:
    """Checks every field; raises FormatError."""
    found = tuple(_part(item) for item in typed(value, list, "manifest: parts"))
    if not found:
        raise broken("manifest", "a data set has parts", "none")
    unique([section.name for section in found], "part")
    return found


def _part(item: Json) -> SectionInfo:
    name, arrays, crc = row(item, (str, list, int), "part")
    coded = tuple(array(one, f"section {name!r}") for one in arrays)
    unique([info.name for info in coded], f"section {name!r}")
    return SectionInfo(name, PART, sum(info.nbytes for info in coded), crc, coded)
