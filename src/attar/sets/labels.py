"""The label of each image of a set, as `attar.data.read` gives it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from attar.data.read import read
from attar.errors import DataError
from attar.sets.contents import Source
from attar.types import Dataset

I64 = NDArray[np.int64]


def labels_of(place: Path, source: Source) -> I64:
    """Integers from 0 [images], in the order of the set; raises DataError where an image has none."""
    if any(record.kind == "image" for record in source.records):
        return _by_folder(place, source)
    parts = read(place)
    found: list[I64] = []
    for f, record in enumerate(source.records):
        for array in record.arrays:
            if array.images:
                pixels = source.content(f)[array.name]
                found.append(_matching(pixels, list(parts.values()) if isinstance(parts, dict) else [parts], place))
    return np.concatenate(found)


def _matching(pixels: NDArray[np.generic], parts: list[Dataset], place: Path) -> I64:
    """The labels of the data set with these images."""
    for part in parts:
        same = any(np.array_equal(pixels, values) for values in part.arrays().values())
        if same and part.labels is not None and part.labels.ndim == 1 and part.labels.dtype.kind in "iu":
            return part.labels.astype(np.int64)
    raise _missing(place, f"none for {len(pixels)} of them")


def _by_folder(place: Path, source: Source) -> I64:
    """Images by class: the folder that each lies in."""
    names = []
    for record in source.records:
        number = sum(array.images for array in record.arrays)
        if number and record.kind != "image":
            raise _missing(place, f"none for those in {record.name!r}")
        names += [PurePosixPath(record.name).parent.name] * number
    classes = sorted(set(names))
    if len(classes) < 2:
        raise _missing(place, f"images of the folders {classes}")
    return np.array([classes.index(name) for name in names], np.int64)


def _missing(place: Path, received: str) -> DataError:
    return DataError(
        f"data {str(place)!r}: every image must have a label. Received {received}. Use --quality instead of --max-drop."
    )
