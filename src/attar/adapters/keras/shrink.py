"""A smaller Keras model: layers anew from their configs with fewer units, and the weights that stay in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import layers as kl

from attar.adapters.keras.copy import finish, graph_copy
from attar.adapters.keras.layers import assign, to_numpy
from attar.adapters.keras.walk import named_layers
from attar.errors import ModelError
from attar.structure.base import Index
from attar.structure.graph import Reshape
from attar.structure.groups import Coupled
from attar.types import Array

UNITS: tuple[tuple[type, str, str, int], ...] = (
    (kl.Dense, "units", "_kernel", -1),
    (kl.SeparableConv1D, "filters", "pointwise_kernel", -1),
    (kl.SeparableConv2D, "filters", "pointwise_kernel", -1),
    (kl.Conv1DTranspose, "filters", "kernel", -2),
    (kl.Conv2DTranspose, "filters", "kernel", -2),
    (kl.Conv3DTranspose, "filters", "kernel", -2),
    (kl.Conv1D, "filters", "_kernel", -1),
    (kl.Conv2D, "filters", "_kernel", -1),
    (kl.Conv3D, "filters", "_kernel", -1),
    (kl.Embedding, "output_dim", "_embeddings", -1),
)
"""Layer class, its config's count of channels, and the variable and axis that it counts."""


def shrunk(model: Any, names: Mapping[int, str], coupled: Coupled, keep: Mapping[str, Array]) -> Any:
    """A new model; raises UsageError for a keep that cannot be, ModelError where Keras makes another shape of it."""
    positions, removed = coupled.positions(keep), coupled.removed(keep)
    made: dict[int, Any] = {}
    for _, layer in named_layers(model):
        changes = _changes(layer, names, positions, coupled, removed)
        if changes:
            made[id(layer)] = type(layer).from_config({**layer.get_config(), **changes})
    smaller = graph_copy(model, made)
    for old, new in zip(model.variables, smaller.variables, strict=True):
        values = to_numpy(old)
        for (tensor, axis), kept in positions.items():
            if tensor == names.get(id(old)):
                values = values.take(kept, axis)
        if values.shape != tuple(new.shape):
            raise ModelError(
                f"variable {old.path!r}: Keras must rebuild it as {values.shape}. Received {tuple(new.shape)}. Report "
                "the layer; until then remove channels of the model's ONNX export."
            )
        assign(new, values)
    finish(smaller)
    return smaller


def _changes(
    layer: Any, names: Mapping[int, str], positions: Mapping[tuple[str, int], Index], coupled: Coupled, removed: Index
) -> dict[str, Any]:
    """The entries of a layer's config that count channels, where some go."""
    for kind, entry, attribute, place in UNITS:
        if isinstance(layer, kind) and not isinstance(layer, kl.DepthwiseConv1D | kl.DepthwiseConv2D):
            variable = getattr(layer, attribute)
            axis = place % len(variable.shape)
            kept = positions.get((names.get(id(variable), ""), axis))
            return {} if kept is None else {entry: len(kept), **_groups(layer, len(kept))}
    if isinstance(layer, kl.Reshape):
        return _target(layer, coupled, removed)
    return {}


def _groups(layer: Any, filters: int) -> dict[str, int]:
    """The groups of a convolution that is depthwise by its groups."""
    groups = getattr(layer, "groups", 1)
    if groups > 1 and tuple(layer._kernel.shape)[-2] == 1:
        return {"groups": filters * groups // layer.filters}
    return {}


def _target(layer: Any, coupled: Coupled, removed: Index) -> dict[str, Any]:
    """A Reshape layer's sizes, where they count channels that went."""
    node = next((n for n in coupled.graph.nodes if isinstance(n, Reshape) and n.place == layer.name), None)
    if node is None:
        return {}
    name, sizes = node.outputs[0], list(layer.target_shape)
    for place, size in enumerate(sizes):
        if size != -1:
            whole, left = coupled.graph.values[name][place + 1], coupled.size(name, place + 1, removed)
            sizes[place] = left if left != whole else size
    return {} if sizes == list(layer.target_shape) else {"target_shape": tuple(sizes)}
