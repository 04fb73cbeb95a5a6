"""`attar data hash`: a table into an .npz of vectors and labels, in bounded memory."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attar.data.arrays import LABELS
from attar.data.limits import MAX_BYTES
from attar.errors import DataError, OutputError, UsageError
from attar.files.pictures import silent
from attar.hashing.blocks import Survey, blocks, survey
from attar.hashing.features import Hasher
from attar.outputs import guarded, publish, staged
from attar.types import Array, Json

LEAST, MOST = 16, 1 << 24
"""Bounds of the vectors' length."""
BLOCK_BYTES = 1 << 25
"""Bytes of dense rows that are written at once."""


@dataclass(frozen=True)
class Hashed:
    """What was written: rows, vectors' length, the target and its classes in order, and the collision report."""

    path: Path
    survey: Survey
    dims: int
    target: str | None
    classes: tuple[str, ...]
    report: dict[str, Json]

    def facts(self) -> dict[str, Json]:
        """For a machine."""
        return {
            "path": str(self.path), "rows": self.survey.rows, "columns": len(self.survey.columns), "dims": self.dims,
            "numbers": sorted(self.survey.numbers), "texts": sorted(self.survey.texts), "target": self.target,
            "classes": list(self.classes), **self.report,
        }  # fmt: skip


def hash_table(
    source: Path, out: Path, *, dims: int = 4096, target: str | None = None, force: bool = False,
    step: Callable[[int], None] = silent,
) -> Hashed:  # fmt: skip
    """Write x float32 [rows, dims] and, with a target, y (classes numbered in the order of the alphabet, or numbers).

    A column called label, labels, target, targets or y is the target where none is named. Blocks of rows are read,
    hashed and written one after the other. Raises UsageError, DataError, FormatError, OutputError; nothing is left
    behind then.
    """
    _check(out, dims, force)
    found = survey(source)
    if 4 * dims * found.rows > MAX_BYTES:
        most = MAX_BYTES // (4 * found.rows)
        raise UsageError(
            f"dims: {found.rows:,} rows must fit {MAX_BYTES >> 30} GiB, which is what readers take. Received {dims}; "
            f"the most is {most}."
        )
    target = _target(found, target, source.name)
    hasher = Hasher(found, dims, target)
    labels: list[Array] = []
    with staged(out.parent) as stage:

        def write() -> None:
            with zipfile.ZipFile(stage / out.name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                with _member(archive, "x") as member:
                    _header(member, np.dtype(np.float32), (found.rows, dims))
                    for frame in blocks(source):
                        _rows(member, hasher(frame))
                        labels.extend([] if target is None else [frame[target].to_numpy(object)])
                        step(len(frame))
                if target is not None:
                    y, names = _labels(np.concatenate(labels), target in found.numbers, target)
                    classes.extend(names)
                    with _member(archive, "y") as member:
                        np.lib.format.write_array(member, y, allow_pickle=False)

        classes: list[str] = []
        guarded(write, out)
        publish(stage, out.parent, force)
    return Hashed(out, found, dims, target, tuple(classes), hasher.seen.facts(dims))


def _check(out: Path, dims: int, force: bool) -> None:
    """Before any work."""
    if not LEAST <= dims <= MOST:
        raise UsageError(f"dims: it must be from {LEAST} to {MOST:,}. Received {dims}. Try 4096.")
    if out.suffix.lower() != ".npz":
        raise UsageError(f"output {str(out)!r}: it must end in .npz. Correct the name.")
    if out.is_dir() or (out.exists() and not force):
        raise OutputError(f"output {str(out)!r}: it must not exist. Choose another place with -o, or pass --force.")


def _target(found: Survey, given: str | None, name: str) -> str | None:
    """The column of labels."""
    if given is not None and given not in found.columns:
        raise UsageError(f"target: it must be a column. Received {given!r}; there are {', '.join(found.columns[:20])}.")
    target = given or next((column for column in found.columns if column.lower() in LABELS), None)
    if target is not None and len(found.columns) == 1:
        raise DataError(f"table {name!r}: it must have columns beside the target {target!r}. Received none. Add some.")
    return target


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    """A file in the archive without a time, so that the same table makes the same bytes."""
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = zipfile.ZIP_DEFLATED
    return archive.open(info, "w", force_zip64=True)


def _header(member: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """What goes before an array's bytes."""
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, described)


def _rows(member: Any, sparse: Any) -> None:
    """Sparse rows as dense bytes."""
    rows = max(BLOCK_BYTES // (4 * sparse.shape[1]), 1)
    for start in range(0, sparse.shape[0], rows):
        member.write(np.ascontiguousarray(sparse[start : start + rows].toarray()).data)


def _labels(cells: Array, numeric: bool, target: str) -> tuple[Array, list[str]]:
    """Labels [rows], and the names of classes; raises DataError where one is missing."""
    missing = [at for at, cell in enumerate(cells) if cell is None or cell != cell]
    if missing:
        raise DataError(
            f"target {target!r}: every row needs a label. Received {len(missing):,} without, first row {missing[0]}. "
            "Drop them: attar data clean."
        )
    if numeric:
        values = cells.astype(np.float64)
        whole = bool((values == np.round(values)).all())
        return values.astype(np.int64 if whole else np.float32), []
    names, y = np.unique(cells.astype(str), return_inverse=True)
    return y.astype(np.int64), names.tolist()
