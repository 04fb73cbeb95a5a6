"""Run a Keras model on numpy batches: compiled, or with its layers tapped (traced.py)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from attar.adapters.base import Batch
from attar.adapters.keras.pieces import pieces
from attar.adapters.keras.scaled import takes_pixels
from attar.errors import DataError
from attar.types import Array, TensorSpec

LOOKED_AT = "_attar_looks_at"
"""Attribute of a private model: the place of the output that is looked at, where it is not the first."""


def input_specs(model: Any) -> list[TensorSpec]:
    """Names, dtypes and shapes of the inputs; a subclassed model tells the shapes that it was built with."""
    tensors = getattr(model, "inputs", None)
    if tensors:
        return [
            replace(_spec(tensor, tensor.name), scales_pixels=takes_pixels(model, place))
            for place, tensor in enumerate(tensors)
        ]
    config = model.get_build_config() or {}
    shapes = config.get("shapes_dict") or {"input": config.get("input_shape")}
    names = {key.removesuffix("_shape"): shape for key, shape in shapes.items()}
    dtype = keras.backend.standardize_dtype(model.input_dtype)
    specs = []
    for name, shape in names.items():
        parts = shape.items() if isinstance(shape, dict) else [(name, shape)]
        specs += [TensorSpec(part, dtype, (None, *tuple(dims)[1:])) for part, dims in parts if dims is not None]
    return specs


def output_specs(model: Any) -> list[TensorSpec]:
    """Names, dtypes and shapes of the outputs, flattened: the names of a dict are its keys."""
    tensors, made = getattr(model, "outputs", None), getattr(model, "_outputs_struct", None)
    if not tensors:
        given = [keras.KerasTensor(spec.shape, spec.dtype, name=spec.name) for spec in input_specs(model)]
        made = model.compute_output_spec(given[0] if len(given) == 1 else {tensor.name: tensor for tensor in given})
        tensors = keras.tree.flatten(made)
        names = [f"output_{i}" if i else "output" for i in range(len(tensors))]
    else:
        names = [tensor._keras_history.operation.name for tensor in tensors]
    keys = {id(tensor): str(key) for key, tensor in made.items()} if isinstance(made, dict) else {}
    return [_spec(tensor, keys.get(id(tensor), name)) for tensor, name in zip(tensors, names, strict=True)]


def _spec(tensor: Any, name: str) -> TensorSpec:
    return TensorSpec(name, keras.backend.standardize_dtype(tensor.dtype), tuple(tensor.shape))


def arrange(model: Any, batch: Batch) -> Any:
    """The batch in the structure that the model takes; raises DataError where an input is missing."""
    values = {name: _single(value) for name, value in batch.items()}
    tensors = getattr(model, "inputs", None)
    if not tensors or len(tensors) == 1:
        only = next(iter(values.values())) if len(values) == 1 else None
        if not tensors:
            return values if only is None else only
        if only is None:
            only = _take(values, tensors[0].name)
        return keras.tree.pack_sequence_as(model._inputs_struct, [only]) if hasattr(model, "_inputs_struct") else only
    struct = model._inputs_struct
    if isinstance(struct, dict):
        return {key: _take(values, tensor.name if tensor.name in values else key) for key, tensor in struct.items()}
    return keras.tree.pack_sequence_as(struct, [_take(values, tensor.name) for tensor in tensors])


def _single(value: Array) -> Array:
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _take(values: Mapping[str, Array], name: str) -> Array:
    if name not in values:
        raise DataError(
            f"input {name!r}: the data must have it. Received {sorted(values)}. Name the arrays like the inputs."
        )
    return values[name]


def forward(model: Any, inputs: Any) -> Any:
    """The output that is looked at as a tensor, in inference mode."""
    return keras.tree.flatten(model(inputs, training=False))[getattr(model, LOOKED_AT, 0)]


def without_gradients() -> Any:
    """Where PyTorch would record a graph, a context that does not."""
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    return torch.no_grad()


def to_float(tensor: Any) -> Array:
    """A tensor as float32 numpy (floats) or in its own dtype."""
    if keras.backend.standardize_dtype(tensor.dtype) in ("float16", "bfloat16"):
        tensor = keras.ops.cast(tensor, "float32")
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def predict(model: Any, inputs: Any) -> Array:
    """The first output [n, ...], float32."""
    if keras.backend.backend() == "tensorflow":
        model.jit_compile = False  # XLA on the CPU compiles for seconds per batch size
    found = [_predicted(model, piece) for piece, _ in pieces(model, inputs)]
    return np.concatenate(found).astype(np.float32)


def _predicted(model: Any, inputs: Any) -> Array:
    """The same of one piece."""
    if keras.backend.backend() == "torch":
        with without_gradients():
            return to_float(forward(model, inputs))
    return np.asarray(keras.tree.flatten(model.predict_on_batch(inputs))[getattr(model, LOOKED_AT, 0)])
