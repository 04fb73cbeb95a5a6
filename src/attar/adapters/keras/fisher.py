"""The Fisher diagonal of every product's rows, by one backward pass of whichever backend Keras runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from attar.adapters.keras.forms import ConvTranspose
from attar.adapters.keras.layers import Site
from attar.adapters.keras.run import forward, to_float, without_gradients
from attar.adapters.keras.taps import tapped
from attar.types import Array

Offsets = list[Any]


def fisher(model: Any, sites: Sequence[Site], batches: Iterable[Any], random: np.random.Generator) -> dict[str, Array]:
    """Per site [rows], float64: E over examples of the squared gradient of -log p(y|x), summed over positions.

    Those of a convolution, whose errors are alike at every position, are summed before they are squared.

    y is drawn from the model's own output: a softmax over the last axis (logits and probabilities are told apart by
    their sums), or a normal distribution of variance one where that axis has one entry. Transposed convolutions, whose
    products are not shown, are missing. Source: Amari 1998; Kunstner et al. 2019 on drawing y from the model.
    """
    shown = [site for site in sites if not isinstance(site.form, ConvTranspose)]
    total: dict[str, Array] = {}
    examples = 0
    for inputs in batches:
        examples += len(keras.tree.flatten(inputs)[0])
        for name, square in _squares(model, shown, inputs, random).items():
            total[name] = total.get(name, 0.0) + square
    return {name: value / examples for name, value in total.items()}


def _squares(model: Any, sites: Sequence[Site], inputs: Any, random: np.random.Generator) -> dict[str, Array]:
    """Squared gradients [rows] of one batch, summed over its examples and positions."""
    calls: list[tuple[Site, Any]] = []

    def look(site: Site, _: Any, z: Any) -> Any:
        calls.append((site, z))
        return z

    with without_gradients(), tapped(sites, look):
        output = to_float(forward(model, inputs)).astype(np.float64)
    labels, is_probability = _draw(output, random)

    def loss(offsets: Offsets) -> Any:
        waiting = iter(offsets)

        def add(_: Site, __: Any, z: Any) -> Any:
            return z + ops.cast(next(waiting), z.dtype)

        with tapped(sites, add):
            return _negative_log(ops.cast(forward(model, inputs), "float32"), labels, is_probability)

    zeros = [np.zeros(tuple(z.shape), np.float32) for _, z in calls]
    squares: dict[str, Array] = {}
    for (site, _), gradient in zip(calls, gradients(loss, zeros), strict=True):
        axes = site.form.row_axes(gradient.ndim)
        assert axes is not None
        if site.form.kind == "conv":
            positions = tuple(axis for axis in range(1, gradient.ndim) if axis not in axes)
            gradient = gradient.sum(positions, keepdims=True, dtype=np.float64)
        rows = np.moveaxis(gradient.astype(np.float64), axes, range(len(axes)))
        rows = rows.reshape(int(np.prod(rows.shape[: len(axes)])), -1)
        squares[site.name] = squares.get(site.name, 0.0) + np.square(rows).sum(1)
    return squares


def _draw(output: Array, random: np.random.Generator) -> tuple[Array, bool]:
    """Labels from the model's own distribution: one-hot [..., classes], or reals [..., 1]; and whether it is one."""
    if output.shape[-1] == 1:
        return (output + random.normal(size=output.shape)).astype(np.float32), False
    is_probability = bool(output.min() >= 0 and np.allclose(output.sum(-1), 1, atol=1e-3))
    weight = output if is_probability else np.exp(output - output.max(-1, keepdims=True))
    cumulative = np.cumsum(weight, -1)
    drawn = random.random((*output.shape[:-1], 1)) * cumulative[..., -1:]
    index = np.minimum((cumulative <= drawn).sum(-1), output.shape[-1] - 1)
    return np.eye(output.shape[-1], dtype=np.float32)[index], is_probability


def _negative_log(output: Any, labels: Array, is_probability: bool) -> Any:
    """-log p(labels), averaged over the positions of an example (tokens) and summed over examples."""
    share = len(labels) / int(np.prod(labels.shape[:-1]))
    if labels.shape[-1] == 1:
        return share * ops.sum(ops.square(output - ops.convert_to_tensor(labels))) / 2
    log = ops.log(ops.maximum(output, 1e-12)) if is_probability else ops.log_softmax(output, axis=-1)
    return -share * ops.sum(log * ops.convert_to_tensor(labels))


def gradients(loss: Callable[[Offsets], Any], values: list[Array]) -> list[Array]:
    """The gradient of a scalar function at some arrays; zeros for those it does not depend on."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _by_tensorflow(loss, values)
    if backend == "torch":
        return _by_torch(loss, values)
    import jax

    return [np.asarray(g) for g in jax.grad(loss)([jax.numpy.asarray(v) for v in values])]


def _by_tensorflow(loss: Callable[[Offsets], Any], values: list[Array]) -> list[Array]:
    import tensorflow as tf

    tensors = [tf.convert_to_tensor(v) for v in values]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        result = loss(tensors)
    found = tape.gradient(result, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [np.asarray(g) for g in found]


def _by_torch(loss: Callable[[Offsets], Any], values: list[Array]) -> list[Array]:
    import torch

    tensors = [keras.ops.convert_to_tensor(v).requires_grad_() for v in values]
    found = torch.autograd.grad(loss(tensors), tensors, allow_unused=True)
    return [np.zeros_like(v) if g is None else g.cpu().numpy() for g, v in zip(found, values, strict=True)]
