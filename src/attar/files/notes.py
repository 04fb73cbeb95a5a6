"""Text files one at a time: e-mails and the like, by class in folders, and what is wrong with their letters."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attar.files.pictures import part_and_label

SUFFIXES = (".txt", ".eml")
MOST = 1 << 26
"""Bytes of one file; larger ones are no examples."""
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_TWICE = re.compile(
    "[\u00c2-\u00f4][\u0080-\u00bf\u2018-\u2026\u20ac\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u02c6\u02dc\u2122]+"
)


@dataclass(frozen=True, slots=True)
class Note:
    """A text file: where it lies, its letters, and what is wrong with them; `error` says why it cannot be read.

    `encoding` is utf-8, or latin-1 where it is not; `control`: characters that no text has; `twice`: letters that were
    taken for another encoding before they were written.
    """

    path: str
    part: str
    label: str
    length: int = 0
    encoding: str = ""
    control: bool = False
    twice: bool = False
    empty: bool = False
    digest: str = ""
    error: str = ""


def read_notes(folder: Path, paths: Sequence[str]) -> Iterator[tuple[Note, str]]:
    """Each text file, and its text ("" where it cannot be read)."""
    for path in paths:
        part, label = part_and_label(path)
        try:
            if (folder / path).stat().st_size > MOST:
                raise OSError(0, f"more than {MOST:,} bytes")
            data = (folder / path).read_bytes()
        except OSError as error:
            yield Note(path, part, label, error=str(error.strerror)), ""
            continue
        text, encoding = _decoded(data)
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        control = _CONTROL.search(text) is not None or "\ufffd" in text
        yield Note(path, part, label, len(text), encoding, control, _is_twice(text), not text.strip(), digest), text


def _decoded(data: bytes) -> tuple[str, str]:
    try:
        return data.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"


def _is_twice(text: str) -> bool:
    """Whether some letters are UTF-8 that was read as if it had been Windows-1252."""
    for match in _TWICE.finditer(text):
        try:
            if match.group().encode("cp1252").decode("utf-8"):
                return True
        except UnicodeError:
            continue
    return False
