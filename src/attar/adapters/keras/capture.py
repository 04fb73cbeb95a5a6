"""Captures and input statistics of Keras layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from operator import itemgetter
from typing import Any

import keras
import numpy as np

from attar.adapters.keras.forms import Lookup
from attar.adapters.keras.layers import Site
from attar.adapters.keras.pieces import SHOWN, has_fixed_batch, pieces
from attar.adapters.keras.run import to_float
from attar.adapters.keras.traced import Calls, in_numpy, seeing, traced
from attar.adapters.moments import BLOCK, IdCounts, MomentSum, Pace, with_last
from attar.adapters.unfold import pick
from attar.run.memory import at_once
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
    """One Capture per piece and layer that was reached; y is None for transposed convolutions and recurrent kernels.

    Run eagerly: who asks for captures asks anew for every batch, and a graph would be traced each time.
    """
    see = seeing(model, sites, products=True)
    for piece, _ in pieces(model, inputs, most=SHOWN):
        calls = in_numpy(see(piece, ()))
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
    with at_once():
        stats = _summed(model, sites, batches)
    return {name: value for name, value in stats.items() if value is not None}


def _summed(model: Any, sites: Sequence[Site], batches: Iterable[Any]) -> dict[str, Stats | None]:
    """The same; None where no column was seen."""
    sums: dict[str, MomentSum | IdCounts] = {}
    start = 0
    for seen, last in _seen(model, sites, batches):
        for place, site in enumerate(sites):
            parts = [([x for x, _ in calls.pop(site.name)], count) for calls, count in seen if site.name in calls]
            _add(sums, site, parts, (place, start))
            if last and site.name in sums:
                sums[site.name].flush()
        start += sum(count for _, count in seen)
    return {name: sums.pop(name).stats() for name in list(sums)}


def _seen(
    model: Any, sites: Sequence[Site], batches: Iterable[Any]
) -> Iterator[tuple[list[tuple[dict[str, Calls], int]], bool]]:
    """What layers got in pieces of so many examples that follow each other, and whether they are the last.

    As many pieces as CAPTURE_BYTES allow, up to where a block of the sums ends, so that none waits to be whole.
    """
    see = seeing(model, sites, products=False)
    if _traceable(sites):
        see = traced(model, see)
    whole, pace = has_fixed_batch(model), Pace(CAPTURE_BYTES)
    for inputs, final in with_last(batches):
        count, start = len(keras.tree.flatten(inputs)[0]), 0
        seen: list[tuple[dict[str, Calls], int]] = []
        held = 0
        while start < count:
            stop = count if whole else min(start + pace(start), count)
            some = keras.tree.map_structure(itemgetter(slice(start, stop)), inputs)
            shown = pieces(model, some, most=SHOWN, even=True)
            new = [(in_numpy(see(piece, ())), size) for piece, size in shown]
            taken = sum(x.nbytes for calls, _ in new for found in calls.values() for x, _ in found)
            pace.learn(taken, stop - start)
            seen, held, start = [*seen, *new], held + taken, stop
            if start == count or start % BLOCK == 0 or held + taken > CAPTURE_BYTES:
                yield seen, final and start == count
                seen, held = [], 0


def _traceable(sites: Sequence[Site]) -> bool:
    """Whether what layers get may be seen in a graph.

    A graph fuses layers, and in 16 bits rounds elsewhere then: statistics are of what captures show. JAX takes no
    shapes that depend on values, such as those of the steps of a recurrent loop that a mask does not leave out.
    """
    if any("16" in site.layer.compute_dtype for site in sites):
        return False
    return keras.backend.backend() != "jax" or all(site.shows_product for site in sites)


def _add(
    sums: dict[str, MomentSum | IdCounts], site: Site, parts: list[tuple[list[Array], int]], sample: tuple[int, int]
) -> None:
    """Add what a site got, call by call, in parts of so many examples; sample: its place and the first's number."""
    if isinstance(site.form, Lookup):
        counts = sums.setdefault(site.name, IdCounts(int(site.variable.shape[0])))
        for xs, count in parts:
            counts.add(np.concatenate([x.reshape(-1) for x in xs]), count)
        return
    block, done, examples = None, 0, sum(count for _, count in parts)
    for xs, count in parts:
        columns = _side_by_side([_columns(site, x, (sample[0], sample[1] + done)) for x in xs], count)
        total = _sum_of(sums, site, columns)
        if len(parts) == 1 or site.form.positions(xs[0]) is None:
            total.add(columns, count)
            continue
        # Columns of a convolution are many times its input: one array takes them, and few stand beside it.
        split = columns.reshape(*columns.shape[:2], count, -1).transpose(0, 2, 3, 1)
        block = np.empty((len(split), examples, *split.shape[2:]), np.float32) if block is None else block
        block[:, done : done + count] = split
        done += count
        if done == examples:
            total.take(block)


def _sum_of(sums: dict[str, MomentSum | IdCounts], site: Site, columns: Array) -> MomentSum:
    """The sum of a site, begun where there is none."""
    found = sums.get(site.name) or MomentSum(*columns.shape[:2])
    assert isinstance(found, MomentSum)
    sums[site.name] = found
    return found


def _columns(site: Site, x: Array, sample: tuple[int, int]) -> Array:
    """[groups, cols, n] of what a site saw in one call, at some positions of each example."""
    positions = site.form.positions(x)
    return site.form.columns(x, None if positions is None else pick(len(x), positions, *sample))


def _side_by_side(calls: list[Array], examples: int) -> Array:
    """Columns of several calls: example by example where each has its own, one call after the other elsewhere."""
    if len(calls) == 1:  # as it is: a copy is as large, and not in the order that sums are made in
        return calls[0]
    if any(columns.shape[2] % examples for columns in calls):
        return np.concatenate(calls, axis=2)
    split = [columns.reshape(*columns.shape[:2], examples, -1) for columns in calls]
    return np.concatenate(split, axis=3).reshape(*calls[0].shape[:2], -1)
