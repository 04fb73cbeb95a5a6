"""A float ONNX model with its weights on the int8 grid, and what its activations are like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from attar.adapters.onnx.adapter import OnnxAdapter
from attar.exports.codes import CHOICE, grid_of, in_bytes
from attar.exports.int8_ranges import Int8
from attar.exports.products import dense_nodes
from attar.exports.qdq import CORE, Grid, prepared, weight_axes
from attar.exports.recurrent import lstm_nodes
from attar.exports.tables import coded, table_nodes
from attar.exports.watch import Watched, seen, share_of
from attar.methods.fixed import Fixed
from attar.types import Dataset, Encoded, Layer, Stats

WATCHED, LEAST = 512, 32
"""Examples whose activations are counted, at most and at least."""
WORK, MOMENTS = 1 << 32, 128
"""Values of activations after which examples are enough, and examples for the moments of inputs at least."""


BATCH, AT_ONCE = 64, 1 << 26
"""Examples in a batch at most, and values of activations in it."""
HELD, MOST_PASSES = 1 << 22, 8
"""Values of an example's activations up to which all layers are watched in one pass, and most passes if more."""


def measured(adapter: OnnxAdapter, calibrate: Dataset) -> Int8:
    """Weights rounded and activations counted; the adapter is not changed."""
    model = prepared(adapter.model())
    watched = Watched(model)
    one = watched.size(calibrate)
    some = calibrate.take(range(min(len(calibrate), share_of(WORK, one, MOMENTS))))
    work = rounded(model, some, one)
    work.values = one
    if work.grids:
        few = calibrate.take(range(min(len(calibrate), WATCHED, share_of(WORK // 4, one, LEAST))))
        work.found = seen(Watched(work.model), few, one)
    return work


def rounded(model: onnx.ModelProto, calibrate: Dataset, values: int = 1) -> Int8:
    """A prepared float model with its weights on the int8 grid; values are those of an example's activations."""
    names = [layer.name for layer in layers_of(OnnxAdapter.open(model))]
    return on_grids(model, _moments(model, calibrate, names, values))[0]


def layers_of(prepared_model: OnnxAdapter) -> list[Layer]:
    """The layers of a prepared model whose weights may become integers."""
    model = prepared_model.model()
    wanted = {*weight_axes(model), *dense_nodes(model).values()}
    wanted |= {name for pair in lstm_nodes(model).values() for name in pair}
    return [layer for layer in prepared_model.layers() if layer.tied_to is None and layer.name in wanted]


def on_grids(model: onnx.ModelProto, stats: Mapping[str, Stats]) -> tuple[Int8, dict[str, Encoded]]:
    """The same by the statistics of layers, and their codes; layers without statistics stay as they are."""
    axes, inner = weight_axes(model), OnnxAdapter.open(model)
    work, codes = Int8(model, [], {}, []), {}
    for layer in layers_of(inner):
        if layer.name in stats:
            codes[layer.name] = _round(work, inner, layer, stats[layer.name], axes)
    before = {tensor.name: tensor for tensor in model.graph.initializer}
    work.model = inner.model()
    work.plain = {
        tensor.name: before[tensor.name] for tensor in work.model.graph.initializer
        if tensor.name in before and tensor.SerializeToString() != before[tensor.name].SerializeToString()
    }  # fmt: skip
    work.nodes = [node.name for node in work.model.graph.node if node.op_type in CORE]
    stored = {tensor.name: tensor for tensor in work.model.graph.initializer}
    work.tables = {name: coded(numpy_helper.to_array(stored[name]), 8) for name in table_names(work.model)}
    return work, codes


def _moments(model: onnx.ModelProto, calibrate: Dataset, names: list[str], values: int) -> dict[str, Stats]:
    """Statistics of the layers, of some at a time where activations are large: what they saw waits in memory."""
    passes = int(np.clip(np.ceil(values / HELD), 1, MOST_PASSES))
    step = int(np.clip(AT_ONCE // max(values, 1), 4, BATCH))
    found: dict[str, Stats] = {}
    for first in range(passes):
        some = names[first::passes]
        if some:
            # An adapter of its own, because it keeps its sessions and they their memory.
            found |= OnnxAdapter.open(model).moments(calibrate.batches(step), some)
    return found


def table_names(model: onnx.ModelProto) -> list[str]:
    """Tables that may become integers."""
    return sorted(set(table_nodes(model).values()))


def _round(work: Int8, inner: OnnxAdapter, layer: Layer, stats: Stats, axes: Mapping[str, Any]) -> Encoded:
    """One layer, in place, in whatever forms its nodes may take; gives its codes."""
    name, dense = layer.name, layer.groups == 1 and len(layer.shape) == 2
    encoded = Fixed.encode(layer, inner.read(name), stats, CHOICE)
    weight, scales = grid_of(encoded)
    if dense:
        work.products[name] = in_bytes(layer, weight, scales)
    inner.write(name, weight)
    if name in axes:
        work.grids.append(Grid(name, axes[name][1], scales))
    elif not dense:
        work.scales[name] = scales
    return encoded


def dynamic_nodes(work: Int8) -> list[str]:
    """Names of dense and LSTM nodes whose weights are integers: their activations may become integers as they come."""
    graph = work.model.graph
    dense = [graph.node[index].name for index, name in dense_nodes(work.model).items() if name in work.products]
    recurrent = [node for node, pair in lstm_nodes(work.model).items() if all(name in work.scales for name in pair)]
    return [*dense, *recurrent]
