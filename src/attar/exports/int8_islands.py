"""Convolutions that join dense layers in integers: those that do least harm for their work, as many as pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from attar.exports.int8_ranges import Int8
from attar.exports.judging import Judge
from attar.exports.onnx.costs import works
from attar.plan.latency import Work
from attar.types import Array

LEAST = 1e-9
"""Nats, below which harm is none."""


def harmless_first(
    work: Int8, judge: Judge, batch: Mapping[str, Array], floor: float, step: Callable[[], None] = lambda: None
) -> list[str]:
    """Static nodes by the nats that each adds, alone in integers, for its multiply-adds; floor: with none of them.

    Harms add up while they are small, which holds for those in front; what each gives back where all others are in
    integers says nothing of a model that integers have broken.
    """
    nodes = [name for name in work.nodes if name not in work.kernels]
    counts = counts_of(work, nodes, batch)
    harms = {}
    for name in nodes:
        harms[name] = max(judge(work.build([other for other in nodes if other != name])) - floor, LEAST)
        step()
    return sorted(nodes, key=lambda name: harms[name] / max(counts[name], 1.0))


def counts_of(work: Int8, nodes: Sequence[str], batch: Mapping[str, Array]) -> dict[str, float]:
    """Multiply-adds of nodes, about."""
    readers = {node.name: node.input[1] for node in work.model.graph.node if node.name in nodes}
    known = works(work.model, batch)
    return {name: sum(map(multiplied, known.get(weight, ())), 0.0) for name, weight in readers.items()}


def multiplied(work: Work) -> float:
    """Multiply-adds of a work, about: the edges of a convolution count as its middle."""
    strides = dict(work.attributes).get("strides", ())
    return float(prod(work.weight) * prod(work.x)) / max(prod(strides), 1)


def most_integers(order: Sequence[str], passes: Callable[[Sequence[str]], bool], most: int) -> list[str]:
    """The longest beginning of an order that passes in integers, by halving in `most` tests; all are known to fail."""
    low, high = 0, len(order)
    for _ in range(most):
        if high - low <= 1:
            break
        middle = (low + high) // 2
        low, high = (middle, high) if passes(order[:middle]) else (low, middle)
    return list(order[:low])
