"""Label-preserving changes of image batches, drawn anew for every epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attar.augment.changes import CHANGES, change_planes, chosen
from attar.augment.images import Draw, as_before, planes, span_of
from attar.errors import UsageError
from attar.types import Array, Dataset

NAMES = tuple(CHANGES["images"])
PLACE = "settings.augment"
BLOCK = 1024
"""Images that are changed at once."""


def changes_of(names: tuple[str, ...], tables: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the changes that recovery names, from the recipe's [settings.augment].

    Raises UsageError for a table of a change that is not named, and as `chosen` does.
    """
    found = chosen(("images",), {**{name: {} for name in names}, **tables}, PLACE) if names or tables else {}
    for name in tables:
        if name not in names:
            raise UsageError(
                f"{PLACE}.{name}: a change with parameters must be done. Received one that settings.recovery.augment "
                "does not name. Name it there, or leave the table out."
            )
    return found


def augmented(data: Dataset, changes: Mapping[str, Any], rng: np.random.Generator) -> Dataset:
    """The examples changed, each by its own draws; labels as they are.

    Inputs of four axes are images [n, channels, h, w] or [n, h, w, channels]; others stay.
    """
    if not changes:
        return data
    inputs = {
        name: _changed(values, changes, rng) if values.ndim == 4 else values for name, values in data.arrays().items()
    }
    return Dataset(inputs, data.labels, data.origin, data.class_names)


def _changed(images: Array, changes: Mapping[str, Any], rng: np.random.Generator) -> Array:
    """One batch of images, block by block."""
    span, done = span_of(images), []
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK]

        def draws(_: str, count: int = len(block)) -> Draw:
            return lambda *shape: rng.random((count, *shape))

        done.append(as_before(change_planes(planes(block), "images", changes, draws, span), block))
    return np.ascontiguousarray(np.concatenate(done))
