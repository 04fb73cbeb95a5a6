"""What layers see of each example, sketched to a few numbers: the model runs once over the set, batch by batch.

A layer's inputs are projected on random directions (Johnson and Lindenstrauss 1984); of the projections z, each example
keeps the mean over its positions and the mean of z zT, which is its share of the layer's second moment as the planner
weighs it (a convolution's positions count together, see `attar.search.subject.shared`). Memory is n times about
FEATURES + MOMENTS floats, whatever the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from attar.adapters.base import Adapter
from attar.run.executor import generator
from attar.search.subject import POSITION_SHARE
from attar.selection.base import F32, Pool
from attar.types import Array, Capture, Dataset, Layer

FEATURES, MOMENTS = 256, 512
"""Numbers kept for each example: means of projections, and products of them; over all layers."""
MOST_LAYERS = 64
"""Layers that are looked at, evenly over the depth."""
WIDEST, NARROWEST = 32, 4
"""Directions of one layer."""
GRAIN = 512
"""Steps of a unit that sketches are rounded to: the last digits depend on how examples were batched."""
BATCH = 32
BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Widths:
    """How many directions a layer gets, and how many of these are multiplied with each other."""

    means: int
    products: int

    @classmethod
    def of(cls, layers: int) -> Widths:
        """The widths that keep all layers within FEATURES and MOMENTS, but for very many layers."""
        means = int(np.clip(FEATURES // layers, NARROWEST, WIDEST))
        return cls(means, int(np.clip(np.sqrt(2 * MOMENTS / layers), NARROWEST, means)))


class Sketch:
    """The sketch of one layer's inputs, filled example by example in order."""

    def __init__(self, size: int, depth: int, widths: Widths, share: float, rng: np.random.Generator):
        self.directions = (rng.standard_normal((depth, widths.means)) / np.sqrt(depth)).astype(np.float32)
        self.share, self.products = share, widths.products
        self.means = np.zeros((size, widths.means), np.float32)
        self.seconds = np.zeros((size, widths.products, widths.products), np.float32)
        self.filled = 0

    def add(self, seen: Capture, positions: int) -> bool:
        """What a layer saw of the next examples; False where it is not so many positions of each."""
        if _columns(seen) % positions:
            return False
        if seen.x is not None:
            depth = seen.x.shape[0] * seen.x.shape[1]
            z = seen.x.astype(np.float32).reshape(depth, -1).T @ self.directions
        else:
            z = self.directions[np.asarray(seen.ids).ravel() % len(self.directions)]
        z = z.reshape(-1, positions, z.shape[1])
        place = slice(self.filled, self.filled + len(z))
        if place.stop > len(self.means):
            return False
        mean = self.means[place] = z.mean(1)
        some = z[:, :, : self.products]
        within = some.transpose(0, 2, 1) @ some / np.float32(positions)
        few = mean[:, : self.products]
        between = few[:, :, None] * few[:, None, :]
        self.seconds[place] = between + np.float32(self.share) * (within - between)
        self.filled = place.stop
        return True

    def features(self) -> F32:
        """Centred means [n, d] of mean square 1 in all."""
        centred = self.means - self.means.mean(0, dtype=np.float64).astype(np.float32)
        scale = np.sqrt(np.square(centred, dtype=np.float64).sum(1).mean())
        return _grained(centred / np.float32(max(scale, 1e-12)))

    def moments(self) -> F32:
        """Mean and second moment [n, m] of each example about the set's mean, where the set's own are 0 and I."""
        width = self.products
        mean = self.means[:, :width].mean(0, dtype=np.float64)
        values, vectors = np.linalg.eigh(self.seconds.mean(0, dtype=np.float64) - np.outer(mean, mean))
        floor = max(1e-4 * float(values.max(initial=0)), 1e-12)
        whiten = (vectors / np.sqrt(np.maximum(values, floor))) @ vectors.T
        rows, columns = np.triu_indices(width)
        weight = np.where(rows == columns, 1.0, np.sqrt(2))
        found = np.empty((len(self.means), width + len(rows)), np.float32)
        for at in range(0, len(found), BLOCK):
            first = self.means[at : at + BLOCK, :width] - mean
            cross = first[:, :, None] * mean
            # (z - mu)(z - mu)T from z zT, without a second look at z.
            second = self.seconds[at : at + BLOCK] - cross - cross.transpose(0, 2, 1) - np.outer(mean, mean)
            white = (whiten @ second @ whiten)[:, rows, columns] * weight
            found[at : at + BLOCK] = _grained(np.concatenate([first @ whiten, white], 1) / np.sqrt(width))
        return found


def _grained(values: Array) -> F32:
    """Rounded to 1 / GRAIN."""
    return np.asarray(np.rint(values * GRAIN) / GRAIN, np.float32)


def of_model(adapter: Adapter, data: Dataset, seed: int, step: Callable[[int], None], batch: int = BATCH) -> Pool:
    """What the model's layers see of each example; `data` is fitted to its inputs. The model is not changed."""
    layers = _some([layer for layer in adapter.layers() if layer.tied_to is None])
    widths, names = Widths.of(max(len(layers), 1)), [layer.name for layer in layers]
    uses = _uses(adapter, data, names)
    sketches = {layer.name: _sketch(layer, len(data), widths, seed) for layer in layers if layer.name in uses}
    for inputs in data.batches(batch):
        calls = dict.fromkeys(sketches, 0)
        for seen in adapter.capture([inputs], names):
            if seen.name in sketches:
                use = calls[seen.name] % len(uses[seen.name])
                calls[seen.name] += 1
                if use == 0 and not sketches[seen.name].add(seen, uses[seen.name][0]):
                    del sketches[seen.name]
        step(len(next(iter(inputs.values()))))
    return _pool(len(data), [s for s in sketches.values() if s.filled == len(data)], data.labels)


def _uses(adapter: Adapter, data: Dataset, names: Sequence[str]) -> dict[str, list[int]]:
    """By layer the columns of one example in each use of it; an adapter may cut a batch, but hands on its uses in turn.

    Of a layer that is used several times the first use is looked at.
    """
    uses: dict[str, list[int]] = {}
    for seen in adapter.capture(data.take([0]).batches(1), names):
        uses.setdefault(seen.name, []).append(_columns(seen))
    return {name: columns for name, columns in uses.items() if columns[0]}


def of_rows(rows: Iterable[Array], size: int, labels: Array | None, seed: int, step: Callable[[int], None]) -> Pool:
    """The same of examples themselves: blocks of numbers [b, ...], `size` rows in all, as the inputs of one layer."""
    sketch: Sketch | None = None
    for block in rows:
        flat = np.nan_to_num(block.reshape(len(block), prod(block.shape[1:])).astype(np.float32))
        if sketch is None:
            sketch = Sketch(size, flat.shape[1], Widths.of(1), 1.0, generator(seed, "sketch of examples"))
        sketch.add(Capture("examples", flat.T[None], None), 1)
        step(len(flat))
    return _pool(size, [] if sketch is None else [sketch], labels)


def _some(layers: Sequence[Layer]) -> list[Layer]:
    """At most MOST_LAYERS of them, evenly."""
    if len(layers) <= MOST_LAYERS:
        return list(layers)
    return [layers[at] for at in np.linspace(0, len(layers) - 1, MOST_LAYERS).round().astype(int)]


def _sketch(layer: Layer, size: int, widths: Widths, seed: int) -> Sketch:
    """An empty sketch; its directions are drawn by the layer's name."""
    share = POSITION_SHARE if layer.kind in ("conv", "conv_transpose") else 1.0
    return Sketch(size, layer.groups * layer.cols, widths, share, generator(seed, f"sketch of {layer.name}"))


def _columns(seen: Capture) -> int:
    """How many columns there are."""
    return int(seen.x.shape[2]) if seen.x is not None else int(np.asarray(seen.ids).size)


def _pool(size: int, sketches: Sequence[Sketch], labels: Array | None) -> Pool:
    """The sketches side by side."""
    parts = [sketch.features() for sketch in sketches]
    ends = np.cumsum([0, *(part.shape[1] for part in parts)]).tolist()
    layers = tuple(slice(a, b) for a, b in pairwise(ends))
    none = np.zeros((size, 1), np.float32)
    moments = [sketch.moments() for sketch in sketches]
    return Pool(size, np.concatenate(parts or [none], 1), np.concatenate(moments or [none], 1), layers, labels)


def unseen(size: int, labels: Array | None) -> Pool:
    """A pool for methods that do not look at examples."""
    none = np.zeros((size, 1), np.float32)
    return Pool(size, none, none, (), labels)


def inputs_of(data: Mapping[str, Array], rows: slice) -> Array:
    """Some examples of all inputs, side by side [b, d]."""
    return np.concatenate([values[rows].reshape(len(values[rows]), -1) for values in data.values()], 1)
