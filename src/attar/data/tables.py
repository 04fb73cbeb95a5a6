"""Tables: CSV, Parquet and JSON Lines as pandas data frames, and back."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from attar.data.extras import extra
from attar.errors import DataError, FormatError

SUFFIXES = (".csv", ".parquet", ".jsonl", ".ndjson")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
LEADING_ZERO = re.compile(r"[+-]?0\d")
"""What is a code (post code, article number) rather than a number: as a number it would lose its zeros."""


def is_table(path: Path) -> bool:
    """Whether a file's name says that it is a table."""
    return path.suffix.lower() in SUFFIXES


def read_table(path: Path) -> Any:
    """The table as a data frame with rows numbered from 0.

    Of CSV only empty cells are missing, and a column is one of numbers where every cell is one and none begins with a
    zero that would be lost. Raises FormatError where the file is broken, DataError for columns of one name or no rows,
    UsageError where pandas or pyarrow are not installed.
    """
    pandas = extra("pandas", "tables")
    extra("pyarrow", "tables")
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            frame = pandas.read_parquet(path)
        elif suffix == ".csv":
            frame = _read_csv(path, pandas)
        else:
            frame = pandas.read_json(path, lines=True, dtype=False, convert_dates=False, precise_float=True)
    except (OSError, ValueError, UnicodeError, csv.Error) as error:  # those of pandas and pyarrow are ValueErrors
        said = " ".join(str(error).split())
        raise FormatError(f"table {path.name!r}: it must be whole {suffix[1:]}. Received: {said}.") from None
    if not len(frame) or not len(frame.columns):
        raise DataError(f"table {path.name!r}: it must have rows and columns. Received {frame.shape}. Add some.")
    frame.columns = [str(name) for name in frame.columns]
    return frame.reset_index(drop=True)


def _read_csv(path: Path, pandas: Any) -> Any:
    """CSV as text, then columns of numbers as numbers."""
    header_of(path)
    frame = pandas.read_csv(path, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
    if not isinstance(frame.index, pandas.RangeIndex):
        raise ValueError("rows have more cells than the header")
    return frame.apply(lambda column: numbers(column) if is_numeric_text(column) else column)


def header_of(path: Path) -> list[str]:
    """The names of a CSV file's columns; raises ValueError where it has no commas, DataError where one is twice."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file), [])
    if len(names) == 1 and re.search(r"[;\t|]", names[0]):
        raise ValueError(f"a header without commas, {names[0][:40]!r}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"table {path.name!r}: columns must have names of their own. Received {twice[0]!r} twice.")
    return names


def is_numeric_text(column: Any) -> bool:
    """Whether every cell that is there is a number in plain form, none with a zero in front that would be lost."""
    cells = column.dropna()
    plain = cells.str.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?") & ~cells.str.match(LEADING_ZERO.pattern)
    return bool(len(cells)) and bool(plain.all())


def numbers(column: Any) -> Any:
    """A column of text as numbers; what is none becomes missing. Spaces around and commas at thousands are left out."""
    pandas = extra("pandas", "tables")
    text = column.str.strip()
    text = text.where(text.str.fullmatch(NUMBER.pattern) & ~text.str.match(LEADING_ZERO.pattern))
    return pandas.to_numeric(text.str.replace(",", ""), errors="coerce")


def write_table(frame: Any, path: Path) -> None:
    """The table in the form that the ending says; its rows are numbered anew."""
    suffix = path.suffix.lower()
    frame = frame.reset_index(drop=True)
    if suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True, force_ascii=False, double_precision=15)
