"""Captures and input statistics of Keras layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from operator import itemgetter
from typing import Any

import keras
import numpy as np

from attar.adapters.keras.forms import Lookup
from attar.adapters.keras.layers import Site
from attar.adapters.keras.pieces import has_fixed_batch
from attar.adapters.keras.run import to_float
from attar.adapters.keras.traced import Calls, seeing
from attar.adapters.moments import IdCounts, MomentSum, Pace, with_last
from attar.adapters.unfold import pick
from attar.types import Array, Capture, Stats

CAPTURE_BYTES = 2**26
"""Bytes of what layers get that one run may show; larger batches are cut."""


def without_bias(site: Site, z: Array) -> Array:
    """The product alone: z less the bias that the layer itself adds."""
    bias = getattr(site.layer, "bias", None)
    if bias is None or site.tap != "product" or isinstance(site.form, Lookup):
        return z
    value = to_float(bias)
    if value.ndim == 1 and (axes := site.form.row_axes(z.ndim)) is not None and len(axes) == 1:
        value = value.reshape([-1 if axis == axes[0] else 1 for axis in range(z.ndim)])
    return z - value


def captures(model: Any, sites: Sequence[Site], inputs: Any) -> Iterator[Capture]:
    """One Capture per layer that was reached; y is None for transposed convolutions and recurrent kernels."""
    calls = seeing(model, sites, products=True)(inputs)
    for site in sites:
        if site.name in calls:
            yield _capture(site, calls.pop(site.name))


def _capture(site: Site, calls: Calls) -> Capture:
    """All calls of a layer in one batch; where it computes in 16 bits, y is the product of its x in 32."""
    shown = calls[0][1] is not None and site.form.row_axes(calls[0][1].ndim) is not None
    products = [without_bias(site, z) for _, z in calls if z is not None]
    y = np.concatenate([_rows(site, z) for z in products], axis=-1) if shown else None
    if isinstance(site.form, Lookup):
        return Capture(site.name, None, y, np.concatenate([x.reshape(-1) for x, _ in calls]).astype(np.int64))
    x = np.concatenate([site.form.columns(x) for x, _ in calls], axis=-1)
    if y is not None and "16" in site.layer.compute_dtype:
        y = (site.read().reshape(x.shape[0], -1, x.shape[1]) @ x).reshape(y.shape)
    return Capture(site.name, x, y)


def _rows(site: Site, z: Array) -> Array:
    """[rows, n] of a product, positions in the columns' order."""
    axes = site.form.row_axes(z.ndim)
    assert axes is not None
    moved = np.moveaxis(z, axes, range(len(axes)))
    return moved.reshape(prod(moved.shape[: len(axes)]), -1)


def moments(model: Any, sites: Sequence[Site], batches: Iterable[Any]) -> dict[str, Stats]:
    """Statistics of every layer that was reached; several calls in one batch are positions of the same examples."""
    sums: dict[str, MomentSum | IdCounts] = {}
    start = 0
    see = seeing(model, sites, products=False)
    for inputs, examples, last, learn in _pieces(batches, whole=has_fixed_batch(model)):
        calls = see(inputs)
        learn(sum(x.nbytes for found in calls.values() for x, _ in found), examples)
        for place, site in enumerate(sites):
            xs = [x for x, _ in calls.pop(site.name, [])]
            if xs:
                _add(sums, site, xs, examples, (place, start))
                if last:
                    sums[site.name].flush()
        start += examples
    stats = {name: sums.pop(name).stats() for name in list(sums)}
    return {name: value for name, value in stats.items() if value is not None}


def _pieces(batches: Iterable[Any], *, whole: bool) -> Iterator[tuple[Any, int, bool, Callable[[int, int], None]]]:
    """Inputs, their examples, whether they are the last, and where to tell what these took, of batches cut so.

    whole: batches are not cut, since the model takes no other number of examples.
    """
    pace = Pace(CAPTURE_BYTES)
    for inputs, final in with_last(batches):
        count, start = len(keras.tree.flatten(inputs)[0]), 0
        while start < count:
            stop = count if whole else min(start + pace(start), count)
            some = keras.tree.map_structure(itemgetter(slice(start, stop)), inputs)
            yield some, stop - start, final and stop == count, pace.learn
            start = stop


def _add(
    sums: dict[str, MomentSum | IdCounts], site: Site, xs: list[Array], examples: int, sample: tuple[int, int]
) -> None:
    """Add what a site saw in one batch; sample: the layer's place and the first example's number."""
    if isinstance(site.form, Lookup):
        counts = sums.setdefault(site.name, IdCounts(int(site.variable.shape[0])))
        counts.add(np.concatenate([x.reshape(-1) for x in xs]), examples)
        return
    columns = []
    for x in xs:
        positions = site.form.positions(x)
        picked = None if positions is None else pick(len(x), positions, *sample)
        columns.append(site.form.columns(x, picked))
    if all(c.shape[2] % examples == 0 for c in columns):  # example by example, the calls side by side
        split = [c.reshape(*c.shape[:2], examples, -1) for c in columns]
        joined = np.concatenate(split, axis=3).reshape(*columns[0].shape[:2], -1)
    else:
        joined = np.concatenate(columns, axis=2)
    total = sums.get(site.name)
    if total is None:
        total = sums[site.name] = MomentSum(*joined.shape[:2])
    total.add(joined, examples)
