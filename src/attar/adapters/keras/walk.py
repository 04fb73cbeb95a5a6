"""Walk a Keras model: its layers under names that do not change from copy to copy, and the graph between them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from attar.adapters.keras.layers import Site, reason_to_skip, sites_of
from attar.errors import ModelError


def is_graph(model: Any) -> bool:
    """Whether a layer is a functional or sequential model, whose layers have names of their own in its config."""
    return isinstance(model, keras.Sequential) or (isinstance(model, keras.Model) and hasattr(model, "_nodes_by_depth"))


def check_steady(model: Any) -> None:
    """That no layer keeps a state between calls; raises ModelError."""
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            raise ModelError(
                f"model {model.name!r}: every batch must be answered for itself. Received layer {layer.name!r}, which "
                "keeps a state between calls. Build it with stateful=False and set the same weights."
            )


def named_layers(model: Any) -> list[tuple[str, Any]]:
    """Every layer once, with a path: layer names inside functional models, attribute names elsewhere.

    Attribute names, because Keras numbers unnamed layers by a counter of the process. Inside a functional model that
    is made by code, not by a config, the numbers are made anew.
    """
    found: dict[int, tuple[str, Any]] = {}
    _visit(model, "", found, by_code=False)
    for layer in model._flatten_layers(include_self=False):
        if id(layer) not in found:
            found[id(layer)] = (layer.path or layer.name, layer)
    return list(found.values())


def _visit(layer: Any, path: str, found: dict[int, tuple[str, Any]], by_code: bool) -> None:
    if id(layer) in found:
        return
    found[id(layer)] = (path, layer)
    by_code = by_code or not _names_its_layers(layer)
    for name, child in _children(layer, by_code):
        _visit(child, f"{path}/{name}" if path else name, found, by_code)


def _names_its_layers(layer: Any) -> bool:
    """Whether the names of all layers inside are in the layer's config, and so the same in every copy."""
    definer = next(c for c in type(layer).__mro__ if "get_config" in vars(c))
    own = type(layer) if not is_graph(layer) else definer
    return own.__module__.startswith("keras.")


def _children(layer: Any, by_code: bool) -> Iterator[tuple[str, Any]]:
    """Direct sublayers with their names; the layers of lists and dicts are numbered."""
    if is_graph(layer):
        yield from zip(_layer_names(layer.layers, by_code), layer.layers, strict=True)
    attributes = dict(vars(layer))
    attributes.update(attributes.get("_modules") or {})  # where PyTorch keeps them
    for name, value in attributes.items():
        if name.lstrip("_") not in _BOOKKEEPING and not name.startswith("_self_"):  # TensorFlow's own lists
            for suffix, child in _layers_in(value):
                yield name.lstrip("_") + suffix, child


def _layer_names(layers: list[Any], by_code: bool) -> list[str]:
    """The layers' names; where Keras gave one by its counter and no config keeps it, counted within the list."""
    names: list[str] = []
    for layer in layers:
        base = re.sub(r"_\d+$", "", layer.name)
        counted = base.replace("_", "") == type(layer).__name__.lower() and (by_code or not _keeps_name(layer))
        names.append(_unique(base if counted else layer.name, names))
    return names


def _keeps_name(layer: Any) -> bool:
    """Whether the layer's config has its name: that of a class without get_config() may not."""
    if type(layer).__module__.startswith("keras."):
        return True
    try:
        return "name" in layer.get_config()
    except (NotImplementedError, TypeError, ValueError):
        return False


_COUNTED = re.compile(r"(?<=^variable)_\d+$")
"""What Keras adds to the name of a variable that was given none: a counter of the process."""
_BOOKKEEPING = ("layers", "operations", "modules", "functional", "tracker")


def _layers_in(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, keras.Layer):
        yield "", value
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from ((f"_{number}{suffix}", child) for suffix, child in _layers_in(item))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from ((f"_{key}{suffix}", child) for suffix, child in _layers_in(item))


@dataclass(frozen=True, slots=True)
class Inventory:
    """All weights of a model: sites in order, every variable's name by id, and the reasons for those left alone."""

    sites: dict[str, Site]
    names: dict[int, str]
    variables: dict[str, Any]
    skipped: dict[str, str]


def inventory(model: Any, smallest: int) -> Inventory:
    """Sort a model's weights into sites, skipped and plain ones; a variable met twice is tied to its first site."""
    sites: dict[str, Site] = {}
    owners: dict[int, str] = {}
    reasons: dict[int, str] = {}
    named = named_layers(model)
    for path, layer in named:
        own = list(sites_of(layer, path))
        why = reason_to_skip(layer)
        for variable in [] if own else layer._trainable_variables + layer._non_trainable_variables:
            reasons.setdefault(id(variable), why or "not a layer's matrix")
        for site in own:
            refusal = _too_odd(site, smallest)
            if refusal is not None:
                reasons[id(site.variable)] = refusal
            elif id(site.variable) not in owners:
                owners[id(site.variable)] = site.name
                sites[_unique(site.name, sites)] = site
    names, variables = _name_variables(model, named)
    skipped = {
        names[id(v)]: reasons.get(id(v), "not a layer's matrix")
        for v in model.weights
        if len(v.shape) > 1 and id(v) not in owners and not _is_bias(v, sites)
    }
    return Inventory(sites, names, variables, skipped)


def _too_odd(site: Site, smallest: int) -> str | None:
    dtype = keras.backend.standardize_dtype(site.variable.dtype)
    if dtype not in ("float16", "bfloat16", "float32", "float64"):
        return f"dtype {dtype} is not a float"
    size = 1
    for n in site.variable.shape:
        size *= int(n)
    return f"fewer than {smallest} weights" if size < smallest else None


def _is_bias(variable: Any, sites: dict[str, Site]) -> bool:
    return any(site.bias is not None and site.bias.variable is variable for site in sites.values())


def _unique(name: str, taken: Any) -> str:
    if name not in taken:
        return name
    return next(f"{name}_{i}" for i in range(1, len(taken) + 2) if f"{name}_{i}" not in taken)


def _name_variables(model: Any, named: list[tuple[str, Any]]) -> tuple[dict[int, str], dict[str, Any]]:
    """A unique name for each of the model's weights: the owner's path and the variable's own name."""
    wanted = {id(v) for v in model.weights}
    names: dict[int, str] = {}
    variables: dict[str, Any] = {}
    for path, layer in named:
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            if id(variable) in wanted and id(variable) not in names:
                own = _COUNTED.sub("", variable.name)
                name = _unique(f"{path}/{own}" if path else own, variables)
                names[id(variable)] = name
                variables[name] = variable
    for variable in model.weights:
        if id(variable) not in names:
            names[id(variable)] = _unique(variable.path, variables)
            variables[names[id(variable)]] = variable
    return names, variables


def _graphs(model: Any) -> list[Any]:
    """All functional models inside a model, each once; a sequential model keeps one inside."""
    graphs: dict[int, Any] = {}
    for _, layer in named_layers(model):
        if is_graph(layer):
            graph = layer._functional if isinstance(layer, keras.Sequential) else layer
            graphs[id(graph)] = graph
    return [graph for graph in graphs.values() if graph is not None]


def graph_nodes(model: Any) -> list[Any]:
    """The nodes of all functional models inside a model."""
    return [node for graph in _graphs(model) for level in graph._nodes_by_depth.values() for node in level]


def output_ids(model: Any) -> set[int]:
    """The ids of the tensors that functional models hand out."""
    return {id(tensor) for graph in _graphs(model) for tensor in keras.tree.flatten(graph._outputs_struct)}
