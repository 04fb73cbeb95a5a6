"""What is in a data set, what is wrong with it, and the set without that: one pass for both, so that they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.cleaning import table_rows, table_steps
from attar.cleaning.check_arrays import clean_arrays, describe_arrays
from attar.cleaning.check_folder import clean_folder
from attar.cleaning.check_notes import clean_notes
from attar.cleaning.check_recordings import clean_recordings
from attar.cleaning.faults import Fault, facts, short
from attar.cleaning.table_steps import CleanSettings
from attar.errors import DataError, UsageError
from attar.files.pictures import as_images, look, silent, thumbnail
from attar.files.sources import Arrays, Folder, Source, Table, check_output, open_source, save
from attar.types import Array, Json

STEPS = (
    table_steps.mixed_types, table_steps.placeholders, table_steps.numbers_as_text, table_steps.infinite,
    table_steps.categories, table_steps.idle_columns, table_rows.empty_rows, table_steps.idle_columns,
    table_rows.missing, table_rows.outliers, table_rows.twin_rows, table_rows.rare_classes, table_rows.noisy_labels,
)  # fmt: skip
"""What is done to a table, in this order: types first, since all else depends on them.

Idle columns come twice: an empty one would count against its rows, and without empty rows others may be constant.
"""
FOLDERS = {"images": clean_folder, "recordings": clean_recordings, "texts": clean_notes}
"""What looks at a folder, by kind."""
MOST_DRAWN = 24
"""Pictures of a fault on a page."""
DRAWN_SIDE = 96


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is there (`rows`, one for each column, array or class) and what is wrong with it.

    `cleaned` is the set that `save` writes; `before` and `after` count examples.
    """

    source: Source
    rows: tuple[dict[str, Json], ...]
    faults: tuple[Fault, ...]
    before: int
    after: int
    cleaned: Source

    def facts(self) -> dict[str, Json]:
        """The inspection for a machine."""
        return {
            "source": str(self.source.path), "examples": self.before, "kept": self.after, "contents": list(self.rows),
            "faults": facts(self.faults),
        }  # fmt: skip


def inspect(
    source: str | Path | Source, settings: CleanSettings | None = None, step: Callable[[int], None] = silent
) -> Inspection:
    """Look at a table, .npz, idx files or a folder of images, recordings or texts; nothing is written.

    A column called label, labels, target, targets or y is the target of a table where `settings` name none.
    Raises UsageError, DataError, FormatError.
    """
    settings = settings or CleanSettings()
    found = open_source(source)
    if isinstance(found, Table):
        settings = replace(settings, target=target_of(found, settings.target))
        frame, faults = found.frame, []
        for one in STEPS:
            frame, more = one(frame, settings)
            faults += more
        if not len(frame):
            raise DataError(f"table {found.path.name!r}: some rows must stay. All {len(found.frame)} would be dropped.")
        rows = tuple(describe_table(found.frame, settings.target))
        return Inspection(found, rows, tuple(faults), len(found.frame), len(frame), Table(found.path, frame))
    if settings.target is not None:
        raise UsageError(f"target: only tables have a column to name. Received {settings.target!r}. Leave it out.")
    if isinstance(found, Arrays):
        cleaned, listed, stays = clean_arrays(found, settings)
        return _inspection(found, describe_arrays(found), listed, stays, cleaned)
    files, listed, stays, contents = FOLDERS[found.kind](found, settings, step)
    return _inspection(found, contents, listed, stays, files)


def _inspection(
    source: Source, rows: list[dict[str, Json]], faults: list[Fault], stays: NDArray[np.bool_], cleaned: Source
) -> Inspection:
    """The values together; raises DataError where nothing is left."""
    if not stays.any():
        raise DataError(f"data {str(source.path)!r}: some examples must stay. All {len(stays)} would be dropped.")
    return Inspection(source, tuple(rows), tuple(faults), len(stays), int(stays.sum()), cleaned)


def clean(
    source: str | Path,
    out: Path | None,
    settings: CleanSettings | None = None,
    *,
    force: bool = False,
    step: Callable[[int], None] = silent,
) -> Inspection:
    """Inspect, and write the cleaned set to `out` (None: a dry run); the source is read only.

    Raises as `inspect`, and OutputError where `out` is taken or cannot be written; it is looked at before any work.
    """
    opened = open_source(source)
    if out is not None:
        check_output(opened, out, force)
    found = inspect(opened, settings, step)
    if out is not None:
        save(found.cleaned, out)
    return found


def target_of(table: Table, given: str | None) -> str | None:
    """The column of labels: the one given, or one whose name means labels, or None; raises UsageError."""
    names = list(table.frame.columns)
    if given is not None and given not in names:
        raise UsageError(f"target: it must be a column. Received {given!r}; there are {', '.join(names[:20])}.")
    from attar.data.arrays import LABELS

    return given or next((name for name in names if name.lower() in LABELS), None)


def describe_table(frame: Any, target: str | None) -> list[dict[str, Json]]:
    """A row for each column: dtype, missing, distinct values, range or commonest value."""
    rows = []
    numeric = set(table_steps.number_columns(frame))
    for name in frame.columns:
        column = frame[name]
        row: dict[str, Json] = {"column": name, "dtype": str(column.dtype), "missing": int(column.isna().sum())}
        try:
            counts = column.value_counts()
        except TypeError:  # nested values
            rows.append(row)
            continue
        row["distinct"] = len(counts)
        if name in numeric and len(counts):
            row |= {"least": float(column.min()), "most": float(column.max())}
        elif len(counts):
            row["commonest"] = f"{short(counts.index[0], 30)} ({int(counts.iloc[0]):,})"
        rows.append(row | ({"target": True} if name == target else {}))
    return rows


def drawings(found: Inspection) -> list[list[tuple[str, Array]]]:
    """For each fault the examples concerned, as captions and small images uint8; none but for images."""
    wanted = sorted({at for fault in found.faults for at in fault.samples[:MOST_DRAWN]})
    images = _drawn(found.source, wanted)
    return [
        [
            (" ".join([images[at][0], *fault.notes[index : index + 1]]), images[at][1])
            for index, at in enumerate(fault.samples[:MOST_DRAWN])
            if at in images
        ]
        for fault in found.faults
    ]


def _drawn(source: Source, wanted: list[int]) -> dict[int, tuple[str, Array]]:
    """Caption and image by position."""
    if isinstance(source, Folder) and source.kind != "images":
        return {}
    if isinstance(source, Folder):
        names = [source.files[at] for at in wanted]
        seen = zip(wanted, look(source.path, names), strict=True)
        return {at: (p.path, thumbnail(x, DRAWN_SIDE, colour=x.ndim == 3)) for at, (p, x) in seen if x is not None}
    drawn: dict[int, tuple[str, Array]] = {}
    start = 0
    for part, (inputs, labels) in source.parts().items() if isinstance(source, Arrays) else ():
        first = next(iter(inputs.values()))
        inside = np.array([at - start for at in wanted if start <= at < start + len(first)], np.int64)
        images = as_images(first[inside]) if len(inside) else None
        for at, image in zip(inside.tolist(), () if images is None else images, strict=images is not None):
            caption = f"{part} {at}".strip() + ("" if labels is None else f": {labels[at]}")
            drawn[at + start] = (caption, image)
        start += len(first)
    return drawn
