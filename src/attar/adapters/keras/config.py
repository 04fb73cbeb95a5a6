"""A Keras model's config as the smallest JSON that rebuilds the same config, and the model back from it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import keras

from attar.adapters.keras.files import REGISTER
from attar.errors import FormatError, ModelError
from attar.types import Json

KNOWN = ("keras", "builtins", "keras_hub", "keras_nlp", "keras_cv")
"""Packages whose classes Keras imports by itself."""

MAKE_ERRORS = (TypeError, ValueError, KeyError, AttributeError, NotImplementedError)
"""What Keras raises on a config of which it cannot make an object."""


def to_bytes(model: Any, compile_config: Json) -> bytes:
    """The skeleton; raises ModelError where the model is not described by data alone."""
    config = _plain(model)
    _check(config, model.name)
    _check_assets(model)
    whole = {"framework": "keras", "model": _smallest(config, model)}
    if compile_config:
        whole["compile"] = compile_config
    return json.dumps(whole, separators=(",", ":"), sort_keys=True).encode()


def from_bytes(skeleton: bytes) -> tuple[Any, Json]:
    """A new model with fresh weights, and its compile config; raises FormatError, ModelError."""
    try:
        whole = json.loads(skeleton)
        config = whole["model"]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"skeleton: it must be a Keras config in JSON. Received {error}. The file is damaged."
        ) from error
    _check(config, "skeleton")
    try:
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    except MAKE_ERRORS as error:
        short = (str(error).strip().splitlines() or [""])[0][:200]
        if "Could not locate" in str(error):
            raise ModelError(f"skeleton: every class must be known. Received {short} {REGISTER} a model.") from error
        raise FormatError(
            f"skeleton: Keras must be able to rebuild it. Received {short} The file is damaged."
        ) from error
    if not isinstance(model, keras.Model):
        raise FormatError(f"skeleton: it must describe a model. Received {type(model).__name__}. The file is damaged.")
    return model, whole.get("compile")


def _plain(model: Any) -> Json:
    """Keras' own serialisation as JSON values, without the compile state."""
    try:
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    except (NotImplementedError, TypeError, ValueError) as error:
        short = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(f"model {model.name!r}: it needs a config. Received {short} {REGISTER} the model.") from error
    config.pop("compile_config", None)
    return config


def _objects(value: Json) -> Iterator[dict[str, Json]]:
    """Every serialised object in a config."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _check(config: Json, place: str) -> None:
    """Refuse code, and classes that Keras neither has nor was told of."""
    for item in _objects(config):
        name, module = item["class_name"], item.get("module", "keras") or "__main__"  # as Keras writes a script's
        if name in ("__lambda__", "Lambda"):
            raise ModelError(
                f"model {place!r}: a skeleton must not carry Python code. Received a Lambda layer. "
                "Replace it by a registered layer class, or pass into= the model."
            )
        registered = keras.saving.get_registered_object(item.get("registered_name") or name)
        known = str(module).split(".")[0] in KNOWN or name.startswith("__")
        if registered is None and not known:
            raise ModelError(
                f"model {place!r}: every class must be known. Received {module}.{name}. {REGISTER} the model."
            )


def _check_assets(model: Any) -> None:
    """Refuse layers that learned a vocabulary, which is neither a weight nor in the config."""
    for layer in model._flatten_layers():
        lookup = isinstance(layer, keras.layers.StringLookup | keras.layers.IntegerLookup)
        if lookup and layer.input_vocabulary is None:
            raise ModelError(
                f"layer {layer.name!r}: its tables must be in the config. Received a vocabulary learned by adapt(). "
                "Give the layer vocabulary= when it is made, or pass into= the model."
            )


def _smallest(config: Json, model: Any) -> Json:
    """The shortest form of a config that still makes the model; raises ModelError where none does."""
    shapes = [tuple(w.shape) for w in model.weights]
    for built in (False, True):
        reduced = _reduced(config, built)
        with suppress(*MAKE_ERRORS):
            if _remade(reduced) == (config, shapes):
                return reduced
    try:
        received = None if _remade(config)[1] == shapes else "other weights: one layer in two nested models is not kept"
    except MAKE_ERRORS as error:
        received = (str(error).strip().splitlines() or [""])[0][:200]
    if received is not None:
        raise ModelError(
            f"model {model.name!r}: its config must make it again. Received {received}. Pass into= the model."
        )
    return config


def _remade(config: Json) -> tuple[Json, list[tuple[int, ...]]]:
    """The full config and the weights' shapes of the model that a config makes."""
    made = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)), safe_mode=True)
    return _plain(made), [tuple(w.shape) for w in made.weights]


def _reduced(value: Json, built: bool, top: bool = True) -> Json:
    """Without defaults, the long form of dtypes and initializers, and (unless `built`) build configs of layers."""
    if isinstance(value, list):
        return [_reduced(item, built, False) for item in value]
    if not isinstance(value, dict):
        return value
    short = {key: _reduced(item, built, False) for key, item in value.items()}
    if "class_name" not in value or not isinstance(value.get("config"), dict):
        return short
    if value["class_name"] == "DTypePolicy":
        return value["config"].get("name")
    if short.get("registered_name") in (None, value["class_name"]):
        short.pop("registered_name", None)
    if not built and not top:
        short.pop("build_config", None)
    defaults = _defaults(value)
    short["config"] = {
        key: item
        for key, item in short["config"].items()
        if key not in defaults or defaults[key] != value["config"][key]
    }
    return short


def _defaults(item: dict[str, Json]) -> dict[str, Json]:
    """The defaults of a Keras class's constructor, in the form its config gives them."""
    found = _public(str(item.get("module")), item["class_name"])
    if found is None:
        return {}
    values: dict[str, Json] = {"trainable": True} if issubclass(found, keras.Layer) else {}
    for name, parameter in inspect.signature(found.__init__).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            values[name] = _as_config(name, parameter.default)
    return values


def _public(module: str, name: str) -> Any:
    """A public Keras class by its serialised place, looked up in the package that is imported already."""
    parts = module.split(".")
    place: Any = keras
    for part in parts[1:] if parts[0] == "keras" else ["nowhere"]:
        place = getattr(place, part, None)
    found = getattr(place, name, None)
    return found if inspect.isclass(found) else None


def _as_config(name: str, default: Any) -> Json:
    if name.endswith("_initializer") and isinstance(default, str):
        return json.loads(json.dumps(keras.initializers.serialize(keras.initializers.get(default))))
    if name == "activation" and default is None:
        return "linear"
    return list(default) if isinstance(default, tuple) else default
