"""What activations of an ONNX model are like on a user's examples."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import onnx

from attar.adapters.onnx.session import feed_of, fixed_batch, parts
from attar.exports.onnx.runtime import Runtime
from attar.exports.ranges import Seen
from attar.types import Array, Dataset

FLOAT = onnx.TensorProto.FLOAT
MOST_FLOATS, MOST_EXAMPLES = 1 << 26, 64
"""Values of all activations that are held at once, and examples."""
SAMPLED = 1 << 18
"""Values of one activation, in so many examples as are held at once, up to which all are counted."""


def activations(model: onnx.ModelProto) -> list[str]:
    """Float tensors that are made in the graph, and its float inputs."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*inferred.value_info, *inferred.output]}
    stored = {tensor.name for tensor in model.graph.initializer}
    given = [v.name for v in model.graph.input if v.name not in stored and v.type.tensor_type.elem_type == FLOAT]
    made = [name for node in model.graph.node for name in node.output if kinds.get(name) == FLOAT]
    return [*given, *made]


class Watched:
    """The float model with every activation as an output."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.names = activations(model)
        shown = copy.deepcopy(model)
        inferred = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
        already = {value.name for value in [*shown.graph.output, *shown.graph.input]}
        shown.graph.output.extend(inferred[name] for name in self.names if name not in already)
        self._given = [name for name in self.names if name in {value.name for value in model.graph.input}]
        self._made = [name for name in self.names if name not in self._given]
        self._runtime = Runtime(shown.SerializeToString())

    def size(self, data: Dataset) -> int:
        """The values of all activations of one example."""
        return sum(values.size for values in self(next(data.batches(1))).values())

    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The values of each activation, flat; the last example may be there several times."""
        feed = feed_of(batch, self._runtime.inputs, self._runtime.axes)
        size = fixed_batch(self._runtime.inputs, feed)
        pieces: dict[str, list[Array]] = {name: [] for name in self.names}
        for piece, _, _ in parts(feed, size, lambda _: feed.count):
            values = piece.values
            made = self._runtime.session.run(self._made, values) if self._made else []
            for name, array in [*((n, values[n]) for n in self._given), *zip(self._made, made, strict=True)]:
                pieces[name].append(np.asarray(array).ravel())
        return {name: np.concatenate(found) for name, found in pieces.items()}


def seen(watched: Watched, data: Dataset, one: int) -> dict[str, Seen]:
    """Histograms of every activation: a pass for the ends, a pass for the counts; `one` are an example's values.

    Of large activations every k-th value is counted, so many that SAMPLED are left of each.
    """
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
                # Odd, so that it does not skip whole channels.
                found[name].add(values[:: max(values.size // SAMPLED, 1) | 1])
    return found


def share_of(work: int, one: int, least: int) -> int:
    """How many examples of `one` value each make so much work, but `least` in any case."""
    return max(work // max(one, 1), least)
