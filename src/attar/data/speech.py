"""Folders of recordings with what is said in them, for models that write down speech."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

from attar.data.limits import MAX_BYTES
from attar.data.wav import recording
from attar.errors import DataError, FormatError
from attar.types import Recordings

TABLES = ("metadata.csv", "metadata.jsonl")
TEXTS = ("transcription", "text", "sentence")
"""Columns of a table that may hold what is said; file_name is the other."""


def read_recordings(source: object) -> Recordings | None:
    """The WAV files of one folder, sorted; None for other sources.

    What is said stands in NAME.txt beside NAME.wav, or in metadata.csv or metadata.jsonl with file_name and
    transcription. Raises DataError where some recordings have a text and others none, FormatError.
    """
    if not isinstance(source, str | os.PathLike) or not Path(source).is_dir():
        return None
    folder = Path(source)
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav" and path.name[0] != ".")
    if not files:
        return None
    size = sum(path.stat().st_size for path in files)
    if size > MAX_BYTES:
        raise DataError(f"data {folder.name!r}: recordings must fit {MAX_BYTES} bytes. Received {size}. Use fewer.")
    told = _texts(folder, files)
    missing = [path.name for path in files if path.name not in told]
    if told and missing:
        raise DataError(
            f"data {folder.name!r}: every recording must have a text, or none. Received none for {missing[0]!r}. Write "
            f"it into {Path(missing[0]).stem}.txt, or take the recording out."
        )
    read = [recording(path) for path in files]
    texts = [told[path.name] for path in files] if told else None
    return Recordings([samples for samples, _ in read], [rate for _, rate in read], texts, str(folder))


def _texts(folder: Path, files: Sequence[Path]) -> dict[str, str]:
    """What is said by the name of the file."""
    for name in TABLES:
        if (folder / name).is_file():
            return _table(folder / name)
    beside = {path.name: path.with_suffix(".txt") for path in files}
    return {name: _decoded(path).strip() for name, path in beside.items() if path.is_file()}


def _table(path: Path) -> dict[str, str]:
    """File names and texts of a table; raises FormatError."""
    try:
        text = _decoded(path)
        rows = [json.loads(line) for line in text.splitlines() if line.strip()] if path.suffix == ".jsonl" else list(
            csv.DictReader(text.splitlines()))  # fmt: skip
        return {str(row["file_name"]): str(next(row[name] for name in TEXTS if name in row)) for row in rows}
    except (ValueError, KeyError, StopIteration, TypeError, csv.Error) as error:
        raise FormatError(
            f"data {path.name!r}: it must have file_name and {' or '.join(TEXTS)}. Received another ({error!r}). "
            "Correct it."
        ) from None


def _decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"data {path.name!r}: it must be UTF-8. Received {error.reason}. Convert it.") from None
