"""Arrays of images, sounds or features with their labels, changed block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from attar.augment.audio import is_sounds, sound_span
from attar.augment.changes import Keyed, Params, change_planes, change_rows
from attar.augment.images import as_before, is_images, planes, span_of
from attar.augment.tables import Columns
from attar.data.arrays import LABELS, base_and_part
from attar.data.limits import MAX_BYTES
from attar.errors import DataError, UsageError
from attar.files.sources import Arrays
from attar.types import Array

BLOCK = 1 << 20
"""Values that are changed at once."""
UNCHANGED = ("test", "val")
"""Parts that get no copies: what is measured on must stay what it is."""


def _is_table(x: Array) -> bool:
    return x.ndim == 2 and x.dtype.kind in "uif"


FITS: dict[str, Callable[[Array], bool]] = {"images": is_images, "audio": is_sounds, "tables": _is_table}


def kind_of(x: Array) -> str | None:
    """What an input holds, by its shape and dtype: int16 of two axes is sound, floats of two axes are features."""
    if is_images(x):
        return "images"
    if x.ndim == 2 and x.dtype == np.int16:
        return "audio"
    return "tables" if x.ndim == 2 and x.dtype.kind == "f" else None


@dataclass(frozen=True)
class ArraySet:
    """The parts of a set; `names` are the inputs that are changed, which hold `kind`; others go along as labels do."""

    source: Arrays
    kind: str
    names: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Whose changes can be done."""
        return (self.kind,)

    @cached_property
    def parts(self) -> dict[str, tuple[dict[str, Array], Array | None]]:
        """By part, inputs and labels."""
        return self.source.parts()

    @property
    def part(self) -> str:
        """The part that gets copies."""
        return next(part for part in self.parts if part not in UNCHANGED)

    @property
    def total(self) -> int:
        """Examples of all parts."""
        return sum(len(next(iter(inputs.values()))) for inputs, _ in self.parts.values())

    @property
    def places(self) -> range:
        """Positions of the examples that get copies."""
        return range(len(next(iter(self.parts[self.part][0].values()))))

    @cached_property
    def inputs(self) -> dict[str, Array]:
        """The inputs that are changed."""
        return {name: x for name, x in self.parts[self.part][0].items() if name in self.names}

    @cached_property
    def context(self) -> dict[str, Any]:
        """What the changes must know of the whole: the range of values, or the facts of columns."""
        if self.kind == "tables":
            labels = self.parts[self.part][1]
            classes = labels if labels is not None and labels.ndim == 1 and labels.dtype.kind in "uibUS" else None
            return {name: Columns(x.astype(np.float64), classes) for name, x in self.inputs.items()}
        span = span_of if self.kind == "images" else sound_span
        return {name: span(x) for name, x in self.inputs.items()}

    def check(self, params: Params, copies: int) -> None:
        """That the result fits memory and classes are there where they are needed; raises DataError, UsageError."""
        size = sum(values.nbytes for values in self.source.arrays.values()) * (1 + copies)
        if size > MAX_BYTES:
            raise DataError(
                f"data {str(self.source.path)!r}: the result must fit {MAX_BYTES} bytes. Received {size} of {copies} "
                "copies. Make fewer."
            )
        if "interpolate" in params and all(each.facts.classes is None for each in self.context.values()):
            raise UsageError(
                f"interpolate: it needs classes, one integer or name for each example. Received labels of "
                f"{_described(self.parts[self.part][1])}. Leave it out."
            )

    def changed(self, name: str, rows: Array, copy: int, params: Params, seed: int) -> Array:
        """Examples of an input changed."""

        def draws(change: str) -> Keyed:
            return Keyed(seed, change, rows, copy)

        x, context = self.inputs[name], self.context[name]
        if self.kind == "tables":
            found: Array = change_rows(context, rows, params, draws).astype(x.dtype)
            return found
        if self.kind == "audio":
            return change_planes(x[rows][:, None], "audio", params, draws, context)[:, 0]
        return as_before(change_planes(planes(x[rows]), "images", params, draws, context), x)

    def shown(self, at: int, params: Params | None, seed: int) -> Any:
        """The first changed input of an example as planes [1, ...] or a row, as it is or as it is in the first copy."""
        name, rows = next(iter(self.inputs)), np.array([at])
        x = self.inputs[name][rows] if params is None else self.changed(name, rows, 1, params, seed)
        if self.kind == "tables":
            return {str(column): value for column, value in enumerate(x[0].tolist())}
        return planes(x) if self.kind == "images" else x[:, None]

    def caption(self, at: int) -> str:
        """Position and label."""
        labels = self.parts[self.part][1]
        told = "" if labels is None or labels.ndim != 1 else f": {labels[at]}"
        return f"{self.part} {at}".strip() + told

    def write(
        self, place: Path, params: Params, copies: int, seed: int, only_copies: bool, jobs: int | None,
        step: Callable[[int], None],
    ) -> int:  # fmt: skip
        """An .npz with originals first, then the first copy of all, and so on; gives the number of examples."""
        del jobs  # what is slow is numpy's
        count, first = len(self.places), 0 if only_copies else 1
        written = dict(self.source.arrays)
        for full, values in self.source.arrays.items():
            base, part = base_and_part(full)
            if part != self.part:
                continue
            written[full] = np.concatenate([values] * (first + copies))
            if base not in self.inputs or base.lower() in LABELS:
                continue
            size = max(BLOCK // max(values[:1].size, 1), 1)
            for copy in range(1, copies + 1):
                for start in range(0, count, size):
                    rows = np.arange(start, min(start + size, count))
                    at = (first + copy - 1) * count + start
                    written[full][at : at + len(rows)] = self.changed(base, rows, copy, params, seed)
                    step(len(rows))
        np.savez_compressed(place, allow_pickle=False, **written)
        return self.total - count + count * (first + copies)


def array_set(source: Arrays, kind: str | None) -> ArraySet:
    """The set, with the kind that is given or told by shape; raises UsageError where no input is of it, DataError."""
    training = [inputs for part, (inputs, _) in source.parts().items() if part not in UNCHANGED]
    if not training:
        raise DataError(
            f"data {str(source.path)!r}: a training part is needed, since test parts are never changed. Received "
            f"{', '.join(source.arrays)}. Rename the arrays."
        )
    told = kind or next(filter(None, map(kind_of, training[0].values())), "")
    names = tuple(n for n, x in training[0].items() if (FITS[kind](x) if kind else kind_of(x) == told))
    if not told or not names:
        shapes = _shapes(training[0])
        raise UsageError(
            f"data {str(source.path)!r}: {'an input' if kind is None else f'with kind {kind} an input'} must be images "
            "[n, h, w], [n, c, h, w] or [n, h, w, c], sounds [n, samples] of int16 or floats, or features [n, d]. "
            f"Received {shapes}. Whole numbers of two axes may be tokens: for features pass --kind tables."
        )
    return ArraySet(source, told, names)


def _shapes(arrays: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {x.dtype} {list(x.shape)}" for name, x in arrays.items())


def _described(labels: Array | None) -> str:
    return "none" if labels is None else f"{labels.dtype} {list(labels.shape)}"
