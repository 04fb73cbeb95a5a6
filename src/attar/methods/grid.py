"""A layer in units of its steps: what every method that rounds to a grid shares.

Steps are `step * 2 ** ((row + column exponent) / OCTAVE)`: a row factor s^-1/2 and a column factor d2^-1/2 (reverse
water-filling) in whole quarter octaves, so that side information is small integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.methods import coupled, feedback
from attar.methods.base import row_sensitivity
from attar.types import Array, Layer, Stats, Weight

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
OCTAVE = 4
"""Step exponents are counted in 1/OCTAVE octaves."""
ALIKE = 8
"""Positions of an example that tell as much of a dense layer's inputs as another example does."""
FEW_ROWS = 4
"""Rows of a group from which on columns get steps of their own."""
BIAS_SPAN = 2.0**-20
"""Least reach of a row's steps, relative to the largest bias: bias codes are 32 bits wide."""
MOST_EXPONENT = 20000
"""Of a step, in quarters of an octave: it is stored in 16 bits."""
LOWEST_STEP, LOWEST_ROW = 2.0**-8, 2.0**-12
"""Smallest column and row factors, relative to the largest: a step for what hardly matters need not grow without end.
Rows may be the words of a vocabulary, of which most hardly ever come next."""


@dataclass(frozen=True)
class Problem:
    """A layer in units of its steps, columns in the order of quantisation; layout as in feedback.py.

    order [groups, cols]; exponents [rows] and [groups, cols or 1], in the layer's own order; scaled
    [groups, cols, rows]; hessian [groups, cols, cols] or its diagonal [groups, cols]; stiffness [groups, rows];
    pivots [groups, cols]: R_jj^2. coupling: how rows go together, in units of the steps, halved like the stiffness.
    """

    order: NDArray[np.int64]
    row_exponent: NDArray[np.int16]
    column_exponent: NDArray[np.int16]
    step: float
    scaled: F32
    hessian: F32
    rows: F32 | None
    stiffness: F32
    pivots: F32
    coupling: coupled.Rows | None = None

    def steps(self) -> F32:
        """Every weight's step [groups, cols, rows], in the order of quantisation."""
        row = steps(self.row_exponent, self.step).reshape(len(self.order), 1, -1)
        column = np.broadcast_to(steps(self.column_exponent, 1.0), self.order.shape)
        return np.asarray(np.take_along_axis(column, self.order, 1)[:, :, None] * row)


def steps(exponents: Array, step: float) -> F32:
    """step * 2 ** (exponents / OCTAVE): a table and ldexp, so that every machine gives the same float32."""
    fraction = np.array([2.0 ** (k / OCTAVE) for k in range(OCTAVE)], np.float32)
    whole, part = np.divmod(exponents.astype(np.int32), OCTAVE)
    return np.asarray(np.ldexp(np.float32(step) * fraction[part], whole), np.float32)


def exponents(factor: F64, low: float) -> NDArray[np.int16]:
    """factor in units of 1/OCTAVE octaves, factors below low (relative to the largest) held there."""
    held = np.maximum(factor, max(float(factor.max(initial=0.0)), 1e-30) * low)
    return np.asarray(np.rint(OCTAVE * np.log2(held)), np.int16)


def regularised(layer: Layer, weight: Weight, stats: Stats, shrink: float) -> F64:
    """The Hessian to solve with: shrunk to its diagonal the more the fewer the samples; dead inputs get a pivot.

    Without a bias the mean cannot be made up for, so that it counts as a part of the second moment.
    """
    hessian = stats.hessian
    if hessian.ndim == 2:
        floor = 1e-3 * hessian.mean(1, keepdims=True) + 1e-12
        return np.asarray(hessian + floor)
    if weight.bias is None:  # thousands of columns: every matrix of that size counts
        hessian = stats.mean[:, :, None] * stats.mean[:, None, :]
        hessian += stats.hessian
    variance = np.diagonal(hessian, axis1=1, axis2=2).copy()
    # Words of one text are less alike than the patches of one image.
    samples = max(stats.samples, stats.count / ALIKE if layer.kind == "dense" else 0, 1)
    keep = 1 - min(0.95, shrink * float(np.sqrt(2000 / samples)))
    index = np.arange(layer.cols)
    result = keep * hessian if hessian is stats.hessian else np.multiply(keep, hessian, out=hessian)
    result[:, index, index] = variance + 1e-3 * variance.mean(1, keepdims=True) + 1e-12
    return np.asarray(result)


@dataclass(frozen=True)
class Ordered:
    """A Hessian in the order of quantisation: order and pivots R_jj^2 [groups, cols], feedback rows (None: diagonal).

    hessian and factor R [groups, cols, cols]; both are [groups, cols] where the Hessian is diagonal.
    """

    order: NDArray[np.int64]
    hessian: F64
    factor: F64
    rows: F32 | None
    pivots: F64


def ordered(hessian: F64, order: NDArray[np.int64] | None = None) -> Ordered:
    """The Hessian with its factor, by falling diagonal where no order [groups, cols] is given."""
    order, hessian = arranged(hessian, order)
    if hessian.ndim == 2:
        return Ordered(order, hessian, np.sqrt(hessian), None, hessian)
    factor = feedback.upper_factor(hessian)
    return Ordered(order, hessian, factor, feedback.feedback_rows(factor), np.square(diagonal(factor)))


def arranged(hessian: F64, order: NDArray[np.int64] | None) -> tuple[NDArray[np.int64], F64]:
    """The order, by falling diagonal where none is given, and the Hessian in it, anew."""
    if order is None:
        order = np.argsort(-diagonal(hessian), axis=1, kind="stable")
    if hessian.ndim == 2:
        return order, np.take_along_axis(hessian, order, 1)
    return order, hessian[np.arange(len(order))[:, None, None], order[:, :, None], order[:, None, :]]


def optimal_step(slope: float, factor: float) -> float:
    """The high-resolution optimum for a weight of unit stiffness (Gish and Pierce 1968), times a factor."""
    return factor * float(np.sqrt(12 * slope / np.log(2)))


@dataclass(frozen=True)
class Frame:
    """What a layer's problems have in common whatever the step: columns in order and in units of their own steps.

    order [groups, cols]; exponent [groups, cols or 1] in that order; hessian, rows and pivots as a Problem has them,
    but for the pivots' being float64 and without the columns' steps.
    """

    order: NDArray[np.int64]
    exponent: NDArray[np.int16]
    hessian: F32
    rows: F32 | None
    pivots: F64


def framed(
    layer: Layer, weight: Weight, stats: Stats, shrink: float, *,
    columns: bool = True, order: NDArray[np.int64] | None = None,
) -> Frame:  # fmt: skip
    """Choose the order (by falling diagonal where none is given) and the columns' steps, and scale by them.

    Of thousands of columns, four matrices in float64 are held at once, the caller's among them.
    """
    order, hessian = arranged(regularised(layer, weight, stats, shrink), order)
    factor = None if hessian.ndim == 2 else feedback.upper_factor(hessian)
    pivots = hessian if factor is None else np.square(diagonal(factor))
    exponent = _column_exponents(layer, pivots, columns)
    column_step = np.broadcast_to(steps(exponent, 1.0), pivots.shape)
    if factor is None:
        return Frame(order, exponent, np.asarray(hessian * np.square(column_step), np.float32), None, pivots)
    hessian *= column_step[:, :, None]
    hessian *= column_step[:, None, :]
    scaled = np.ascontiguousarray(hessian, np.float32)
    del hessian
    rows = feedback.feedback_rows(factor)
    rows *= column_step[:, :, None]
    rows /= column_step[:, None, :]
    return Frame(order, exponent, scaled, rows, pivots)


def pose(
    layer: Layer, weight: Weight, stats: Stats, step: float, shrink: float, *,
    columns: bool = True, order: NDArray[np.int64] | None = None,
) -> Problem:  # fmt: skip
    """Choose the order (by falling diagonal where none is given) and the steps, and scale everything by them."""
    return posed(layer, weight, stats, step, framed(layer, weight, stats, shrink, columns=columns, order=order))


def posed(layer: Layer, weight: Weight, stats: Stats, step: float, h: Frame, *, together: bool = False) -> Problem:
    """The problem at a step; the frame is left as it is, and serves other steps.

    together: whether rows are to make up for one another where a coupling of them was measured.
    """
    column_exponent = h.exponent
    sensitivity, rows_together = row_sensitivity(layer, stats), None
    if together and stats.coupling is not None:
        rows_together = coupled.rows_of(stats.coupling, sensitivity)
    told = sensitivity if rows_together is None else rows_together.pivots
    row_exponent = -exponents(np.sqrt(told), LOWEST_ROW)
    row_exponent = np.minimum(row_exponent, _longest(weight, step, column_exponent))
    row_step = steps(row_exponent, step).reshape(layer.groups, -1)
    column_step = np.broadcast_to(steps(column_exponent, 1.0), h.pivots.shape)
    scaled = np.take_along_axis(stacked(layer, weight.matrix), h.order[:, :, None], 1)
    scaled = scaled / (column_step[:, :, None] * row_step[:, None, :])
    if weight.bias is not None:
        scaled[np.take_along_axis(diagonal(stats.hessian), h.order, 1) <= 0] = 0
    stiffness = 0.5 * sensitivity.reshape(layer.groups, -1) * np.square(row_step)
    own = column_exponent
    if own.shape == h.order.shape:
        own = np.empty_like(column_exponent)
        np.put_along_axis(own, h.order, column_exponent, axis=1)
    return Problem(
        h.order, row_exponent, own, step, np.ascontiguousarray(scaled), h.hessian, h.rows,
        stiffness.astype(np.float32), (h.pivots * np.square(column_step)).astype(np.float32),
        None if rows_together is None else rows_together.scaled(row_step[0] * np.float32(np.sqrt(0.5))),
    )  # fmt: skip


def stacked(layer: Layer, matrix: Array) -> Array:
    """[rows, cols] as [groups, cols, rows of a group]."""
    return matrix.reshape(layer.groups, -1, layer.cols).transpose(0, 2, 1)


def in_place(ordered_columns: Array, order: NDArray[np.int64]) -> Array:
    """[groups, cols, rows] in the order of quantisation as [rows of all groups, cols] in the layer's own order."""
    result = np.empty_like(ordered_columns)
    np.put_along_axis(result, order[:, :, None], ordered_columns, axis=1)
    groups, cols, rows = result.shape
    return np.ascontiguousarray(result.transpose(0, 2, 1).reshape(groups * rows, cols))


def scaled_back(units: Array, row: F32, column: F32) -> F32:
    """units [rows, cols] * column [groups, cols or 1] * row [rows], as float32, one array of this size beside them.

    Raises ValueError where shapes do not fit.
    """
    if (
        units.ndim != 2
        or row.shape != units.shape[:1]
        or column.ndim != 2
        or column.shape[1] not in (1, units.shape[1])
    ):
        raise ValueError(f"steps of {row.shape} and {column.shape} for {units.shape}")
    grouped = units.reshape(len(column), -1, units.shape[1])
    made = np.multiply(grouped, column[:, None], dtype=np.float32, casting="unsafe").reshape(units.shape)
    made *= row[:, None]
    return made


def bias_codes(layer: Layer, weight: Weight, stats: Stats, decoded: F32, row_step: F32) -> NDArray[np.int32]:
    """The bias with the mean's error made up for, in units of each row's step; the weight must have a bias."""
    assert weight.bias is not None
    error = (weight.matrix - decoded).reshape(layer.groups, -1, layer.cols)
    target = weight.bias + np.einsum("grc,gc->gr", error, stats.mean).ravel()
    return np.asarray(np.rint(target / row_step), np.int32)


def _longest(weight: Weight, step: float, column_exponent: NDArray[np.int16]) -> np.int16:
    """The exponent of a row's step above which nothing is left of any weight: larger ones would end in infinity.

    Where weights are nothing beside the bias, one at which the bias is no huge number; for zeros alone no bound.
    """
    largest = float(np.abs(weight.matrix).max(initial=0))
    if weight.bias is not None:
        largest = max(largest, BIAS_SPAN * float(np.abs(weight.bias).max(initial=0)))
    if not largest:
        return np.int16(MOST_EXPONENT)
    largest = max(largest, float(np.finfo(np.float32).tiny))
    lowest = int(column_exponent.min(initial=0))
    octaves = float(np.log2(largest / step)) - lowest / OCTAVE
    return np.int16(np.clip(np.ceil(OCTAVE * (octaves + 8)), -MOST_EXPONENT, MOST_EXPONENT))


def diagonal(hessian: F64) -> F64:
    """[groups, cols] of a full or a diagonal Hessian."""
    return hessian if hessian.ndim == 2 else np.diagonal(hessian, axis1=1, axis2=2)


def _column_exponents(layer: Layer, pivots: F64, columns: bool) -> NDArray[np.int16]:
    """[groups, cols] in the order of the pivots, or [groups, 1] where one step for a group is cheaper.

    Where a group has few rows (depthwise), an exponent for every column would cost more than it saves.
    """
    if columns and layer.rows // layer.groups >= FEW_ROWS:
        return -exponents(np.sqrt(pivots), LOWEST_STEP)
    return -exponents(np.exp(0.5 * np.log(pivots).mean(1, keepdims=True)), LOWEST_STEP)


def bias_back(codes: Array | None, row_step: F32) -> F32 | None:
    """codes [rows] * row_step [rows], None where there are none; raises ValueError where shapes do not fit."""
    if codes is None:
        return None
    if codes.shape != row_step.shape:
        raise ValueError(f"a bias of {codes.shape} for {row_step.shape}")
    return np.asarray(codes.astype(np.float32) * row_step)
