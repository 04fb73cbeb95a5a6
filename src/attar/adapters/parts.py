"""Batches cut into parts, so that what a network holds while it runs stays small: activations of pictures are large.

What a network holds is some tens of times its input, as a rule, and known from nothing else before it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod

import numpy as np

from attar.adapters.base import Batch
from attar.types import Array, Scaled

MOST_VALUES = 3 << 17
"""Values of inputs that are run at once: two pictures of 224 x 224."""

FEW = 16
"""Numbers of which there is one for each channel, at most."""
WIDE = 16.0
"""What 8-bit pixels are divided by, at least, where a model scales them itself; numbers from 0 to 1 are not."""


def together(inputs: Iterable[Array | Scaled], count: int, most: int) -> int:
    """Examples to run at once, of `count` with these inputs: `most`, or fewer where they are large."""
    one = sum(prod(values.shape) for values in inputs) // max(count, 1)
    return min(most, max(MOST_VALUES // max(one, 1), 1))


def in_parts(
    run: Callable[[Batch, Mapping[str, Array] | None], Array], batch: Batch, perturb: Mapping[str, Array] | None
) -> Array:
    """The outputs of a batch, [n, ...], with its perturbations [n, rows], some of its examples at a time."""
    count = len(next(iter(batch.values())))
    step = together(batch.values(), count, count)
    if step >= count:
        return run(batch, perturb)
    found = []
    for start in range(0, count, step):
        rows = slice(start, start + step)
        part = {name: values[rows] for name, values in batch.items()}
        found.append(run(part, {name: delta[rows] for name, delta in perturb.items()} if perturb else perturb))
    return np.concatenate(found)
