"""One layer at one slope, large ones some rows at a time: what rounding holds beside a matrix is many times its size.

Rows are rounded one for one given the second moment, and the steps of columns depend on that alone: slices are put
together to what the whole would have been, but for the entropy model, which each slice estimates for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from attar.methods.uniform import Uniform
from attar.plan.planner import at_slope
from attar.recipe import methods_of
from attar.search.subject import Subject
from attar.streaming.base import Stream
from attar.types import Array, Encoded, Layer, Stats, Weight

SLICE = 1 << 23
"""Weights of a slice; a layer of twice as many is cut."""
FACTORED = 2
"""Weights of a slice at least, in second moments: factoring one is done again for each slice."""
METHODS = ("uniform", "keep")
"""What competes where a recipe says nothing: of a transformer looked at, factors of low rank were larger for every
matrix but the table of positions, and to see that takes a product as large as those of rounding."""
WHOLE = np.int32
"""Of codes that are whole again."""
Made = tuple[Encoded, float, float]
"""What is stored, its predicted bits, and its distortion in nats."""


def rounded(stream: Stream, layer: Layer, weight: Weight, stats: Stats, slope: float) -> Made:
    """What the recipe's methods make of a layer at a slope; of a large one, what the base method makes."""
    subject = subject_of(stream, layer, weight, stats)
    size = max(SLICE, FACTORED * layer.cols**2 if stats.hessian.ndim == 3 else 0)
    if layer.size < 2 * size or layer.groups > 1 or Uniform.name not in subject.allowed(layer)[0]:
        return _best(subject, layer, slope)
    made = []
    step = max(1, size // layer.cols)
    for start in range(0, layer.rows, step):
        part, few, seen = some(layer, weight, stats, np.arange(start, min(start + step, layer.rows)))
        one = replace(subject_of(stream, part, few, seen), methods=(Uniform.name,), rules=None)
        encoded, rate, loss = _best(one, part, slope)
        made.append((narrow(encoded), rate, loss))
    return _joined([encoded for encoded, _, _ in made]), sum(m[1] for m in made), sum(m[2] for m in made)


def rates_of(stream: Stream, layer: Layer, weight: Weight, stats: Stats, slopes: Sequence[float]) -> list[float]:
    """Predicted bits of a layer at each slope, as `rounded` tells them of one that it need not cut."""
    offered = {layer.name: subject_of(stream, layer, weight, stats).points(layer, *slopes)}
    return [at_slope(offered, slope).rate_bits for slope in slopes]


def some(layer: Layer, weight: Weight, stats: Stats, rows: Array) -> tuple[Layer, Weight, Stats]:
    """A layer of some of the rows."""
    bias = None if weight.bias is None else weight.bias[rows]
    known = None if stats.sensitivity is None else stats.sensitivity[rows]
    few = replace(layer, rows=len(rows), shape=(len(rows), layer.cols))
    return few, Weight(np.ascontiguousarray(weight.matrix[rows]), bias), replace(stats, sensitivity=known)


def subject_of(stream: Stream, layer: Layer, weight: Weight, stats: Stats) -> Subject:
    """One layer as the methods of the recipe see it."""
    recipe = stream.job.recipe
    return Subject(
        stream.job.adapter, [layer], {layer.name: weight}, {layer.name: stats}, {}, None, {},
        tuple(methods_of(recipe, METHODS)), recipe.settings, coder=recipe.coder, exclude=tuple(recipe.exclude),
        rules=recipe.layers,
    )  # fmt: skip


def _best(subject: Subject, layer: Layer, slope: float) -> Made:
    """The offer of least distortion + slope * bits."""
    plan = at_slope({layer.name: subject.points(layer, slope)}, slope)
    point = plan.choices[layer.name]
    return subject.encoded(plan, layer), point.rate_bits, point.distortion


def narrow(encoded: Encoded) -> Encoded:
    """With codes of as few bytes as they need, while they wait for other slices."""
    codes = encoded.arrays[Uniform.CODES]
    kind = np.min_scalar_type(min(int(codes.min(initial=0)), -1 - int(codes.max(initial=0))))
    return replace(encoded, arrays={**encoded.arrays, Uniform.CODES: codes.astype(kind, copy=False)})


def _joined(slices: Sequence[Encoded]) -> Encoded:
    """Slices of rows, which have their columns' steps in common."""
    first = slices[0]
    joint: dict[str, Array] = {}
    for name in first.arrays:
        if name == "cols":
            assert all(np.array_equal(one.arrays[name], first.arrays[name]) for one in slices)
            joint[name] = first.arrays[name]
        else:
            joint[name] = np.concatenate(
                [one.arrays[name] for one in slices], dtype=WHOLE if name == Uniform.CODES else None
            )
    return Encoded(first.method, joint, first.meta)
