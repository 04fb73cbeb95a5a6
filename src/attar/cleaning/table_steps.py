"""Cleaning a table, one step for each kind of fault; a step gives a new table and says what it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attar.cleaning.faults import Fault, examples, short
from attar.data.extras import extra
from attar.data.tables import numbers
from attar.errors import UsageError

OUTLIERS = ("list", "clip", "drop")
PLACEHOLDERS = ("?", "n/a", "N/A", "#N/A", "null", "NULL", "nan", "NaN", "<NA>")
"""Text that means a missing value in every column; -, none and NA do so in columns of numbers alone."""
MOSTLY = 0.9
"""Share of numbers from which on a column of text is one of numbers."""
MOST_CATEGORIES = 200
"""Most spellings of a column of categories; a column with more is free text."""
FENCE = 3.0
"""Interquartile ranges beyond the quartiles from which on a number is an outlier (Tukey's outer fence)."""
LEAST_NUMBERS = 20


@dataclass(frozen=True, slots=True)
class CleanSettings:
    """What cleaning may do beyond what cannot lose anything.

    Rows with more than `max_missing` of their cells empty are dropped. `outliers` are listed, clipped to the fences or
    dropped. `drop_noisy` drops rows whose label is probably wrong; `find_noisy` looks for them.
    """

    target: str | None = None
    max_missing: float = 0.5
    outliers: str = "list"
    drop_noisy: bool = False
    find_noisy: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.max_missing <= 1:
            raise UsageError(f"max_missing: it must be a share above 0, at most 1. Received {self.max_missing}.")
        if self.outliers not in OUTLIERS:
            raise UsageError(f"outliers: it must be one of {', '.join(OUTLIERS)}. Received {self.outliers!r}.")


Step = tuple[Any, list[Fault]]


def place(name: str) -> str:
    """How a column is called in a line."""
    return f"column {name!r}"


def cells(column: Any, mask: Any) -> tuple[str, ...]:
    """A few cells of a column with the numbers of their rows."""
    found = column[mask][:3]
    return tuple(f"row {row} {short(value)!r}" for row, value in found.items())


def text_columns(frame: Any) -> list[str]:
    """Columns whose cells are all text, or missing."""
    pandas = extra("pandas", "tables")
    names = []
    for name in frame.columns:
        column = frame[name]
        if pandas.api.types.is_object_dtype(column) or pandas.api.types.is_string_dtype(column):
            inferred = pandas.api.types.infer_dtype(column, skipna=True)
            names += [name] if inferred == "string" else []
    return names


def number_columns(frame: Any) -> list[str]:
    """Columns of numbers; truth values are none."""
    pandas = extra("pandas", "tables")
    types = pandas.api.types
    return [n for n in frame.columns if types.is_numeric_dtype(frame[n]) and not types.is_bool_dtype(frame[n])]


def mixed_types(frame: Any, _: CleanSettings) -> Step:
    """Columns that hold values of several types (JSON Lines, Parquet): simple ones become text, nested ones stay."""
    pandas = extra("pandas", "tables")
    faults, changed = [], {}
    for name in frame.columns:
        column = frame[name]
        kind = pandas.api.types.infer_dtype(column, skipna=True)
        if not pandas.api.types.is_object_dtype(column) or kind in ("string", "empty", "boolean", "decimal", "bytes"):
            continue
        there = column.notna()
        nested = column[there].map(lambda value: hasattr(value, "__len__") and not isinstance(value, str))
        odd = there & ~column.map(lambda value: isinstance(value, str))
        if nested.any():
            faults.append(Fault("nested values", place(name), int(nested.sum()), len(frame), change="left alone"))
            continue
        changed[name] = column.where(~there, column.map(str)).astype("str")
        faults.append(
            Fault("mixed types", place(name), int(odd.sum()), len(frame), cells(column, odd), "written as text")
        )
    return frame.assign(**changed), faults


def placeholders(frame: Any, _: CleanSettings) -> Step:
    """Text that stands for a missing value."""
    faults, changed = [], {}
    for name in text_columns(frame):
        column = frame[name]
        stands = column.str.strip().isin(PLACEHOLDERS)
        if stands.any():
            changed[name] = column.mask(stands)
            faults.append(
                Fault("placeholder", place(name), int(stands.sum()), len(frame), cells(column, stands), "made missing")
            )
    return frame.assign(**changed), faults


def numbers_as_text(frame: Any, settings: CleanSettings) -> Step:
    """Columns of text that hold numbers; what is none in them becomes missing, and is named."""
    faults, changed = [], {}
    for name in text_columns(frame):
        column = frame[name]
        there, parsed = column.notna(), numbers(column)
        good = int(parsed.notna().sum())
        if not there.any() or good < MOSTLY * there.sum() or (name == settings.target and good < there.sum()):
            continue
        changed[name] = parsed
        told = "read as numbers"
        faults.append(Fault("number as text", place(name), good, len(frame), cells(column, parsed.notna()), told))
        bad = there & parsed.isna()
        if bad.any():
            faults.append(
                Fault("not a number", place(name), int(bad.sum()), len(frame), cells(column, bad), "made missing")
            )
    return frame.assign(**changed), faults


def infinite(frame: Any, _: CleanSettings) -> Step:
    """Infinite numbers become missing."""
    import numpy as np

    faults, changed = [], {}
    for name in number_columns(frame):
        bad = frame[name].isin([np.inf, -np.inf])
        if bad.any():
            changed[name] = frame[name].mask(bad)
            told = cells(frame[name], bad)
            faults.append(Fault("infinite", place(name), int(bad.sum()), len(frame), told, "made missing"))
    return frame.assign(**changed), faults


def categories(frame: Any, settings: CleanSettings) -> Step:
    """Spellings of one category that differ in case or spaces become the commonest of them.

    Single letters keep their case: a and A may be two classes.
    """
    faults, changed = [], {}
    for name in text_columns(frame):
        column = frame[name]
        counts = column.value_counts()
        if len(counts) > MOST_CATEGORIES or (len(counts) > len(column) / 2 and name != settings.target):
            continue
        best: dict[str, str] = {}
        for spelling in sorted(counts.index, key=lambda s: (-counts[s], s)):
            best.setdefault(_folded(spelling), " ".join(spelling.split()))
        spelled = {s: best[_folded(s)] for s in counts.index if best[_folded(s)] != s}
        odd = column.isin(list(spelled))
        if odd.any():
            changed[name] = column.replace(spelled)
            told = examples([f"{a!r} -> {b!r}" for a, b in sorted(spelled.items())])
            faults.append(Fault("spelling", place(name), int(odd.sum()), len(frame), told, "spelled alike"))
    return frame.assign(**changed), faults


def _folded(spelling: str) -> str:
    """What spellings of one category have in common."""
    plain = " ".join(spelling.split())
    return plain.casefold() if len(plain) > 1 else plain


def idle_columns(frame: Any, settings: CleanSettings) -> Step:
    """Constant, empty and duplicate columns are left out; the target is not."""
    pandas = extra("pandas", "tables")
    faults: list[Fault] = []
    leave: list[str] = []
    first: dict[str, str] = {}
    for name in frame.columns:
        column, missing = frame[name], int(frame[name].isna().sum())
        try:
            distinct = column.nunique()
        except TypeError:  # nested values
            continue
        if distinct == 0 or (distinct == 1 and not missing):
            kind, what = ("empty column", ()) if not distinct else ("constant column", examples([column.iloc[0]]))
            left = name != settings.target
            leave += [name] if left else []
            faults.append(Fault(kind, place(name), len(frame), len(frame), what, "left out" if left else ""))
            continue
        key = f"{column.dtype} {pandas.util.hash_pandas_object(column, index=False).to_numpy().tobytes().hex()}"
        twin = first.setdefault(key, name)
        if twin != name:
            goes = name if name != settings.target else twin
            leave.append(goes)
            told = f"left out: equal to {(twin if goes == name else name)!r}"
            faults.append(Fault("duplicate column", place(goes), len(frame), len(frame), (), told))
    return frame.drop(columns=leave), faults
