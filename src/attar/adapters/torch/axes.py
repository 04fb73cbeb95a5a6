"""Which axis of a layer's output counts examples: found by changing one example and seeing what moves.

Shapes alone do not tell: sequence models may put time first, flatten both axes into one, or have as many steps as
examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attar.adapters.base import Batch
from attar.adapters.torch.products import Product
from attar.types import Array

EXAMPLES = 3
"""Examples in the probe; with two, a flattened axis would look the same either way too often."""

ROUNDING = 1e-5
"""Of the largest output: less is no move."""


@dataclass(frozen=True, slots=True)
class Place:
    """An axis of the output, and whether examples vary fastest along it where it counts positions as well."""

    axis: int
    fastest: bool = False


def find_places(
    forward: Callable[[Batch, Callable[[Product], None]], object], batch: Batch
) -> dict[str, list[Place | None]]:
    """The place of examples for every call of every layer; None where the layer sees no example alone.

    An axis of examples is longer by as much when there is one more: what a model makes of constants is not.
    """
    base = {name: np.take(values, np.arange(EXAMPLES) % len(values), axis=0) for name, values in batch.items()}
    moved = {name: _changed(values, batch[name]) for name, values in base.items()}
    wider = {name: np.take(values, np.arange(EXAMPLES + 1) % len(values), axis=0) for name, values in batch.items()}
    before, after, more = (_outputs(forward, probe) for probe in (base, moved, wider))
    places: dict[str, list[Place | None]] = {}
    for name, products in before.items():
        triples = zip(products, after.get(name, []), more.get(name, []), strict=False)
        places[name] = [_place(old.row_axes(), a, b, tuple(c.shape)) for (old, a), (_, b), (_, c) in triples]
    return places


def _changed(values: Array, seen: Array) -> Array:
    """The values with those of the first example replaced."""
    result = values.copy()
    if values.dtype.kind == "f":
        result[0] = 0.5 - 1.25 * values[0]
    elif values.dtype.kind == "b":
        result[0] = ~values[0]
    else:
        result[0] = np.where(values[0] == seen.max(), seen.min(), seen.max())
    return result


def _outputs(
    forward: Callable[[Batch, Callable[[Product], None]], object], batch: Mapping[str, Array]
) -> dict[str, list[tuple[Product, Tensor]]]:
    found: dict[str, list[tuple[Product, Tensor]]] = {}

    def hook(product: Product) -> None:
        if product.y is not None:  # a copy: the model may go on in place
            found.setdefault(product.name, []).append((product, product.y.detach().clone()))

    forward(batch, hook)
    return found


def _place(row_axes: tuple[int, ...], before: Tensor, after: Tensor, wider: tuple[int, ...]) -> Place | None:
    """The axis along which only the first example's entries moved; the first axis of fitting size where none did.

    wider: the output's shape for one more example.
    """
    if before.shape != after.shape or len(wider) != before.ndim:
        return None
    # Not in the last digits: where lengths differ, examples are added up in another order.
    moved = ((before - after).abs() > ROUNDING * before.abs().max()).cpu()
    free = [
        axis for axis, (one, more) in enumerate(zip(before.shape, wider, strict=True))
        if axis not in row_axes and one * (EXAMPLES + 1) == more * EXAMPLES and one
    ]  # fmt: skip
    for axis in free:
        others = [other for other in range(before.ndim) if other != axis]
        along = moved.any(dim=others) if others else moved
        index = torch.nonzero(along).flatten()
        repeats = before.shape[axis] // EXAMPLES
        if bool((index < repeats).all()):
            return Place(axis)
        if bool((index % EXAMPLES == 0).all()):
            return Place(axis, fastest=True)
    return None
