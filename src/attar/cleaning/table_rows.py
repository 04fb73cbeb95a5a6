"""Cleaning a table by rows and cells: missing values, outliers, duplicate rows, rare classes, wrong labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from attar.cleaning.faults import Fault, examples
from attar.cleaning.label_noise import wrong_labels
from attar.cleaning.table_features import table_features
from attar.cleaning.table_steps import (
    FENCE,
    LEAST_NUMBERS,
    MOST_CATEGORIES,
    CleanSettings,
    Step,
    cells,
    number_columns,
    place,
    text_columns,
)
from attar.data.extras import extra

IMBALANCE = 10
"""How many times rarer than the commonest a class must be to be listed."""


def empty_rows(frame: Any, settings: CleanSettings) -> Step:
    """Rows with too many empty cells, and rows without a label, are dropped."""
    faults = []
    share = frame.isna().mean(axis=1)
    empty = share > settings.max_missing
    if empty.any():
        told = f"dropped: more than {settings.max_missing:.0%} of their cells are missing"
        faults.append(Fault("empty row", "rows", int(empty.sum()), len(frame), _rows(frame, empty), told))
    if settings.target is not None:
        bare = frame[settings.target].isna() & ~empty
        if bare.any():
            told = "dropped: a label is not made up"
            faults.append(
                Fault("no label", place(settings.target), int(bare.sum()), len(frame), _rows(frame, bare), told)
            )
        empty |= bare
    return frame[~empty], faults


def missing(frame: Any, _: CleanSettings) -> Step:
    """Missing numbers become the median (the lower one), missing categories the commonest; free text stays empty."""
    faults, changed = [], {}
    numeric, text = set(number_columns(frame)), set(text_columns(frame))
    for name in frame.columns:
        column = frame[name]
        bad = column.isna()
        if not bad.any():
            continue
        value, told = None, "left empty: neither a number nor a category"
        if column.dropna().map(str).nunique() == 1:
            told = "left empty: the others are all equal"
        elif name in numeric:
            value = column.quantile(0.5, interpolation="lower")
            told = f"filled with the median {value:g}"
        elif name in text and column.nunique() <= min(MOST_CATEGORIES, len(column) / 2):
            counts = column.value_counts()
            value = min(counts.index[counts == counts.iloc[0]])
            told = f"filled with the commonest, {value!r}"
        if value is not None:
            changed[name] = _whole(column.fillna(value))
        faults.append(Fault("missing", place(name), int(bad.sum()), len(frame), _rows(frame, bad), told))
    return frame.assign(**changed), faults


def _whole(column: Any) -> Any:
    """Whole numbers as integers again: a missing one had made them floats."""
    if column.dtype == np.float64 and (column == column.round()).all() and (column.abs() < 2**53).all():
        return column.astype(np.int64)
    return column


def outliers(frame: Any, settings: CleanSettings) -> Step:
    """Numbers far outside the quartiles: listed, clipped to the fence, or their rows dropped."""
    faults, changed = [], {}
    far = frame.index != frame.index
    for name in number_columns(frame):
        column = frame[name]
        if name == settings.target or column.nunique() < LEAST_NUMBERS:
            continue
        low, high = column.quantile(0.25), column.quantile(0.75)
        low, high = low - FENCE * (high - low), high + FENCE * (high - low)
        bad = (column < low) | (column > high)
        if low == high or not bad.any():
            continue
        told = {"list": "", "clip": f"clipped to {low:g} .. {high:g}", "drop": "rows dropped"}[settings.outliers]
        faults.append(Fault("outlier", place(name), int(bad.sum()), len(frame), cells(column, bad), told))
        far = far | bad.to_numpy()
        changed[name] = column.astype(np.float64).clip(low, high)
    if settings.outliers == "clip":
        return frame.assign(**changed), faults
    return (frame[~far] if settings.outliers == "drop" else frame), faults


def twin_rows(frame: Any, _: CleanSettings) -> Step:
    """Equal rows are listed; `dedupe` takes them out."""
    pandas = extra("pandas", "tables")
    twins = pandas.Series(row_keys(frame), frame.index).duplicated()
    if not twins.any():
        return frame, []
    return frame, [Fault("duplicate row", "rows", int(twins.sum()), len(frame), _rows(frame, twins))]


def row_keys(frame: Any) -> Any:
    """A 64-bit hash of each row, [n] uint64."""
    pandas = extra("pandas", "tables")
    plain = frame.apply(lambda column: column.map(str) if column.dtype == object else column)
    return pandas.util.hash_pandas_object(plain, index=False).to_numpy()


def rare_classes(frame: Any, settings: CleanSettings) -> Step:
    """Classes much rarer than the commonest, where the target has classes."""
    if settings.target is None or not _has_classes(frame[settings.target]):
        return frame, []
    return frame, imbalance(frame[settings.target].value_counts().to_dict(), place(settings.target))


def _has_classes(column: Any) -> bool:
    """Whether a target names classes: few for its rows, and none a fraction."""
    if column.dtype.kind == "f" and (column % 1 != 0).any():
        return False
    return 2 <= column.nunique() <= min(MOST_CATEGORIES, max(len(column) // 10, 2))


def imbalance(counts: dict[Any, int], where: str) -> list[Fault]:
    """A fault that names the rare classes, or none."""
    most = max(counts.values(), default=0)
    rare = sorted((count, str(name)) for name, count in counts.items() if count * IMBALANCE <= most)
    if not rare:
        return []
    told = examples([f"{name}: {count:,}, the commonest {most:,}" for count, name in rare])
    return [Fault("rare class", where, len(rare), len(counts), told)]


def noisy_labels(frame: Any, settings: CleanSettings) -> Step:
    """Rows whose label is probably wrong: listed, dropped where asked."""
    target = settings.target
    if target is None or not settings.find_noisy or not _has_classes(frame[target]):
        return frame, []
    labels, names = extra("pandas", "tables").factorize(frame[target], sort=True)
    found = wrong_labels(table_features(frame.drop(columns=[target])), labels, settings.seed)
    if isinstance(found, str):
        return frame, [Fault("labels not checked", place(target), 0, len(frame), (), found)]
    if not len(found.positions):
        return frame, []
    rows = frame.index[found.positions]
    told = tuple(
        f"row {row} {names[labels[at]]!r}, rather {names[other]!r}"
        for row, at, other in list(zip(rows, found.positions, found.suggested, strict=True))[:3]
    )
    change = "rows dropped" if settings.drop_noisy else ""
    fault = Fault("label probably wrong", place(target), len(rows), found.looked_at, told, change, tuple(rows))
    return (frame.drop(index=rows) if settings.drop_noisy else frame), [fault]


def _rows(frame: Any, mask: Any) -> tuple[str, ...]:
    """The numbers of a few rows."""
    return examples(frame.index[np.asarray(mask)], "row {}")
