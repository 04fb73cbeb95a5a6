"""Runs of a model whose layers are tapped: traced once for each number of examples on TensorFlow and JAX, else eager.

An eager run holds the output of every layer until its end. A traced one holds what is still to be read, and takes less
than half of the processor's time, the same way a model's own `predict` does. What is traced is freed with the function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from attar.adapters.keras.layers import Site
from attar.adapters.keras.pieces import pieces
from attar.adapters.keras.run import forward, to_float, without_gradients
from attar.adapters.keras.taps import shift, tapped
from attar.types import Array

Run = Callable[[Any, Any], Any]
"""Inputs and further tensors -> tensors, in tuples, lists and dictionaries."""
Calls = list[tuple[Array, Array | None]]
"""(input, product with the layer's bias or None), one for each call of a layer."""

Shifting = Callable[[Any, Mapping[str, Array]], Array]
"""Inputs and deltas[n, rows] by a site's name -> the first output."""


def traced(model: Any, run: Run) -> Run:
    """A run that taps layers, as a graph for each shape where the model's own `predict` is one."""
    make = _BACKENDS.get(keras.backend.backend())
    return run if make is None or model.run_eagerly else make(model, run)


def _by_tensorflow(_: Any, run: Run) -> Run:
    import tensorflow as tf

    graph = tf.function(run, autograph=False)
    return lambda *given: graph(*keras.tree.map_structure(ops.convert_to_tensor, given))


def _by_jax(model: Any, run: Run) -> Run:
    """Every variable is an argument of the compiled function: JAX bakes in what it reads from outside."""
    import jax

    @jax.jit
    def graph(values: list[Any], *given: Any) -> Any:
        with keras.StatelessScope(state_mapping=zip(model.variables, values, strict=True)):
            return run(*given)

    return lambda *given: graph([v.value for v in model.variables], *given)


_BACKENDS: Mapping[str, Callable[[Any, Run], Run]] = {"tensorflow": _by_tensorflow, "jax": _by_jax}


def seeing(model: Any, sites: Sequence[Site], *, products: bool) -> Run:
    """A run that gives what each site's layer got and (if `products`) gave, call by call: {name: [(x, z or None)]}.

    z is with the layer's bias.
    """

    def run(inputs: Any, _: Any) -> dict[str, list[tuple[Any, Any]]]:
        calls: dict[str, list[tuple[Any, Any]]] = {}

        def hook(site: Site, x: Any, z: Any) -> Any:
            calls.setdefault(site.name, []).append((x, z if products else None))
            return z

        with without_gradients(), tapped(sites, hook):
            forward(model, inputs)
        return calls

    return run


def in_numpy(calls: Mapping[str, list[tuple[Any, Any]]]) -> dict[str, Calls]:
    """What `seeing` gives, as arrays."""
    return {
        name: [(to_float(x), None if z is None else to_float(z)) for x, z in found] for name, found in calls.items()
    }


def shifting(model: Any, sites: Sequence[Site]) -> Shifting:
    """What gives the first output with some sites' products shifted, for inputs and deltas[n, rows] by name.

    One graph has the shifts of all sites, each behind a condition: to trace a network takes seconds, which a graph for
    each of a hundred layers would take again. Raises KeyError where a product does not count the examples.
    """
    rows = [site.describe().rows for site in sites]
    places = {site.name: place for place, site in enumerate(sites)}
    unshared: dict[int, set[str]] = {}

    def run(inputs: Any, starts: Any, deltas: Any) -> Any:
        """starts: for each site the first column of deltas that is its own, -1 for none."""
        count = deltas.shape[0]
        unshared[count] = set()

        def hook(site: Site, x: Any, z: Any) -> Any:
            if z.shape[0] % count:
                unshared[count].add(site.name)
                return z
            start, own = starts[places[site.name]], np.arange(rows[places[site.name]], dtype=np.int32)
            return ops.cond(start >= 0, lambda: shift(site, x, z, ops.take(deltas, start + own, axis=1)), lambda: z)

        with without_gradients(), tapped(sites, hook):
            return forward(model, inputs)

    step = traced(model, run)

    def shifted(inputs: Any, deltas: Mapping[str, Array]) -> Array:
        starts, wide = np.full(len(sites), -1, np.int32), np.zeros((len(next(iter(deltas.values()))), 0), np.float32)
        for name, delta in deltas.items():
            starts[places[name]] = wide.shape[1]
            wide = np.concatenate([wide, np.asarray(delta, np.float32)], axis=1)
        # Every width would be traced anew.
        wide = np.pad(wide, ((0, 0), (0, -wide.shape[1] % max(rows))))
        parts = [(step(piece[0], starts, piece[1]), size) for piece, size in pieces(model, (inputs, wide), even=True)]
        for name in deltas:
            if any(name in unshared[size] for _, size in parts):
                raise KeyError(f"layer {name!r}: its first axis must count examples. It does not. Leave it out.")
        return np.concatenate([to_float(part).astype(np.float32) for part, _ in parts])

    return shifted
