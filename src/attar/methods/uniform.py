"""Rate-distortion optimised uniform quantisation with error feedback: the base method.

Minimises `distortion + slope * bits` per layer (methods/base.py gives the distortion), with the entropy model that the
coder uses (attar/entropy.py) as the rate. The zero bin is the pruning. Steps follow the high-resolution optimum
delta = f sqrt(12 slope / (ln 2 s d2)) (Gish and Pierce 1968) with a row factor s^-1/2 and a column factor d2^-1/2
(reverse water-filling), both in quarter octaves, so that side information is small integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attar import entropy
from attar.methods import feedback
from attar.methods.base import distortion, row_sensitivity
from attar.types import Array, Encoded, Json, Layer, Point, Stats, Weight

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
OCTAVE = 4
"""Step exponents are counted in 1/OCTAVE octaves."""
FEW_ROWS = 4
"""Rows of a group from which on columns get steps of their own."""
LOWEST_STEP = 2.0**-8
"""Smallest row or column factor, relative to the largest: a step for what hardly matters need not grow without end."""
RADIUS = 255
"""Codes up to this magnitude have a price of their own; there is no maximum code."""


@dataclass(frozen=True)
class UniformParams:
    """What can be tuned; defaults are those that did best on the example models."""

    step: float = field(
        default=1.5, metadata={"help": "step over the high-resolution optimum", "low": 0.3, "high": 4.0}
    )
    shrink: float = field(
        default=0.2, metadata={"help": "shrinkage of H to its diagonal at 2,000 samples", "low": 0.0, "high": 1.0}
    )
    passes: int = field(default=3, metadata={"help": "estimates of the entropy model", "low": 1, "high": 10})
    sweeps: int = field(default=2, metadata={"help": "sweeps of coordinate descent", "low": 0, "high": 10})
    columns: bool = field(default=True, metadata={"help": "a step for each column"})


@dataclass(frozen=True)
class Problem:
    """A layer in units of its steps, columns in the order of quantisation; layout as in feedback.py.

    order [groups, cols]; exponents [rows] and [groups, cols or 1], in the layer's own order; scaled
    [groups, cols, rows]; hessian [groups, cols, cols] or its diagonal [groups, cols]; stiffness [groups, rows];
    pivots [groups, cols]: R_jj^2.
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


class Uniform:
    """Integer codes on a uniform grid; see the module's docstring."""

    name: ClassVar[str] = "uniform"
    CODES: ClassVar[str] = "codes"
    Params: ClassVar[type] = UniformParams

    @staticmethod
    def points(
        layer: Layer, weight: Weight, stats: Stats, slopes: Iterable[float], params: UniformParams | None = None
    ) -> Iterable[Point]:
        """One point for each slope."""
        params = params or UniformParams()
        for slope in slopes:
            choice = {"method": Uniform.name, "slope": slope, **asdict(params)}
            encoded = Uniform.encode(layer, weight, stats, choice)
            loss = distortion(layer, weight, Uniform.decode(encoded), stats)
            yield Point(rate_bits(encoded), loss, choice, encoded)

    @staticmethod
    def encode(layer: Layer, weight: Weight, stats: Stats, choice: Mapping[str, Json]) -> Encoded:
        """Codes, step exponents and bias codes for the slope in `choice`."""
        params = UniformParams(**{k: v for k, v in choice.items() if k not in ("method", "slope")})
        slope = float(choice["slope"])
        problem = _pose(layer, weight, stats, slope, params)
        ordered = _solve(problem, slope, params)
        codes = np.empty_like(ordered)
        np.put_along_axis(codes, problem.order[:, :, None], ordered, axis=1)
        codes = codes.transpose(0, 2, 1).reshape(layer.rows, layer.cols)
        return _pack(layer, weight, stats, codes, problem)

    @staticmethod
    def decode(encoded: Encoded) -> Weight:
        """W' = codes * step * 2 ** ((row + column exponent) / 4), and the bias likewise."""
        codes = encoded.arrays[Uniform.CODES]
        row, column, bias = Uniform.scales(encoded)
        stacked = codes.astype(np.float32).reshape(len(column), -1, codes.shape[1]) * column[:, None]
        return Weight(np.asarray(stacked.reshape(codes.shape) * row[:, None], np.float32), bias)

    @staticmethod
    def scales(encoded: Encoded) -> tuple[F32, F32, F32 | None]:
        """Row factors [rows], column factors [groups, cols or 1], and the bias [rows]; the codes are not looked at."""
        arrays = encoded.arrays
        row = _steps(arrays["rows"], float(encoded.meta["step"]))
        bias = arrays["bias"].astype(np.float32) * row if "bias" in arrays else None
        return row, _steps(arrays["cols"], 1.0), bias

    @staticmethod
    def units(encoded: Encoded) -> tuple[F32, F32]:
        """Each weight's step [rows, cols] and each row's own [rows], in which the bias is counted."""
        row, column, _ = Uniform.scales(encoded)
        stacked = row.reshape(len(column), -1, 1) * column[:, None]
        return np.asarray(
            np.broadcast_to(stacked, (*stacked.shape[:2], encoded.arrays["codes"].shape[1])).reshape(
                encoded.arrays["codes"].shape
            ),
            np.float32,
        ), row

    @staticmethod
    def retold(encoded: Encoded, values: F32, bias: F32 | None) -> Encoded:
        """The nearest codes on the same steps."""
        arrays = {**encoded.arrays, "codes": np.rint(values).astype(np.int32)}
        if bias is not None:
            arrays["bias"] = np.rint(bias).astype(np.int32)
        return Encoded(Uniform.name, arrays, encoded.meta)


def _steps(exponents: Array, step: float) -> F32:
    """step * 2 ** (exponents / OCTAVE): a table and ldexp, so that every machine gives the same float32."""
    fraction = np.array([2.0 ** (k / OCTAVE) for k in range(OCTAVE)], np.float32)
    whole, part = np.divmod(exponents.astype(np.int32), OCTAVE)
    return np.asarray(np.ldexp(np.float32(step) * fraction[part], whole), np.float32)


def _exponents(factor: F64, low: float) -> NDArray[np.int16]:
    """factor in units of 1/OCTAVE octaves, factors below low (relative to the largest) held there."""
    held = np.maximum(factor, max(float(factor.max(initial=0.0)), 1e-30) * low)
    return np.asarray(np.rint(OCTAVE * np.log2(held)), np.int16)


def _regularised(layer: Layer, weight: Weight, stats: Stats, shrink: float) -> F64:
    """The Hessian to solve with: shrunk to its diagonal the more the fewer the samples; dead inputs get a pivot.

    Without a bias the mean cannot be made up for, so that it counts as a part of the second moment.
    """
    hessian = stats.hessian
    if hessian.ndim == 2:
        floor = 1e-3 * hessian.mean(1, keepdims=True) + 1e-12
        return np.asarray(hessian + floor)
    if weight.bias is None:
        hessian = hessian + stats.mean[:, :, None] * stats.mean[:, None, :]
    diagonal = np.diagonal(hessian, axis1=1, axis2=2)
    keep = 1 - min(0.95, shrink * float(np.sqrt(2000 / max(stats.samples, 1))))
    index = np.arange(layer.cols)
    result = keep * hessian
    result[:, index, index] = diagonal + 1e-3 * diagonal.mean(1, keepdims=True) + 1e-12
    return np.asarray(result)


def _pose(layer: Layer, weight: Weight, stats: Stats, slope: float, params: UniformParams) -> Problem:
    """Choose the order and the steps, and scale everything by them."""
    hessian = _regularised(layer, weight, stats, params.shrink)
    order = np.argsort(-_diagonal(hessian), axis=1, kind="stable")
    if hessian.ndim == 2:
        hessian, rows = np.take_along_axis(hessian, order, 1), None
        pivots = hessian
    else:
        hessian = np.take_along_axis(np.take_along_axis(hessian, order[:, :, None], 1), order[:, None, :], 2)
        factor = feedback.upper_factor(hessian)
        rows = feedback.feedback_rows(factor)
        pivots = np.square(np.diagonal(factor, axis1=1, axis2=2))
    step = params.step * float(np.sqrt(12 * slope / np.log(2)))
    column_exponent = _column_exponents(layer, pivots, params)
    row_exponent = -_exponents(np.sqrt(row_sensitivity(layer, stats)), LOWEST_STEP)
    row_exponent = np.minimum(row_exponent, _longest(weight, step, column_exponent))
    row_step = _steps(row_exponent, step).reshape(layer.groups, -1)
    column_step = np.broadcast_to(_steps(column_exponent, 1.0), pivots.shape)
    scaled = weight.matrix.reshape(layer.groups, -1, layer.cols).transpose(0, 2, 1)
    scaled = np.take_along_axis(scaled, order[:, :, None], 1) / (column_step[:, :, None] * row_step[:, None, :])
    if weight.bias is not None:
        scaled[np.take_along_axis(_diagonal(stats.hessian), order, 1) <= 0] = 0
    if rows is None:
        hessian = hessian * np.square(column_step)
    else:
        hessian = hessian * column_step[:, :, None] * column_step[:, None, :]
        rows = np.ascontiguousarray(rows * column_step[:, :, None] / column_step[:, None, :], np.float32)
    stiffness = 0.5 * row_sensitivity(layer, stats).reshape(layer.groups, -1) * np.square(row_step)
    own = column_exponent
    if own.shape == order.shape:
        own = np.empty_like(column_exponent)
        np.put_along_axis(own, order, column_exponent, axis=1)
    return Problem(
        order, row_exponent, own, step, np.ascontiguousarray(scaled), np.ascontiguousarray(hessian, np.float32), rows,
        stiffness.astype(np.float32), (pivots * np.square(column_step)).astype(np.float32),
    )  # fmt: skip


def _longest(weight: Weight, step: float, column_exponent: NDArray[np.int16]) -> np.int16:
    """The exponent of a row's step above which nothing is left of any weight: larger ones would end in infinity."""
    largest = max(float(np.abs(weight.matrix).max(initial=0)), float(np.finfo(np.float32).tiny))
    lowest = int(column_exponent.min(initial=0))
    octaves = float(np.log2(largest / step)) - lowest / OCTAVE
    return np.int16(np.clip(np.ceil(OCTAVE * (octaves + 8)), -20000, 20000))


def _diagonal(hessian: F64) -> F64:
    """[groups, cols] of a full or a diagonal Hessian."""
    return hessian if hessian.ndim == 2 else np.diagonal(hessian, axis1=1, axis2=2)


def _column_exponents(layer: Layer, pivots: F64, params: UniformParams) -> NDArray[np.int16]:
    """[groups, cols] in the order of the pivots, or [groups, 1] where one step for a group is cheaper.

    Where a group has few rows (depthwise), an exponent for every column would cost more than it saves.
    """
    if params.columns and layer.rows // layer.groups >= FEW_ROWS:
        return -_exponents(np.sqrt(pivots), LOWEST_STEP)
    return -_exponents(np.exp(0.5 * np.log(pivots).mean(1, keepdims=True)), LOWEST_STEP)


def _solve(problem: Problem, slope: float, params: UniformParams) -> NDArray[np.int32]:
    """Codes [groups, cols, rows] in the order of quantisation; the entropy model is estimated from the last codes."""
    costs = np.ascontiguousarray(problem.pivots[:, :, None] * problem.stiffness[:, None, :])

    def once(rate: feedback.Rate | None) -> NDArray[np.int32]:
        if problem.rows is None:
            return feedback.independent(problem.scaled, costs, rate)
        return feedback.quantise(problem.scaled, problem.rows, costs, rate)

    codes = once(None)
    rate = _rate(codes, slope)
    for _ in range(params.passes - 1):
        codes = once(rate)
        rate = _rate(codes, slope)
    if problem.rows is None:
        return codes
    for _ in range(params.sweeps):
        codes = feedback.descend(problem.scaled, codes, problem.hessian, problem.stiffness, rate)
        rate = _rate(codes, slope)
    return codes


def _rate(codes: NDArray[np.int32], slope: float) -> feedback.Rate:
    """The price of codes under the rank-1 classes and tables that these codes themselves would get."""
    flat = codes.transpose(0, 2, 1).reshape(-1, codes.shape[1])
    radius = int(min(RADIUS, np.abs(flat).max(initial=0) + 1))
    class_of = entropy.classes(*entropy.levels(flat))
    table = entropy.bits_table(flat, class_of, radius) * np.float32(slope)
    stacked = class_of.reshape(codes.shape[0], -1, codes.shape[1]).transpose(0, 2, 1)
    offset = stacked.astype(np.int32) * (2 * radius + 1) + radius
    return feedback.Rate(table.ravel(), np.ascontiguousarray(offset), radius, 2 * slope)


def _pack(layer: Layer, weight: Weight, stats: Stats, codes: NDArray[np.int32], problem: Problem) -> Encoded:
    """Codes and exponents, and the bias with the mean's error made up for, on the row's own step."""
    step = float(np.float32(problem.step))
    arrays: dict[str, Array] = {"codes": codes, "rows": problem.row_exponent, "cols": problem.column_exponent}
    encoded = Encoded(Uniform.name, arrays, {"step": step})
    if weight.bias is None:
        return encoded
    error = (weight.matrix - Uniform.decode(encoded).matrix).reshape(layer.groups, -1, layer.cols)
    target = weight.bias + np.einsum("grc,gc->gr", error, stats.mean).ravel()
    arrays["bias"] = np.rint(target / _steps(problem.row_exponent, step)).astype(np.int32)
    return encoded


def rate_bits(encoded: Encoded) -> float:
    """The coded size by the entropy model: codes in their classes, the rest by the entropy of its histogram."""
    codes = encoded.arrays["codes"]
    row_level, column_level = entropy.levels(codes)
    class_of = entropy.classes(row_level, column_level)
    total = entropy.ideal_bits(codes, class_of)
    side = [encoded.arrays[name] for name in encoded.arrays if name != "codes"]
    return total + sum(entropy.ideal_bits(one, None) for one in [*side, row_level, column_level])
