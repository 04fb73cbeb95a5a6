"""Looking at arrays and cleaning them: NaN and infinity, dtypes of labels, idle features, duplicates, wrong labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.cleaning.faults import Fault, examples
from attar.cleaning.label_noise import wrong_labels
from attar.cleaning.patch_features import patch_features
from attar.cleaning.table_rows import imbalance
from attar.cleaning.table_steps import CleanSettings
from attar.files.pictures import as_images
from attar.files.sources import Arrays
from attar.types import Array, Json

LARGEST_IMAGE = 32
"""Longer sides are averaged down before features are made of them."""
Kept = NDArray[np.bool_]


@dataclass(slots=True)
class _Part:
    """One part while it is cleaned; `start` is the position of its first example in the whole set."""

    end: str
    inputs: dict[str, Array]
    labels: Array | None
    label_name: str
    start: int

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def place(self, name: str) -> str:
        """How an array is called in a line."""
        return f"array {name + self.end!r}"


def describe_arrays(source: Arrays) -> list[dict[str, Json]]:
    """A row for each array: shape, dtype, range, NaN and infinity, constant features."""
    rows = []
    for name, values in source.arrays.items():
        row: dict[str, Json] = {"array": name, "shape": list(values.shape), "dtype": str(values.dtype)}
        if values.dtype.kind in "buif" and values.size:
            finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
            row |= {"least": float(finite.min()), "most": float(finite.max())} if finite.size else {}
            row["not finite"] = int(values.size - finite.size)
            row["constant features"] = int(_constant(values).sum()) if values.ndim > 1 else 0
        rows.append(row)
    return rows


def clean_arrays(source: Arrays, settings: CleanSettings) -> tuple[Arrays, list[Fault], Kept]:
    """The cleaned arrays, what was found, and which examples stay, over all parts in order.

    Arrays keep their shape but for examples that go: features are listed where they are idle, never left out.
    Raises DataError where arrays of a part differ in length.
    """
    faults: list[Fault] = []
    arrays: dict[str, Array] = {}
    kept: list[Kept] = []
    for part in _parts(source):
        stays = np.ones(len(part), bool)
        for name in part.inputs:
            faults += _finite(part, name, settings, stays)
            faults += _idle(part, name, stays)
        faults += _labels(part, stays) + _twins(part)
        if settings.find_noisy and part.labels is not None and part.labels.dtype.kind in "iu":
            faults += _noisy(part, settings, stays)
        named = {name + part.end: values for name, values in part.inputs.items()}
        named |= {} if part.labels is None else {part.label_name: part.labels}
        arrays |= {name: values[stays] for name, values in named.items()}
        kept.append(stays)
    return Arrays(source.path, {name: arrays[name] for name in source.arrays}), faults, np.concatenate(kept)


def _parts(source: Arrays) -> list[_Part]:
    """The parts, with the positions where they begin; raises DataError."""
    found, start = [], 0
    for part, (inputs, labels) in source.parts().items():
        name = next((n for n, values in source.arrays.items() if labels is values), "")
        found.append(_Part(f"_{part}" if part else "", dict(inputs), labels, name, start))
        start += len(found[-1])
    return found


def _finite(part: _Part, name: str, settings: CleanSettings, stays: Kept) -> list[Fault]:
    """NaN and infinity: examples with too many are dropped, in others they become the feature's median."""
    values = part.inputs[name]
    if values.dtype.kind != "f":
        odd = values.dtype.kind not in "bui"
        told = (str(values.dtype),)
        return [Fault("wrong dtype", part.place(name), len(values), len(values), told)] if odd else []
    bad = ~np.isfinite(values).reshape(len(values), -1)
    rows = bad.any(1)
    if not rows.any():
        return []
    many = bad.mean(1) > settings.max_missing
    stays &= ~many
    flat = values.reshape(len(values), -1).copy()
    where = np.flatnonzero(bad[~many].any(0))
    columns = np.where(bad[:, where], np.nan, flat[:, where])
    medians = np.zeros(len(where), values.dtype)
    filled = np.isfinite(columns).any(0)
    medians[filled] = np.nanmedian(columns[:, filled], axis=0)
    flat[:, where] = np.where(bad[:, where], medians, flat[:, where])
    part.inputs[name] = flat.reshape(values.shape)
    found = []
    for kind, mask, told in (
        ("not finite", many, f"dropped: more than {settings.max_missing:.0%} of their numbers"),
        ("not finite", rows & ~many, "filled with the median of the feature, or 0 where it has none"),
    ):
        if mask.any():
            at = np.flatnonzero(mask)
            found.append(Fault(kind, part.place(name), len(at), len(values), _which(at), told, _samples(part, at)))
    return found


def _idle(part: _Part, name: str, stays: Kept) -> list[Fault]:
    """Features that are equal in all examples, and examples that are flat."""
    values = part.inputs[name]
    found = []
    if values.ndim > 1 and values.dtype.kind in "buif" and len(values) > 1:
        flat = values.reshape(len(values), -1)
        constant = _constant(values[stays]) if stays.any() else np.zeros(0, bool)
        if constant.any():
            told = "listed: the model's inputs keep their shape"
            found.append(Fault("constant feature", part.place(name), int(constant.sum()), flat.shape[1], (), told))
        blank = np.flatnonzero((flat == flat[:, :1]).all(1)) if flat.shape[1] > 1 else np.array([], np.int64)
        if len(blank):
            told = _which(blank)
            samples = _samples(part, blank)
            found.append(Fault("flat example", part.place(name), len(blank), len(values), told, "", samples))
    return found


def _labels(part: _Part, stays: Kept) -> list[Fault]:
    """Labels of a wrong dtype, missing or negative ones, and rare classes."""
    y = part.labels
    if y is None:
        return []
    found, place, n = [], f"array {part.label_name!r}", len(part)
    if y.dtype.kind in "US":
        names, y = np.unique(y, return_inverse=True)
        told = examples([f"{name!r} -> {number}" for number, name in enumerate(names.tolist())])
        found.append(Fault("wrong dtype", place, n, n, told, "names numbered from 0 in the order of the alphabet"))
    if y.dtype.kind == "f" and y.ndim == 1:
        missing = ~np.isfinite(y)
        if missing.any():
            at = np.flatnonzero(missing)
            told = "dropped: a label is not made up"
            found.append(Fault("no label", place, len(at), n, _which(at), told, _samples(part, at)))
            stays &= ~missing
        whole = np.where(missing, 0, y)
        if (whole == np.round(whole)).all():
            found.append(Fault("wrong dtype", place, n, n, (str(y.dtype),), "whole numbers written as int64"))
            y = whole.astype(np.int64)
    if y.dtype.kind in "iu" and y.ndim == 1:
        negative = np.flatnonzero(y < 0)
        if len(negative):
            samples = _samples(part, negative)
            found.append(Fault("negative label", place, len(negative), n, _which(negative), "", samples))
        names, counts = np.unique(y[stays], return_counts=True)
        if 1 < len(names) <= 1000:
            found += imbalance(dict(zip(names.tolist(), counts.tolist(), strict=True)), place)
    part.labels = y
    return found


def _twins(part: _Part) -> list[Fault]:
    """Examples that are equal in every input; `dedupe` takes them out."""
    from attar.data.overlap import row_hashes
    from attar.types import Dataset

    _, first = np.unique(row_hashes(Dataset(part.inputs)), return_index=True)
    again = np.setdiff1d(np.arange(len(part)), first)
    if not len(again):
        return []
    place = f"examples{part.end.replace('_', ' of ')}"
    return [Fault("duplicate", place, len(again), len(part), _which(again), "", _samples(part, again))]


def _noisy(part: _Part, settings: CleanSettings, stays: Kept) -> list[Fault]:
    """Labels that are probably wrong."""
    y, rows = part.labels, np.flatnonzero(stays)
    if y is None or y.ndim != 1 or y[rows].min(initial=0) < 0 or y.max(initial=0) > 100_000:
        return []
    place = f"array {part.label_name!r}"
    found = wrong_labels(array_features(part.inputs, rows, settings.seed), y[rows].astype(np.int64), settings.seed)
    if isinstance(found, str):
        return [Fault("labels not checked", place, 0, len(part), (), found)]
    if not len(found.positions):
        return []
    at = rows[found.positions]
    notes = tuple(f"rather {other}" for other in found.suggested.tolist())
    told = tuple(f"example {i} {y[i]}, {note}" for i, note in list(zip(at.tolist(), notes, strict=True))[:3])
    if settings.drop_noisy:
        stays[at] = False
    change = "dropped" if settings.drop_noisy else ""
    several, samples = len(at), _samples(part, at)
    return [Fault("label probably wrong", place, several, found.looked_at, told, change, samples, notes)]


def array_features(inputs: dict[str, Array], rows: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Features of examples for a linear model: patches of images, numbers as they are."""
    parts = []
    for values in inputs.values():
        images = as_images(values[rows]) if min(values.shape[1:3], default=0) >= 10 else None
        if images is None:
            parts.append(values[rows].reshape(len(rows), -1).astype(np.float32))
            continue
        step = -(-max(images.shape[1:3]) // LARGEST_IMAGE)
        parts.append(patch_features(images[:, ::step, ::step], seed))
    return np.concatenate(parts, 1)


def _constant(values: Array) -> NDArray[np.bool_]:
    """Which features are equal in all examples."""
    flat = values.reshape(len(values), -1)
    return np.asarray((flat == flat[:1]).all(0))


def _which(at: NDArray[np.int64]) -> tuple[str, ...]:
    """The numbers of a few examples, counted within their part."""
    return examples(at.tolist(), "example {}")


def _samples(part: _Part, at: NDArray[np.int64]) -> tuple[int, ...]:
    """Positions in the whole set."""
    return tuple((at + part.start).tolist())
