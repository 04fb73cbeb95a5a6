"""Tables as examples: a row each, its columns of numbers in order, and the column of labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attar.data.arrays import dataset, labels_among
from attar.data.limits import MAX_BYTES
from attar.data.tables import read_table
from attar.errors import DataError
from attar.types import Array, Dataset, TensorSpec


def read_rows(path: Path, specs: Sequence[TensorSpec] = ()) -> Dataset:
    """A table file as a data set; see read_frame. Raises FormatError, DataError."""
    return read_frame(read_table(path), f"table {path.name!r}", specs, str(path))


def read_frame(frame: Any, place: str, specs: Sequence[TensorSpec] = (), origin: str = "") -> Dataset:
    """A pandas data frame as x float32 [rows, columns], the columns in their order, and labels [rows].

    Columns that are called as the inputs of a model of several are these inputs, [rows, 1] each.
    The column of labels is called y, label, labels, target or targets; labels that are words are numbered in sorted
    order, which class_names gives. place: what errors call it. Raises DataError for columns of words, for missing
    values and where there is no row.
    """
    frame, origin = frame.set_axis([str(name) for name in frame.columns], axis=1), origin or place
    needed = [spec.name for spec in specs if not spec.optional]
    found = labels_among(frame.columns, needed if len(needed) > 1 else ())
    if len(found) > 1:
        raise DataError(f"{place}: one column of labels is allowed. Received {', '.join(found)}. Rename the others.")
    labels, names = (None, ()) if not found else labels_of(frame[found[0]], place)
    inputs = frame.drop(columns=found)
    if len(needed) > 1 and set(needed) <= set(inputs.columns):
        named = {name: matrix(inputs[[name]], place) for name in needed}
        whole = {spec.name for spec in specs if spec.dtype.startswith("int")}
        cells = {name: values.astype(np.int64) if name in whole else values for name, values in named.items()}
        return dataset(cells, labels, origin, names)
    return dataset({"x": matrix(inputs, place)}, labels, origin, names)


def matrix(frame: Any, place: str) -> Array:
    """The columns side by side, float32; raises DataError."""
    words = [name for name in frame.columns if frame[name].dtype.kind not in "biuf"]
    if words:
        raise DataError(
            f"{place}: a model's inputs are numbers. Received column {words[0]!r} of "
            f"{frame[words[0]].dtype}, such as {str(frame[words[0]].iloc[0])[:40]!r}. Encode it as the model was "
            "trained, or call the column of labels y."
        )
    if not len(frame.columns):
        raise DataError(f"{place}: it must have a column besides the labels. Received none. Add it.")
    if 4 * frame.size > MAX_BYTES:
        raise DataError(f"{place}: it must fit {MAX_BYTES} bytes. Received {4 * frame.size}. Use less.")
    missing = frame.columns[frame.isna().any()]
    if len(missing):
        raise DataError(
            f"{place}: every cell must hold a number. Received {int(frame.isna().to_numpy().sum()):,} "
            f"empty ones, the first in column {missing[0]!r}. Run `attar data clean` on it."
        )
    return np.ascontiguousarray(frame.to_numpy(np.float32))


def labels_of(column: Any, place: str) -> tuple[Array, tuple[str, ...]]:
    """A column of labels as numbers, and the names of classes where they are words; raises DataError."""
    if column.isna().any():
        raise DataError(
            f"{place}: every row needs a label. Received {int(column.isna().sum()):,} without one. Leave them out."
        )
    if column.dtype.kind in "biuf":
        return column.to_numpy(), ()
    words = column.astype(str)
    names = tuple(sorted(words.unique()))
    codes = {name: number for number, name in enumerate(names)}
    return words.map(codes).to_numpy(np.int64), names
