"""Texts for models that read tokens: .txt and .jsonl files, folders of texts, lists of strings."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attar.data.arrays import LABELS
from attar.data.limits import MAX_BYTES
from attar.errors import DataError, FormatError
from attar.types import Json, Texts

LINES = (".jsonl", ".ndjson")
PLAIN = (".txt", ".md")
NAMES = ("text", "sentence", "content")
"""Names under which a line of .jsonl may have its text."""


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How texts become examples, in a recipe."""

    window: int = field(default=256, metadata={"help": "tokens in an example at most", "low": 8, "high": 131072})


def read_texts(source: object) -> Texts | None:
    """The texts of a source; None where it is none of texts. Raises FormatError, DataError."""
    if isinstance(source, list | tuple) and source and all(isinstance(text, str) for text in source):
        return Texts(list(source), True, "texts")
    if not isinstance(source, str | os.PathLike):
        return None
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        if not files or any(p.suffix not in PLAIN for p in files):
            return None
        return Texts([_decoded(p) for p in files], False, str(path))
    if path.is_file() and path.suffix in PLAIN:
        return Texts([_decoded(path)], False, str(path))
    if path.is_file() and path.suffix in LINES:
        return _lines(path)
    return None


def _decoded(path: Path) -> str:
    """A file as text; raises FormatError where it is not UTF-8."""
    if path.stat().st_size > MAX_BYTES:
        raise DataError(
            f"data {path.name!r}: a text must take {MAX_BYTES} bytes at most. Received {path.stat().st_size}. Split it."
        )
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"data {path.name!r}: a text must be UTF-8. Received {error.reason} at byte {error.start}. Convert it."
        ) from None


def _lines(path: Path) -> Texts:
    """The texts of .jsonl, one a line: strings, or objects with a text and perhaps a label."""
    rows: list[Json] = []
    for number, line in enumerate(_decoded(path).splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise FormatError(
                    f"data {path.name!r}, line {number}: it must be JSON. Received {error}. Correct it."
                ) from None
    if not rows:
        raise DataError(f"data {path.name!r}: at least one line is needed. Received none.")
    if all(isinstance(row, str) for row in rows):
        return Texts(rows, True, str(path))
    first = rows[0] if isinstance(rows[0], dict) else {}
    name = next((known for known in NAMES if isinstance(first.get(known), str)), None)
    fit = (isinstance(row, dict) and isinstance(row.get(name), str) for row in rows)
    wrong = next((number for number, fits in enumerate(fit, 1) if not fits), 0)
    if name is None or wrong:
        raise DataError(
            f"data {path.name!r}, line {wrong or 1}: it must be a string, or an object with a text as "
            f"{', '.join(NAMES)}. Received {str(rows[max(wrong, 1) - 1])[:80]!r}. Name the text so in all lines."
        )
    label = next((known for known in LABELS if known in first), None)
    labels = None if label is None else _all(rows, label, path)
    return Texts([row[name] for row in rows], True, str(path), labels)


def _all(rows: Sequence[Json], name: str, path: Path) -> list[Json]:
    """One value of every line; raises DataError where a line lacks it."""
    missing = next((n for n, row in enumerate(rows, 1) if name not in row), 0)
    if missing:
        raise DataError(f"data {path.name!r}, line {missing}: it must have {name!r} as the first one has. Add it.")
    return [row[name] for row in rows]
