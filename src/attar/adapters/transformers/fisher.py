"""Row sensitivities of transformers by gradients, exact over the whole vocabulary; see torch/fisher.py.

A language model's loss is summed over the tokens of a window, and squared gradients are averaged over tokens: an error
at one position reaches the tokens after it. Vectors are seen as the mean of a Gaussian whose variance is that of the
vectors themselves (as search/divergence.py has it), whose score is a random direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from attar.adapters.base import Batch
from attar.adapters.torch.fisher import add_squares, sampled_loss
from attar.adapters.torch.products import Product
from attar.adapters.transformers.tasks import Task
from attar.types import Array

Lookups = tuple[Array, Array]
"""Ids [n], and what each of these lookups weighs [n]."""
Forward = Callable[[Batch, Callable[[Product], Tensor | None]], Tensor]


def fisher(
    forward: Forward, batches: Iterable[Batch], rows: Mapping[str, int], task: Task, spread: float, seed: int
) -> tuple[dict[str, Array], dict[str, Lookups]]:
    """[rows] for each layer that was reached, 2 KL in nats per squared unit; forward gives logits or vectors.

    spread: variance of the vectors. batches are free of padding. Also the ids that each table was asked for, with the
    squared gradients of the vectors found there, summed over rows.
    """
    rng = np.random.default_rng(seed)
    sums: dict[str, Array] = {}
    looked: dict[str, list[tuple[Array, Array]]] = {}
    count = 0
    for batch in batches:
        probes: list[tuple[Product, Tensor]] = []

        def hook(product: Product, probes: list[tuple[Product, Tensor]] = probes) -> Tensor | None:
            if product.y is None:
                return None
            probe = torch.zeros_like(product.y, requires_grad=True)
            probes.append((product, probe))
            return product.y + probe

        with torch.enable_grad():
            output = forward(batch, hook)
            loss, counted = _loss(output, task, spread, rng)
        gradients = torch.autograd.grad(loss, [probe for _, probe in probes], allow_unused=True)
        for (product, _), gradient in zip(probes, gradients, strict=True):
            if gradient is not None:
                add_squares(sums.setdefault(product.name, np.zeros(rows[product.name])), product, gradient)
                ids = product.ids()
                if ids is not None:
                    squares = gradient.double().square().sum(-1).reshape(-1).numpy()
                    looked.setdefault(product.name, []).append((ids, squares))
        count += counted
    found = {name: tuple(np.concatenate(part) for part in zip(*pairs, strict=True)) for name, pairs in looked.items()}
    return {name: total / max(count, 1) for name, total in sums.items()}, found  # type: ignore[return-value]


def _loss(output: Tensor, task: Task, spread: float, rng: np.random.Generator) -> tuple[Tensor, int]:
    """A sum over tokens or examples whose gradient is a score, and their number."""
    if task.kind == "vector":
        flat = output.reshape(len(output), -1)
        noise = rng.normal(size=tuple(flat.shape)) / np.sqrt(spread * flat.shape[1])
        return (flat * torch.from_numpy(noise).to(flat)).sum(), len(output)
    logits = output[:, :-1] if task.kind == "next" else output
    flat = logits.float().reshape(-1, logits.shape[-1])
    return sampled_loss(flat, rng), len(flat)
