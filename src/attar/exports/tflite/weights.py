"""Weights of a TFLite model on the runtime's int8 grid: scales for output channels, rounded with error feedback."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from attar.adapters.tflite.adapter import TfliteAdapter
from attar.adapters.tflite.store import Store
from attar.exports.tflite.graph import prepared
from attar.methods.fixed import Fixed
from attar.types import Dataset, Layer, Stats, Weight

CHOICE = {"bits": 8, "part": 0, "rounding": "descent", "range": "mse", "alpha": 0.0}
TOP = 127
KINDS = ("dense", "conv", "conv_transpose")


def on_grid(layer: Layer, weight: Weight, stats: Stats | None) -> tuple[Weight, NDArray[np.float32]]:
    """The weight as codes times scales [output channels], and the scales.

    By the method `fixed`, with the mean error taken off the bias. A transposed convolution, whose channels are several
    rows, and a layer that the examples do not reach are rounded to nearest.
    """
    if stats is None or layer.kind == "conv_transpose":
        channels = layer.shape[0] if layer.kind == "conv_transpose" else layer.rows
        rows = weight.matrix.reshape(channels, -1)
        scales = np.maximum(np.abs(rows).max(1), np.float32(1e-20)) / np.float32(TOP)
        rounded = np.rint(rows / scales[:, None]) * scales[:, None]
        return Weight(rounded.reshape(weight.matrix.shape).astype(np.float32), weight.bias), scales
    encoded = Fixed.encode(layer, weight, stats, CHOICE)
    units, _ = Fixed.units(encoded)
    return Fixed.decode(encoded), np.maximum(np.asarray(units[:, 0], np.float32), np.float32(1e-30))


def rounded(
    adapter: TfliteAdapter, calibrate: Dataset, kinds: Collection[str] = KINDS
) -> tuple[Store, Store, dict[int, NDArray[np.float32]]]:
    """The prepared graph, the same with its weights on the grid, and their scales by buffer.

    Both graphs have the same numbers. The adapter is not changed.
    """
    inner = TfliteAdapter(prepared(adapter.store))
    inner.trust()
    layers = [layer for layer in inner.layers() if layer.tied_to is None and layer.kind in kinds]
    plain = inner.store.edited()
    stats = inner.moments(calibrate.batches(128), [layer.name for layer in layers])
    scales: dict[int, NDArray[np.float32]] = {}
    for layer in layers:
        weight, found = on_grid(layer, inner.read(layer.name), stats.get(layer.name))
        inner.write(layer.name, weight)
        scales[inner.store.buffer(inner.store.names[layer.name])] = found
    return plain, inner.store, scales
