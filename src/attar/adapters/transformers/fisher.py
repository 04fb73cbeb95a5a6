"""Row sensitivities of transformers by gradients, exact over the whole vocabulary; see torch/fisher.py.

A language model's loss is summed over the tokens of a window, and squared gradients are averaged over tokens: an error
at one position reaches the tokens after it. Vectors are seen as the mean of a Gaussian whose variance is that of the
vectors themselves (as search/divergence.py has it), whose score is a random direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
WIDEST = 2048
"""Rows of a layer from which on their coupling is not measured: it would be as large as the layer, and longer."""
ALIKE = 8
"""Positions with a label of their own that tell as much of gradients as another example does."""
SHRINK = 0.15
"""Shrinkage of a coupling towards none at 2,000 examples. Of 209 passages (MiniLM, one direction for each), half of it
saves 0.2 bits a weight on passages not seen and 0.06 on e-mails; 0.86 of it costs 0.05 and 0.1."""
Forward = Callable[[Batch, Callable[[Product], Tensor | None]], Tensor]


@dataclass
class Together:
    """Second moments [rows, rows] of the gradients behind the rows of one layer, over its positions."""

    sums: Array
    samples: float = 0

    def add(self, gradient: Tensor, examples: int, *, labelled: bool) -> None:
        """Gradients [..., rows] of so many examples; labelled: a label was drawn at each of their positions."""
        flat = gradient.reshape(-1, gradient.shape[-1]).numpy()
        self.sums += flat.T @ flat
        self.samples += max(examples, len(flat) / ALIKE) if labelled else examples

    def correlation(self) -> Array:
        """Float32, shrunk towards none the more the fewer examples there were; positive definite."""
        root = np.sqrt(np.maximum(np.diagonal(self.sums), 1e-30))
        found = self.sums / root[:, None] / root * (1 - min(0.95, SHRINK * float(np.sqrt(2000 / max(self.samples, 1)))))
        np.fill_diagonal(found, 1.0)
        return np.asarray(found, np.float32)


@dataclass
class Gradients:
    """What gradients told of each layer.

    rows [rows]: 2 KL in nats per squared unit. lookups: ids that a table was asked for, with the squared gradients of
    the vectors found there, summed over rows. coupling: correlation of the gradients behind two rows, [rows, rows].
    words: names of layers whose rows are the words that may come next.
    """

    rows: dict[str, Array] = field(default_factory=dict)
    lookups: dict[str, Lookups] = field(default_factory=dict)
    coupling: dict[str, Array] = field(default_factory=dict)
    words: set[str] = field(default_factory=set)


def fisher(
    forward: Forward, batches: Iterable[Batch], rows: Mapping[str, int], task: Task, spread: float, seed: int
) -> Gradients:
    """Of each layer that was reached; forward gives logits or vectors. spread: variance of the vectors.

    batches are free of padding.
    """
    rng = np.random.default_rng(seed)
    sums: dict[str, Array] = {}
    together: dict[str, Together] = {}
    looked: dict[str, list[tuple[Array, Array]]] = {}
    words: set[str] = set()
    count = 0
    for batch in batches:
        probes: list[tuple[Product, Tensor]] = []
        last: list[Tensor] = []

        def hook(product: Product, probes: list[tuple[Product, Tensor]] = probes, last: list[Tensor] = last) -> Any:
            if product.y is None:
                return None
            probe = torch.zeros_like(product.y, requires_grad=True)
            probes.append((product, probe))
            last[:] = [product.y + probe]
            return last[0]

        with torch.enable_grad():
            output = forward(batch, hook)
            # Scores of places in images have their classes second.
            scores = output.movedim(1, -1) if task.kind == "scores" and output.ndim == 4 else output
            loss, counted = _loss(scores, task, spread, rng)
        gradients = torch.autograd.grad(loss, [probe for _, probe in probes], allow_unused=True)
        for (product, _), gradient in zip(probes, gradients, strict=True):
            if gradient is None:
                continue
            size = rows[product.name]
            total = sums.setdefault(product.name, np.zeros(size))
            if product is probes[-1][0] and output is last[0] and task.kind != "vector":
                total += of_scores(scores.detach()[:, :-1] if task.kind == "next" else scores.detach())
                words |= {product.name} if task.kind in ("next", "same") else set()
            else:
                add_squares(total, product, gradient)
            if _coupled(product, size):
                if product.name not in together:
                    together[product.name] = Together(np.zeros((size, size)))
                together[product.name].add(gradient, product.examples, labelled=task.kind in ("next", "same"))
            ids = product.ids()
            if ids is not None:
                squares = gradient.double().square().sum(-1).reshape(-1).numpy()
                looked.setdefault(product.name, []).append((ids, squares))
        count += counted
    return Gradients(
        {name: total / max(count, 1) for name, total in sums.items()},
        {
            name: (np.concatenate([i for i, _ in each]), np.concatenate([w for _, w in each]))
            for name, each in looked.items()
        },
        {name: each.correlation() for name, each in together.items()},
        words,
    )


def of_scores(logits: Tensor) -> Array:
    """What squared gradients behind the scores are on average over all labels, p (1 - p), summed over positions.

    Drawn labels would tell nothing of most words: a vocabulary is larger than what one draws.
    """
    p = torch.softmax(logits.float().reshape(-1, logits.shape[-1]), -1)
    return np.asarray((p * (1 - p)).sum(0, dtype=torch.float64).numpy())


def _coupled(product: Product, size: int) -> bool:
    """Whether the rows of a product are to be coupled: all of them, along its last axis, and not too many."""
    assert product.y is not None
    last = product.call.op not in ("conv", "conv_transpose", "bag") and product.row_axes() == (product.y.ndim - 1,)
    return last and product.call.weight.rows is None and 1 < size < WIDEST


def _loss(output: Tensor, task: Task, spread: float, rng: np.random.Generator) -> tuple[Tensor, int]:
    """A sum over tokens or examples whose gradient is a score, and their number."""
    if task.kind == "vector":
        flat = output.reshape(len(output), -1)
        noise = rng.normal(size=tuple(flat.shape)) / np.sqrt(spread * flat.shape[1])
        return (flat * torch.from_numpy(noise).to(flat)).sum(), len(output)
    logits = output[:, :-1] if task.kind == "next" else output
    flat = logits.float().reshape(-1, logits.shape[-1])
    return sampled_loss(flat, rng), len(flat)
