"""Tables read a block of rows at a time, so that one larger than memory can be hashed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.data.extras import extra
from attar.data.tables import SUFFIXES, header_of, is_numeric_text, is_table
from attar.errors import DataError, FormatError, UsageError

ROWS = 1 << 16
"""Rows of a block."""
WORDS = 3
"""Mean words of a cell from which on a column with ever new cells is free text."""


@dataclass(frozen=True)
class Survey:
    """What a table holds: rows, columns, which of them are numbers throughout, and which are free text."""

    rows: int
    columns: tuple[str, ...]
    numbers: frozenset[str]
    texts: frozenset[str]


def blocks(path: Path, rows: int = ROWS) -> Iterator[Any]:
    """Data frames of at most so many rows: cells of CSV as text or missing, those of Parquet and JSON Lines as typed.

    Raises UsageError for what is no table, FormatError where it is broken, DataError for columns of one name.
    """
    if not path.is_file() or not is_table(path):
        raise UsageError(f"data: it must be a table ({', '.join(SUFFIXES)}). Received {str(path)!r}.")
    pandas = extra("pandas", "tables")
    arrow = extra("pyarrow.parquet", "tables")
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            with arrow.ParquetFile(path) as file:
                yield from (batch.to_pandas() for batch in file.iter_batches(rows))
            return
        if suffix == ".csv":
            header_of(path)
            frames = pandas.read_csv(
                path, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig", chunksize=rows
            )
        else:
            frames = pandas.read_json(
                path, lines=True, dtype=False, convert_dates=False, precise_float=True, chunksize=rows
            )
        with frames:
            for frame in frames:
                if not isinstance(frame.index, pandas.RangeIndex):
                    raise ValueError("rows have more cells than the header")
                yield frame
    except (OSError, ValueError, UnicodeError, csv.Error) as error:  # those of pandas and pyarrow are ValueErrors
        said = " ".join(str(error).split())
        raise FormatError(f"table {path.name!r}: it must be whole {suffix[1:]}. Received: {said}.") from None


def survey(path: Path) -> Survey:
    """One pass over the table; raises DataError where it has no rows, and as `blocks`."""
    rows = 0
    kinds: dict[str, set[str]] = {}
    for frame in blocks(path):
        rows += len(frame)
        for name in frame.columns:
            kinds.setdefault(str(name), set()).add(_kind(frame[name]))
    if not rows or not kinds:
        raise DataError(f"table {path.name!r}: it must have rows and columns. Received {rows} rows. Add some.")
    numbers = frozenset(name for name, kind in kinds.items() if kind <= {"number", "nothing"} and "number" in kind)
    texts = frozenset(name for name, kind in kinds.items() if "text" in kind and name not in numbers)
    return Survey(rows, tuple(kinds), numbers, texts)


def _kind(column: Any) -> str:
    """What a column of a block is: "number", "text" of several words and ever new, "category" or "nothing"."""
    pandas = extra("pandas", "tables")
    cells = column.dropna()
    if not len(cells):
        return "nothing"
    if pandas.api.types.is_numeric_dtype(column) and not pandas.api.types.is_bool_dtype(column):
        return "number"
    cells = cells.astype(str)
    if is_numeric_text(cells):
        return "number"
    ever_new = cells.nunique() > len(cells) / 2
    return "text" if ever_new and float(cells.str.split().str.len().mean()) >= WORDS else "category"
