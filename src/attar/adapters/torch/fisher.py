"""Row sensitivities by gradients: the Fisher diagonal of a layer's pre-activations.

Labels are drawn from the model's own softmax; the squared gradient of -log p(label) with respect to a layer's output is
averaged over examples (Amari 1998; on why the labels must be drawn: Kunstner et al. 2019). Before it is squared, the
gradient is summed over the positions of a convolution, whose errors are alike at every position, and not over those of
other layers, whose errors are as independent as their inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor

from attar.adapters.base import Batch
from attar.adapters.torch.products import Product, each_axis
from attar.types import Array

Forward = Callable[[Batch, Callable[[Product], Tensor | None]], Tensor]


def fisher(forward: Forward, batches: Iterable[Batch], rows: Mapping[str, int], seed: int) -> dict[str, Array]:
    """[rows] for each layer that was reached, 2 KL in nats per squared unit; forward runs a batch with a hook."""
    rng = np.random.default_rng(seed)
    sums: dict[str, Array] = {}
    examples = 0
    for batch in batches:
        probes: list[tuple[Product, Tensor]] = []

        def hook(product: Product, probes: list[tuple[Product, Tensor]] = probes) -> Tensor | None:
            if product.y is None or product.call.op == "states":
                return None
            probe = torch.zeros_like(product.y, requires_grad=True)
            probes.append((product, probe))
            return product.y + probe

        with torch.enable_grad():
            logits = forward(batch, hook).float()
            loss = sampled_loss(logits, rng)
        gradients = torch.autograd.grad(loss, [probe for _, probe in probes], allow_unused=True)
        for (product, _), gradient in zip(probes, gradients, strict=True):
            if gradient is not None:
                total = sums.setdefault(product.name, np.zeros(rows[product.name]))
                add_squares(total, product, gradient)
        examples += len(logits)
    return {name: total / max(examples, 1) for name, total in sums.items()}


def sampled_loss(logits: Tensor, rng: np.random.Generator) -> Tensor:
    """Sum over examples of -log p(label), a label drawn for each; positions of one example (tokens) are averaged."""
    flat = torch.log_softmax(logits.reshape(-1, logits.shape[-1]), -1)
    cumulative = flat.detach().double().exp().cumsum(-1)
    draw = torch.from_numpy(rng.random(len(flat))).to(flat.device)[:, None] * cumulative[:, -1:]
    label = torch.searchsorted(cumulative, draw).clamp(max=flat.shape[-1] - 1)
    return -flat.gather(1, label).sum() * (len(logits) / max(len(flat), 1))


def add_squares(total: Array, product: Product, gradient: Tensor) -> None:
    """Add the squared gradients, summed over all axes but the rows; a part of the rows where the call has a part.

    The products of a transposed convolution are summed into output elements: a row (channel, tap) reaches one of
    stride elements of its channel, so that its gradient is that share of the channel's sum.
    """
    gradient = gradient.double()
    geometry, kernel = product.call.geometry, product.call.weight.shape[2:]
    share = 1
    if product.call.op in ("conv", "conv_transpose"):
        gradient = gradient.sum(tuple(range(2, gradient.ndim)))
        share = prod(each_axis(geometry[0], len(kernel))) if product.call.op == "conv_transpose" else 1
    axes = product.row_axes()
    others = [axis for axis in range(gradient.ndim) if axis not in axes]
    summed = gradient.square().sum(others) if others else gradient.square()
    ordered = sorted(axes)
    each = summed.permute([ordered.index(axis) for axis in axes]).reshape(-1).cpu().numpy()
    if product.call.op == "conv_transpose":
        each = np.repeat(each, prod(kernel)) / share**2
    start, stop = product.call.weight.rows or (0, len(total))
    total[start:stop] += each
