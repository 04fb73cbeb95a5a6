"""Stored members of a zip file: where their bytes lie. Deflated members are left to the shell."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator

from attar.formats.source import Bytes

MAGIC = b"PK\3\4"


def opened(source: Bytes) -> zipfile.ZipFile:
    """The file's directory; raises FormatError where it is none."""
    try:
        return zipfile.ZipFile(source.path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise source.broken("it must be a whole zip file", str(error)[:100]) from error


def stored(source: Bytes, archive: zipfile.ZipFile) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each member that is stored as it is."""
    for member in archive.infolist():
        if (
            member.compress_type != zipfile.ZIP_STORED
            or member.file_size != member.compress_size
            or member.flag_bits & 1
        ):
            continue
        if member.header_offset + 30 > source.size:
            raise source.broken(f"member {member.filename!r} must lie in the file", str(member.header_offset))
        head = source.read(member.header_offset, 30)
        start = (
            member.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        )
        if head[:4] == MAGIC and start + member.file_size <= source.size:
            yield member.filename, start, member.file_size
