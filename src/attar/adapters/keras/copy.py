"""A private copy of a Keras model of the caller's process: same class, names, sharing, flags and weights."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import keras

from attar.adapters.keras.walk import is_graph
from attar.errors import ModelError

COPY_ERRORS = (NotImplementedError, TypeError, ValueError, AttributeError, KeyError)
"""What Keras raises on a model that it cannot make a second time."""

log = logging.getLogger("attar")


def copy_of(model: Any) -> Any:
    """A private copy with the same weights; raises ModelError where Keras cannot make one."""
    if not model.built:
        raise ModelError(
            f"model {model.name!r}: its weights must exist. Received an unbuilt model. Call it once on data first."
        )
    weights = model.get_weights()
    shapes = [w.shape for w in weights]
    copy = _by_config(model)
    if copy is None or [w.shape for w in copy.get_weights()] != shapes:
        copy = _by_file(model)
    copy.set_weights(weights)
    finish(copy)
    return copy


def finish(model: Any) -> bool:
    """What Keras' own loader does after the weights: constants that layers derive from them. Whether there are any."""
    found = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Normalization)]
    for layer in found:
        layer.finalize_state()
    return bool(found)


def _by_config(model: Any) -> Any:
    """Layer by layer, so that a Lambda layer keeps the function of the caller's process; None where that fails."""
    try:
        copy = graph_copy(model, {}) if is_graph(model) else None
        if type(copy) is type(model):
            return copy
        try:
            own = type(model).from_config(model.get_config())
            if not own.built or len(own.weights) != len(model.weights):
                own.build_from_config(model.get_build_config() or {})
            return own
        except COPY_ERRORS as error:
            if copy is None:
                raise
            log.warning(
                "model %r: it comes back as a plain functional model: class %s has no from_config that makes it (%s)",
                model.name, type(model).__name__, _line(error),
            )  # fmt: skip
            return copy
    except COPY_ERRORS as error:
        log.debug("copy of %s by its config failed: %s", model.name, error)
        return None


def graph_copy(model: Any, made: dict[int, Any]) -> Any:
    """A functional or sequential model anew; `made` are the copies so far, by the id of the original."""

    def layer_copy(layer: Any) -> Any:
        if id(layer) not in made:
            made[id(layer)] = graph_copy(layer, made) if is_graph(layer) else _layer_copy(layer)
        return made[id(layer)]

    if isinstance(model, keras.Sequential):
        copy = keras.models.clone_model(model, clone_function=layer_copy)
    else:
        copy = keras.models.clone_model(model, clone_function=layer_copy, input_tensors=_inputs_like(model))
    copy._trainable = model._trainable  # the setter would reach the layers, which have flags of their own
    return copy


def _inputs_like(model: Any) -> Any:
    """New inputs named as their layers: Keras names tensors by a counter of the process."""

    def like(tensor: Any) -> Any:
        layer = tensor._keras_history.operation
        return keras.Input(
            batch_shape=tensor.shape, dtype=tensor.dtype, sparse=tensor.sparse, name=layer.name,
            optional=getattr(layer, "optional", False),
        )  # fmt: skip

    return keras.tree.map_structure(like, model.input)


def _layer_copy(layer: Any) -> Any:
    if isinstance(layer, keras.layers.Lambda):
        return keras.layers.Lambda(
            layer.function, layer._output_shape, layer.mask, layer.arguments, name=layer.name, dtype=layer.dtype_policy
        )
    return type(layer).from_config(layer.get_config())


def _by_file(model: Any) -> Any:
    """Through a temporary .keras file, knowing the classes of the caller's own layers."""
    classes: dict[str, type] = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    classes = {name: cls for name, cls in classes.items() if not cls.__module__.startswith("keras.")}
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            model.save(path)
            return keras.saving.load_model(path, custom_objects=classes, compile=False, safe_mode=True)
    except COPY_ERRORS as error:
        raise ModelError(
            f"model {model.name!r}: attar works on a copy, and Keras must be able to make one. Received {_line(error)} "
            "Give the class get_config() and from_config(), and build() or a functional graph."
        ) from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
