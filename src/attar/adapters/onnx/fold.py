"""What `open` changes on its private copy: computed weights become plain tensors, batch norms are folded.

Computed are weights behind lossy chains, and those that other operators make from stored values alone. The graph's
inputs, outputs and remaining names stay. A dequantised or cast-up weight is replaced by an initializer of the same
name as the last node's output; the nodes and the stored integers that nothing else uses go.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import GraphProto, TensorProto

from attar.adapters.onnx.constants import computed, value_of
from attar.adapters.onnx.graph import Scope, scopes
from attar.adapters.onnx.sites import SMALLEST, Site, find_sites
from attar.adapters.onnx.tensors import DTYPES, FLOATS, Slot, Store
from attar.types import Array, Weight

TYPE_OF = {dtype: number for number, dtype in DTYPES.items()}


def prepared(store: Store) -> Store:
    """The store with every layer's weight stored as it is seen, and batch norms folded into the layers before them."""
    for scope, name in computed(scopes(store)):
        values = value_of(store, scope, name)
        if values is not None and values.size >= SMALLEST and TYPE_OF.get(values.dtype) in FLOATS:
            store = _replace(store, scope, name, values)
    lossy = {site.chain.result: site.chain for site in find_sites(store)[0] if not site.chain.exact}
    done: set[tuple[str, str]] = set()
    for chain in lossy.values():
        last = max(i for i, step in enumerate(chain.steps) if step.backward is None)
        name = chain.steps[last].node.output[0]
        home = chain.scope.home(name) or chain.scope
        if (home.path, name) not in done:
            done.add((home.path, name))
            values = replace(chain, steps=chain.steps[: last + 1]).read()
            store = _replace(store, home, name, values)
    for site in find_sites(store)[0]:
        if site.norm is not None:
            fold(site)
    return store


def in_integers(store: Store) -> bool:
    """Whether values are quantised between nodes, so that a runtime computes in the stored integers.

    With floats in their place it rounds otherwise, or quantises these anew: onnxruntime does both.
    """
    return any(node.op_type == "QuantizeLinear" for scope in scopes(store).all() for node in scope.graph.node)


def _replace(store: Store, scope: Scope, name: str, values: Array) -> Store:
    """Put a constant in the place of the node that makes it."""
    root = scopes(store)
    home = next(found for found in root.all() if found.path == scope.path)
    inputs = [used for used in home.makers[name].input if used]
    _remove_node(home.graph, name)
    store.add(home.graph, name, np.ascontiguousarray(values), TYPE_OF[values.dtype])
    _prune(root, home, inputs)
    return store.refreshed()


def _prune(root: Scope, scope: Scope, names: list[str]) -> None:
    """Take one use off each name, and remove what nothing uses any more."""
    for name in names:
        home = scope.home(name)
        if home is None:
            continue
        home.uses[name] -= 1
        if home.uses[name] > 0 or name in home.given:
            continue
        maker = home.makers.get(name)
        if maker is None:
            tensors: list[TensorProto] = list(home.graph.initializer)
            index = next((i for i, tensor in enumerate(tensors) if tensor.name == name), None)
            if index is not None:
                del home.graph.initializer[index]
        elif len(maker.output) == 1:
            inputs = [used for used in maker.input if used]
            _remove_node(home.graph, name)
            _prune(root, home, inputs)


def _remove_node(graph: GraphProto, output: str) -> None:
    index = next(i for i, node in enumerate(graph.node) if output in node.output)
    del graph.node[index]


def fold(site: Site) -> None:
    """Move a batch norm's scale into the layer's rows and everything else into its shift."""
    norm = site.norm
    assert norm is not None
    epsilon = np.float32(norm.epsilon)
    gamma, mean = norm.scale.array, norm.mean.array.astype(np.float64)
    with np.errstate(invalid="ignore"):
        deviation = np.sqrt(norm.variance.array + epsilon)
    before = site.prior.read().astype(np.float64) if site.prior else np.zeros(site.form.rows)
    if np.array_equal(gamma, deviation) and not mean.any() and not before.any():
        return
    with np.errstate(all="ignore"):  # a diverged model stays one: its layers read as NaN or infinite
        scale = gamma.astype(np.float64) / np.sqrt(norm.variance.array.astype(np.float64) + float(epsilon))
        matrix = (site.form.matrix(site.chain.read()) * scale[:, None]).astype(np.float32)
        shift = (norm.shift.array + scale * (before - mean)).astype(np.float32)
    _set_identity(norm.scale, norm.mean, norm.variance, epsilon)
    if site.prior is not None:
        site.prior.write(np.zeros(site.form.rows, np.float32))
    site.write(Weight(matrix, shift))


def _set_identity(scale: Slot, mean: Slot, variance: Slot, epsilon: np.float32) -> None:
    """Statistics and scale such that scale / sqrt(variance + epsilon) is exactly 1 in float32."""
    value, factor = identity(epsilon)
    shape = scale.shape
    scale.values = np.full(shape, factor, np.float32)
    mean.values = np.zeros(shape, np.float32)
    variance.values = np.full(shape, value, np.float32)


def identity(epsilon: np.float32) -> tuple[np.float32, np.float32]:
    """(variance, scale) that cancel: variance + epsilon is 1 where 1 - epsilon or a neighbour of it makes it so."""
    one = np.float32(1)
    value = np.maximum(one - epsilon, np.float32(0))
    for candidate in (value, np.nextafter(value, one), np.nextafter(value, np.float32(0))):
        if candidate + epsilon == one:
            return candidate, one
    return value, np.sqrt(value + epsilon)
