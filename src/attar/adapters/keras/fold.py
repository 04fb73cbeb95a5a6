"""Fold batch norms into the layer before them, where the graph shows that nobody else uses that layer's output.

The batch norm stays in place as an identity with a shift: mean 0, variance 1 - epsilon, gamma 1, beta the folded shift,
which becomes the layer's bias; the layer's own bias becomes zero. Only float32 variables are folded (16-bit ones cannot
hold 1 - epsilon), and only batch norms with a beta.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from attar.adapters.keras.layers import Bias, Site, assign, to_numpy
from attar.adapters.keras.walk import graph_nodes, output_ids
from attar.types import Array


def fold(model: Any, sites: Mapping[str, Site]) -> dict[str, Site]:
    """Fold every batch norm that can be; the sites, with the shift as the bias where one was folded."""
    norms = _followers(model)
    folded: dict[str, Site] = {}
    for name, site in sites.items():
        norm = norms.get(id(site.layer)) if site.tap == "product" else None
        if norm is not None and _fits(site, norm):
            if not _is_folded(site, norm):
                _fold_one(site, norm)
            site = replace(site, bias=Bias(norm.beta))
        folded[name] = site
    return folded


def _followers(model: Any) -> dict[int, Any]:
    """Layer id -> the batch norm that alone consumes its only output, where both are called once."""
    nodes = graph_nodes(model)
    handed_out = output_ids(model)
    calls = Counter(id(node.operation) for node in nodes)
    consumers: dict[int, list[Any]] = {}
    for node in nodes:
        for tensor in node.input_tensors:
            consumers.setdefault(id(tensor), []).append(node.operation)
    pairs = {}
    for node in nodes:
        users = consumers.get(id(node.outputs[0]), [])
        alone = len(node.outputs) == 1 and len(users) == 1 and id(node.outputs[0]) not in handed_out
        once = alone and calls[id(node.operation)] == calls[id(users[0])] == 1
        if once and isinstance(users[0], keras.layers.BatchNormalization):
            pairs[id(node.operation)] = users[0]
    return pairs


def _fits(site: Site, norm: Any) -> bool:
    """Whether the activation between is linear, the axes agree, and all variables are float32."""
    if site.layer.activation is not keras.activations.linear or not norm.center:
        return False
    ndim = len(site.layer.output.shape)
    axis = norm.axis if isinstance(norm.axis, int) else norm.axis[0]
    axes = site.form.row_axes(ndim)
    own = [site.variable, *norm.weights, *([site.layer.bias] if site.layer.bias is not None else [])]
    single = all(keras.backend.standardize_dtype(v.dtype) == "float32" for v in own)
    return single and axes is not None and [a % ndim for a in axes] == [axis % ndim]


def _fold_one(site: Site, norm: Any) -> None:
    """W' = diag(gamma / sqrt(var + eps)) W, beta' = beta + (bias - mean) gamma / sqrt(var + eps), in float64."""
    # Epsilon as other frameworks' files hold it, and one division: the same weights then fold to the same bits.
    deviation = np.sqrt(_double(norm.moving_variance) + float(np.float32(norm.epsilon)))
    scale = (1.0 if norm.gamma is None else _double(norm.gamma)) / deviation
    bias = 0.0 if site.layer.bias is None else _double(site.layer.bias)
    shift = _double(norm.beta) + (bias - _double(norm.moving_mean)) * scale
    site.write((site.read().astype(np.float64) * scale[:, None]).astype(np.float32))
    if site.layer.bias is not None:
        assign(site.layer.bias, np.zeros(site.layer.bias.shape, np.float32))
    if norm.gamma is not None:
        assign(norm.gamma, np.ones(norm.gamma.shape, np.float32))
    assign(norm.beta, shift.astype(np.float32))
    assign(norm.moving_mean, np.zeros(norm.moving_mean.shape, np.float32))
    assign(norm.moving_variance, np.full(norm.moving_variance.shape, 1 - norm.epsilon, np.float32))


def _is_folded(site: Site, norm: Any) -> bool:
    """Whether the batch norm is the identity already, so that opening a folded model changes no bit."""
    expected = [(norm.moving_mean, 0), (norm.moving_variance, np.float32(1 - norm.epsilon))]
    expected += [] if norm.gamma is None else [(norm.gamma, 1)]
    expected += [] if site.layer.bias is None else [(site.layer.bias, 0)]
    return all(bool(np.all(to_numpy(variable) == value)) for variable, value in expected)


def _double(variable: Any) -> Array:
    return to_numpy(variable).astype(np.float64)
