"""A data set as it lies on disk, for verbs that look at it, clean it and compare it: table, arrays or folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from attar.data import images
from attar.data.arrays import LABELS, base_and_part, npz_arrays
from attar.data.idx import is_idx, read_idx, read_idx_folder
from attar.data.tables import is_table, read_table, write_table
from attar.errors import DataError, OutputError, UsageError
from attar.files import notes, recordings
from attar.outputs import guarded, publish, staged
from attar.types import Array, Dataset


@dataclass(frozen=True, slots=True)
class Table:
    """A table file and its data frame."""

    path: Path
    frame: Any


@dataclass(frozen=True, slots=True)
class Arrays:
    """Arrays by name, from .npz or idx files; x and y, or x_train, y_train, x_test, y_test."""

    path: Path
    arrays: Mapping[str, Array]

    def parts(self) -> dict[str, tuple[dict[str, Array], Array | None]]:
        """By part ("" where there is one): the inputs by name, and the labels or None.

        Raises DataError where a part has no inputs, no examples, or arrays of several lengths.
        """
        found: dict[str, tuple[dict[str, Array], Array | None]] = {}
        for name, values in self.arrays.items():
            base, part = base_and_part(name)
            inputs, labels = found.get(part, ({}, None))
            found[part] = (inputs, values) if base.lower() in LABELS else ({**inputs, base: values}, labels)
        for inputs, labels in found.values():
            everything = [*inputs.values(), *([] if labels is None else [labels])]
            lengths = {len(values) if values.ndim else 0 for values in everything}
            if not inputs or len(lengths) != 1 or 0 in lengths:
                shapes = {name: values.shape for name, values in self.arrays.items()}
                raise DataError(
                    f"data {str(self.path)!r}: arrays of a part must have one length above 0, and one must be an "
                    f"input. Received {shapes}. Correct the file."
                )
        return found


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of files of a kind (KINDS): their relative paths, and those of files that are of none."""

    path: Path
    files: tuple[str, ...]
    others: tuple[str, ...]
    kind: str = "images"


KINDS = {"images": images.SUFFIXES, "recordings": recordings.SUFFIXES, "texts": notes.SUFFIXES}
"""Endings by kind; a folder is of the first kind that it has a file of."""
Source = Table | Arrays | Folder


def open_source(given: str | Path | Source) -> Source:
    """What lies at a path; raises UsageError where nothing that is known does, FormatError, DataError."""
    if isinstance(given, Table | Arrays | Folder):
        return given
    path = Path(given)
    if not path.exists():
        raise UsageError(f"data: the file or folder must exist. Received {str(path)!r}.")
    if path.is_dir():
        if any(is_idx(file) for file in path.iterdir()):
            return Arrays(path, _named(read_idx_folder(path)))
        return files_of(path)
    if is_table(path):
        return Table(path, read_table(path))
    if path.suffix == ".npz":
        return Arrays(path, npz_arrays(path))
    if is_idx(path):
        return Arrays(path, {"x": read_idx(path)})
    raise UsageError(
        "data: it must be a table (.csv, .parquet, .jsonl), an .npz file, an idx file, or a folder of idx files, "
        f"images, recordings or texts. Received {str(path)!r}."
    )


def files_of(folder: Path) -> Folder:
    """The files of a folder's kind and the others, both sorted; hidden ones and transcripts of recordings are left out.

    Raises DataError where there is no file of a known kind.
    """
    names = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    for kind, endings in KINDS.items():
        files = tuple(name for name in names if PurePosixPath(name).suffix.lower() in endings)
        if files:
            others = set(names) - set(files)
            if kind == "recordings":
                others -= {beside for name in files for beside in beside_of(name)}
            return Folder(folder, files, tuple(sorted(others)), kind)
    endings = " ".join(ending for group in KINDS.values() for ending in group)
    raise DataError(f"folder {str(folder)!r}: it must hold images, recordings or texts ({endings}). Received none.")


def beside_of(name: str) -> list[str]:
    """Names that the transcript of a recording may have."""
    return [PurePosixPath(name).with_suffix(ending).as_posix() for ending in recordings.TRANSCRIPTS]


def _named(read: Dataset | Mapping[str, Dataset]) -> dict[str, Array]:
    """Parts as arrays by name."""
    parts = {"": read} if isinstance(read, Dataset) else read
    named: dict[str, Array] = {}
    for part, dataset in parts.items():
        end = f"_{part}" if part else ""
        named |= {f"{name}{end}": values for name, values in dataset.arrays().items()}
        named |= {} if dataset.labels is None else {f"y{end}": dataset.labels}
    return named


def check_output(source: Source, out: Path, force: bool = False) -> None:
    """That `out` is of the right kind, does not exist (unless `force`) and is not the source.

    Raises UsageError, OutputError.
    """
    if isinstance(source, Folder):
        if out.is_file():
            raise OutputError(
                f"output {str(out)!r}: it must be a folder. Received a file. Choose another place with -o."
            )
        if out.exists() and any(out.iterdir()):
            raise OutputError(
                f"output {str(out)!r}: the folder must be new or empty. Received one with files in it. Choose another."
            )
        inside = out.resolve().is_relative_to(source.path.resolve())
    else:
        endings = (".csv", ".parquet", ".jsonl", ".ndjson") if isinstance(source, Table) else (".npz",)
        if out.suffix.lower() not in endings:
            raise UsageError(f"output {str(out)!r}: it must end in {', '.join(endings)}. Correct the name.")
        if out.is_dir() or (out.exists() and not force):
            raise OutputError(f"output {str(out)!r}: it must not exist. Choose another place with -o, or pass --force.")
        inside = out.resolve() == source.path.resolve()
    if inside:
        raise UsageError(f"output {str(out)!r}: it must not be the source, or in it. Choose another place with -o.")


def save(source: Source, out: Path) -> None:
    """The source as it is in memory (a folder: the files that it names, copied byte for byte); raises OutputError."""
    with staged(out.parent) as stage:
        place = stage / out.name
        if isinstance(source, Folder):
            guarded(lambda: _copy(source, place), out)
            if out.exists():  # empty, or it would have been refused
                guarded(out.rmdir, out)
        elif isinstance(source, Table):
            guarded(lambda: write_table(source.frame, place), out)
        else:
            guarded(lambda: np.savez_compressed(place, allow_pickle=False, **source.arrays), out)
        publish(stage, out.parent)


def _copy(source: Folder, place: Path) -> None:
    """The files of a folder, byte for byte, transcripts with their recordings."""
    beside = [name for file in source.files for name in beside_of(file)] if source.kind == "recordings" else []
    for name in [*source.files, *(name for name in beside if (source.path / name).is_file())]:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path / name, place / name)


def taken(source: Source, keep: Sequence[int] | Array) -> Source:
    """The source with only some of its examples, by position over all parts in order."""
    positions = np.asarray(keep, np.int64)
    if isinstance(source, Table):
        return Table(source.path, source.frame.iloc[positions])
    if isinstance(source, Folder):
        return Folder(source.path, tuple(source.files[at] for at in positions), (), source.kind)
    kept: dict[str, Array] = {}
    start = 0
    for part, (inputs, _) in source.parts().items():
        count = len(next(iter(inputs.values())))
        inside = positions[(positions >= start) & (positions < start + count)] - start
        kept |= {n: values[inside] for n, values in source.arrays.items() if base_and_part(n)[1] == part}
        start += count
    return Arrays(source.path, kept)
