"""Tables: columns of numbers and of free text changed, all others and the target as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.augment.changes import CHANGES, Keyed, Params, change_rows, change_text
from attar.augment.tables import Columns
from attar.cleaning.table_steps import number_columns, text_columns
from attar.data.arrays import LABELS
from attar.data.extras import extra
from attar.data.tables import write_table
from attar.errors import UsageError
from attar.files.sources import Table

BLOCK = 8192
"""Rows that are changed at once."""
LEAST_WORDS = 3
"""Fewest words of a cell, on average, of free text; shorter ones are names and categories."""
MOST_CLASSES = 0.5
"""Largest share of distinct values among the rows of a target that has classes."""


@dataclass(frozen=True)
class TableSet:
    """A table with its target and the columns that are left alone."""

    source: Table
    target: str | None
    leave: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What it holds."""
        return "tables"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Whose changes can be done: those of numbers and of text, as there are columns of them."""
        return (*(("tables",) if self.numbers else ()), *(("text",) if self.texts else ()))

    @property
    def total(self) -> int:
        """Rows."""
        return len(self.source.frame)

    @property
    def places(self) -> range:
        """All rows."""
        return range(self.total)

    @cached_property
    def numbers(self) -> list[str]:
        """Columns of numbers that float64 holds, neither the target nor left alone."""
        frame = self.source.frame
        names = [name for name in number_columns(frame) if name != self.target and name not in self.leave]
        values = {name: frame[name].to_numpy(np.float64, na_value=np.nan) for name in names}
        return [name for name, x in values.items() if np.nanmax(np.abs(x), initial=0.0) < 2**53]

    @cached_property
    def texts(self) -> list[str]:
        """Columns of free text."""
        frame = self.source.frame
        names = [name for name in text_columns(frame) if name != self.target and name not in self.leave]
        return [name for name in names if frame[name].fillna("").str.count(r"\S+").mean() >= LEAST_WORDS]

    @cached_property
    def columns(self) -> Columns:
        """The numbers of the whole table, with the classes of its target where it has some."""
        frame = self.source.frame
        values = np.stack([frame[name].to_numpy(np.float64, na_value=np.nan) for name in self.numbers], 1)
        classes = None
        if self.target is not None:
            target = frame[self.target]
            whole = target.dtype.kind != "f" or bool((target.dropna() % 1 == 0).all())
            if whole and target.nunique() <= max(MOST_CLASSES * len(target), 2):
                classes = extra("pandas", "tables").factorize(target.astype(str), sort=True)[0]
        return Columns(values, classes)

    def check(self, params: Params, copies: int) -> None:
        """That classes are there where they are needed; raises UsageError."""
        del copies
        if "interpolate" in params and self.columns.facts.classes is None:
            raise UsageError(
                "interpolate: it needs a target with classes. Received "
                f"{'none' if self.target is None else f'{self.target!r}, which has numbers'}. Name one with --target, "
                "or leave it out."
            )

    def changed(self, rows: NDArray[np.int64], copy: int, params: Params, seed: int) -> Any:
        """Rows changed, as a data frame with the same columns and types."""
        pandas = extra("pandas", "tables")
        frame = self.source.frame.iloc[rows].copy()
        ours = {name: params[name] for name in params if name in CHANGES["tables"]}
        if ours:
            values = change_rows(self.columns, rows, ours, lambda name: Keyed(seed, name, rows, copy))
            for name, column in zip(self.numbers, values.T, strict=True):
                frame[name] = pandas.Series(column, frame.index).astype(frame[name].dtype)
        words = {name: params[name] for name in params if name in CHANGES["text"]}
        for name in self.texts if words else ():
            cells = zip(rows.tolist(), frame[name], strict=True)
            frame[name] = [self._text(cell, name, row, copy, words, seed) for row, cell in cells]
        return frame

    def _text(self, cell: Any, column: str, row: int, copy: int, params: Params, seed: int) -> Any:
        """A cell of free text changed; missing ones stay."""

        def draws(name: str) -> Keyed:
            return Keyed(seed, f"{name} {column}", np.array([row]), copy)

        return change_text(cell, params, draws) if isinstance(cell, str) else cell

    def shown(self, at: int, params: Params | None, seed: int) -> Any:
        """A row as a mapping from names to cells, as it is or as it is in the first copy."""
        rows = np.array([at])
        frame = self.source.frame.iloc[rows] if params is None else self.changed(rows, 1, params, seed)
        return {name: frame[name].iloc[0] for name in frame.columns}

    def caption(self, at: int) -> str:
        """The row's number and label."""
        told = "" if self.target is None else f": {self.source.frame[self.target].iloc[at]}"
        return f"row {at}{told}"

    def write(
        self, place: Path, params: Params, copies: int, seed: int, only_copies: bool, jobs: int | None,
        step: Callable[[int], None],
    ) -> int:  # fmt: skip
        """The table with originals first, then the first copy of all, and so on; gives the number of rows."""
        del jobs  # what is slow holds the interpreter
        pieces = [] if only_copies else [self.source.frame]
        for copy in range(1, copies + 1):
            for start in range(0, self.total, BLOCK):
                rows = np.arange(start, min(start + BLOCK, self.total))
                pieces.append(self.changed(rows, copy, params, seed))
                step(len(rows))
        whole = extra("pandas", "tables").concat(pieces, ignore_index=True)
        write_table(whole, place)
        return len(whole)


def table_set(source: Table, target: str | None, leave: tuple[str, ...]) -> TableSet:
    """The table with its target found by name; raises UsageError for columns that are not there, or none to change."""
    names = list(source.frame.columns)
    for place, name in [("target", target), *(("leave", each) for each in leave)]:
        if name is not None and name not in names:
            raise UsageError(f"{place}: it must be a column. Received {name!r}; there are {', '.join(names[:20])}.")
    target = target or next((name for name in names if name.lower() in LABELS), None)
    found = TableSet(source, target, leave)
    if not found.kinds:
        raise UsageError(
            f"table {source.path.name!r}: a column of numbers or of free text must be there beside the target. "
            f"Received {', '.join(names[:20])}. Nothing else is changed."
        )
    return found
