"""Which other codes a column's codes are coded after: chosen by the length of the code that they leave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attar.sets.mixed import CONTEXTS, I32, REACH

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
SAMPLE = 1 << 14
"""Rows that choices are made from."""
NEAREST = 24
"""Columns before a column that are looked at, those of which it says least without the others left out."""
FARTHEST = 256
"""Columns before a column that may be among these: all of some thousand would take hours."""
DEEPEST = 4
SEEN_BITS = 2.0
"""What a pair of context and code is taken to cost when it is met first, where contexts are chosen: mixed with others,
one that is met seldom does no harm.
"""


def contexts_for(codes: U8) -> tuple[I32, list[float]]:
    """Distances [columns, contexts, reach] for codes [rows, columns], and bits that each column is expected to take.

    A context is some columns before in the row, and the column itself and its left neighbour in the row before: the
    best one, two, three and four of them, found one after the other, and the best two that begin with the second best.
    """
    rows, columns = codes.shape
    step = -(-rows // SAMPLE)
    sample = np.ascontiguousarray(codes[: step * (rows // step) or rows : step]) if step > 1 else codes
    above = np.zeros_like(sample)
    # The row before in the table, not in the sample.
    place = np.arange(len(sample)) * step
    above[place > 0] = codes[place[place > 0] - 1]
    out = np.zeros((columns, CONTEXTS, REACH), np.int32)
    bits = []
    for j in range(columns):
        chosen, cost = _chosen(sample, above, j, columns)
        for k, context in enumerate(chosen):
            out[j, k, : len(context)] = context
        bits.append(cost * rows / len(sample))
    return out, bits


def _chosen(sample: U8, above: U8, j: int, columns: int) -> tuple[list[Sequence[int]], float]:
    """The contexts of a column, as distances, and the bits of the cheapest."""
    symbols = sample[:, j].astype(np.int64)
    # By distance: how far before this code the other one stands.
    others = {j - i: sample[:, i].astype(np.int64) for i in range(max(0, j - FARTHEST), j)}
    others[columns] = above[:, j].astype(np.int64)
    if columns > 1:
        others[columns + 1 if j else 1] = above[:, j - 1].astype(np.int64)
    nothing = np.zeros(len(symbols), np.int64)
    alone = {distance: _cost(_paired(nothing, other), symbols) for distance, other in others.items()}
    near = sorted(alone, key=lambda distance: (alone[distance], distance))[:NEAREST]
    grown = [
        _grown(near[k : k + 1], others, symbols, near, depth) for k, depth in ((0, DEEPEST), (1, 2)) if k < len(near)
    ]
    first = _cost(nothing, symbols)
    learned = first / len(symbols) + 1
    best = min([first, *(_cost(key, symbols, learned) for chain in grown for _, key in chain)])
    return [(), *(context for context, _ in grown[0]), *(chain[-1][0] for chain in grown[1:])], best


def _grown(
    start: Sequence[int], others: dict[int, I64], symbols: I64, near: Sequence[int], depth: int
) -> list[tuple[tuple[int, ...], I64]]:
    """Contexts of one to `depth` others, each the one before and what goes best with it, and their numbers by row."""
    context = tuple(start)
    key = _paired(np.zeros(len(symbols), np.int64), others[context[0]])
    found = [(context, key)]
    while len(context) < min(depth, len(near)):
        keys = {distance: _paired(key, others[distance]) for distance in near if distance not in context}
        costs = {distance: _cost(one, symbols) for distance, one in keys.items()}
        best = min(costs, key=lambda distance: (costs[distance], distance))
        context, key = (*context, best), keys[best]
        found.append((context, key))
    return found


def _paired(key: I64, other: I64) -> I64:
    """One number for each pair, 0 .. as few as there are pairs."""
    joined = key * 256 + other
    most = int(joined.max()) + 1
    if most <= 1 << 18:
        names = np.cumsum(np.bincount(joined, minlength=most) > 0) - 1
        return np.asarray(names[joined], np.int64)
    return np.asarray(np.unique(joined, return_inverse=True)[1], np.int64)


def _cost(key: I64, symbols: I64, seen_bits: float = SEEN_BITS) -> float:
    """Bits of the symbols after these contexts: their entropy, and what it costs to learn it."""
    pairs = key * 256 + symbols
    most = int(pairs.max()) + 1
    counts = np.bincount(pairs) if most <= 1 << 20 else np.unique(pairs, return_counts=True)[1]
    counts = counts[counts > 0].astype(np.float64)
    totals = np.bincount(key).astype(np.float64)
    totals = totals[totals > 0]
    entropy = float((totals * np.log2(totals)).sum() - (counts * np.log2(counts)).sum())
    return entropy + seen_bits * len(counts)
