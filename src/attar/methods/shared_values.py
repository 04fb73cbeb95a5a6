"""Values that many weights share: k-means on a line, and the least squares for all of them at once.

Sources: Lloyd 1982; Chou, Lookabaugh and Gray 1989 (the price of a symbol in the assignment); Hestenes and Stiefel 1952
(conjugate gradients).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attar.methods.grid import F32, F64, Problem

BINS = 2048
"""Bins of the histogram that k-means looks at."""


def kmeans(samples: F32, weights: F32, size: int, price: float = 0.0, *, zero: bool = False) -> F64:
    """Values [size or fewer], ascending, of least weights * error^2 + price * bits over the samples, of any shape.

    Lloyd's iteration over a histogram whose bins hold equally many samples, from evenly spaced values; price 0 is plain
    k-means. With zero, the value nearest to zero is zero.
    """
    mass, count, mean = _histogram(samples, weights)
    values = np.linspace(mean[0], mean[-1], size) if mean[0] < mean[-1] and size > 1 else mean[:1].copy()
    pinned = int(np.argmin(np.abs(values))) if zero else -1
    bits = np.zeros(values.size)
    for _ in range(50):
        if zero:
            values[pinned] = 0
        cost = mass[:, None] * np.square(mean[:, None] - values) + price * count[:, None] * bits
        nearest = np.argmin(cost, axis=1)
        weight = np.bincount(nearest, mass, values.size)
        moved = np.bincount(nearest, mass * mean, values.size) / np.maximum(weight, 1e-300)
        keep = (weight > 0) | (np.arange(values.size) == pinned)
        share = np.bincount(nearest, count, values.size) + 0.5
        values, bits = np.where(weight > 0, moved, values)[keep], -np.log2(share / share.sum())[keep]
        pinned = int(keep[:pinned].sum()) if zero else -1
    if zero:
        values[pinned] = 0
    return np.sort(values)


def _histogram(samples: F32, weights: F32) -> tuple[F64, F64, F64]:
    """Weight, number and weighted mean of the samples in each of at most BINS bins, ascending."""
    order = np.argsort(samples, axis=None, kind="stable")
    x, w = samples.ravel()[order].astype(np.float64), weights.ravel()[order].astype(np.float64)
    w = w + 1e-12 * w.max() + 1e-300
    edges = np.unique(np.linspace(0, x.size, BINS + 1).astype(np.int64))[:-1]
    mass, count = np.add.reduceat(w, edges), np.diff(np.append(edges, x.size)).astype(np.float64)
    return mass, count, np.add.reduceat(w * x, edges) / mass


def weighed(problem: Problem, values: F32) -> F32:
    """Half the gradient of the distortion at an error of `values` [groups, cols, rows], in units of the steps."""
    product = problem.hessian[:, :, None] * values if problem.rows is None else problem.hessian @ values
    return np.asarray(problem.stiffness[:, None, :] * product)


def least_squares(
    problem: Problem, values: F64, index: NDArray[np.int64], *, sign: F32 | None = None, pinned: int = -1,
    steps: int = 20,
) -> F64:  # fmt: skip
    """Shared values of least distortion, by conjugate gradients from the given ones; never worse than these.

    Weight [groups, cols, rows] is sign * values[index]; the pinned value stays.
    """
    sign = np.ones(index.shape, np.float32) if sign is None else sign
    flat, free = index.ravel(), np.arange(values.size) != pinned

    def gathered(array: F32) -> F64:
        return np.asarray(np.bincount(flat, (sign * array).ravel(), values.size) * free)

    def spread(shared: F64) -> F32:
        return np.asarray(sign * shared.astype(np.float32)[index])

    variance = problem.hessian if problem.rows is None else np.diagonal(problem.hessian, axis1=1, axis2=2)
    curve = np.bincount(flat, (variance[:, :, None] * problem.stiffness[:, None, :]).ravel(), values.size)
    curve = np.maximum(curve, 1e-6 * curve.max() + 1e-300)
    residual = gathered(weighed(problem, problem.scaled - spread(values)))
    direction = residual / curve
    size = float(residual @ direction)
    for _ in range(min(steps, values.size)):
        image = gathered(weighed(problem, spread(direction)))
        bend = float(direction @ image)
        if not (size > 0 and bend > 0):
            break
        values = values + size / bend * direction
        residual = residual - size / bend * image
        turned = residual / curve
        size, before = float(residual @ turned), size
        direction = turned + size / before * direction
    return values


def compact(values: F32) -> NDArray[np.float16 | np.float32]:
    """As float16 where none is beyond it: half a thousandth off is nothing beside what sharing costs."""
    fits = float(np.abs(values).max(initial=0)) < float(np.finfo(np.float16).max)
    return np.asarray(values.astype(np.float16)) if fits else values
