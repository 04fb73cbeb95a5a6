"""What activations of a TFLite model are like on a user's examples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from attar.adapters.tflite.session import Port, Session, feed_of
from attar.adapters.tflite.store import Place, Store
from attar.adapters.tflite.watch import watching
from attar.exports.ranges import Seen
from attar.exports.tflite.graph import FLOAT32
from attar.types import Array, Dataset

MOST_FLOATS, MOST_EXAMPLES = 1 << 26, 64
"""Values of all activations that are held at once, and examples."""


class Watched:
    """The float model with every activation as an output."""

    def __init__(self, store: Store, inputs: list[Port], size: int | None) -> None:
        graph = store.model.subgraphs[0]
        made = [index for operator in graph.operators for index in operator.outputs]
        self._given = [port for port in inputs if port.dtype == np.float32]
        self._made = [index for index in dict.fromkeys(made) if graph.tensors[index].type == FLOAT32]
        self._made = [index for index in self._made if store.values(Place(0, index)) is None]
        self.names = [*(port.index for port in self._given), *self._made]
        self._inputs, self._size = inputs, size
        self._session = Session(watching(store, self._made, ())[0])

    def __call__(self, batch: Mapping[str, Array]) -> dict[int, Array]:
        """The values of each activation by its tensor, flat; the last example may be there several times."""
        feed = feed_of(batch, self._inputs)
        pieces: dict[int, list[Array]] = {name: [] for name in self.names}
        for piece, _, _ in feed.pieces(self._size or max(feed.count, 1)):
            made = self._session.run(piece.values, self._made)
            for port in self._given:
                pieces[port.index].append(piece.values[port.index].ravel())
            for index, values in zip(self._made, made, strict=True):
                pieces[index].append(values.ravel())
        return {name: np.concatenate(found) for name, found in pieces.items()}


def seen(store: Store, inputs: list[Port], size: int | None, data: Dataset) -> dict[int, Seen]:
    """Histograms of every activation: a pass for the ends, a pass for the counts."""
    watched = Watched(store, inputs, size)
    one = sum(values.size for values in watched(next(data.batches(1))).values())
    step = int(np.clip(MOST_FLOATS // max(one, 1), 1, MOST_EXAMPLES))
    ends = dict.fromkeys(watched.names, (np.inf, -np.inf))
    for batch in data.batches(step):
        for name, values in watched(batch).items():
            if values.size:
                low, high = ends[name]
                ends[name] = (min(low, float(values.min())), max(high, float(values.max())))
    found = {name: Seen.between(*ends[name]) for name in watched.names if np.isfinite(ends[name]).all()}
    for batch in data.batches(step):
        for name, values in watched(batch).items():
            if name in found:
                found[name].add(values)
    return found
