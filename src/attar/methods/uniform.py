"""Rate-distortion optimised uniform quantisation with error feedback: the base method.

Minimises `distortion + slope * bits` per layer (methods/base.py gives the distortion), with the entropy model that the
coder uses (attar/entropy.py) as the rate. The zero bin is the pruning. Steps follow the high-resolution optimum
delta = f sqrt(12 slope / (ln 2 s d2)) (Gish and Pierce 1968) with a row factor s^-1/2 and a column factor d2^-1/2
(reverse water-filling), both in quarter octaves, so that side information is small integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attar import entropy
from attar.methods import coupled, feedback, grid
from attar.methods.base import distortion, row_sensitivity
from attar.types import Array, Encoded, Json, Layer, Point, Stats, Weight

F32 = NDArray[np.float32]
RADIUS = 255
"""Codes up to this magnitude have a price of their own; there is no maximum code."""
SETTLED = 2
"""Sweeps after which prices hardly change where no weight makes up for another."""
FORBIDDEN = 1e30
"""A price that no squared error reaches."""


@dataclass(frozen=True)
class UniformParams:
    """What can be tuned; defaults are those that did best on the example models."""

    step: float = field(
        default=1.5,
        metadata={"help": "step over the high-resolution optimum", "low": 0.3, "high": 4.0, "tune": (0.8, 2.5)},
    )
    shrink: float = field(
        default=0.2, metadata={"help": "shrinkage of H to its diagonal at 2,000 samples", "low": 0.0, "high": 1.0}
    )
    sweeps: int = field(
        default=2, metadata={"help": "sweeps of coordinate descent", "low": 0, "high": 20, "tune": (1, 10)}
    )
    columns: bool = field(default=True, metadata={"help": "a step for each column"})


class Uniform:
    """Integer codes on a uniform grid; see the module's docstring."""

    name: ClassVar[str] = "uniform"
    CODES: ClassVar[str] = "codes"
    Params: ClassVar[type] = UniformParams

    @staticmethod
    def points(
        layer: Layer, weight: Weight, stats: Stats, slopes: Iterable[float], params: UniformParams | None = None
    ) -> Iterable[Point]:
        """One point for each slope; the second moment is factored once."""
        params = params or UniformParams()
        at = Uniform._at(layer, weight, stats, params)
        for slope in slopes:
            choice = {"method": Uniform.name, "slope": slope, **asdict(params)}
            encoded = at(slope)
            loss = distortion(layer, weight, Uniform.decode(encoded), stats)
            yield Point(rate_bits(encoded), loss, choice, encoded)

    @staticmethod
    def encode(layer: Layer, weight: Weight, stats: Stats, choice: Mapping[str, Json]) -> Encoded:
        """Codes, step exponents and bias codes for the slope in `choice`."""
        params = UniformParams(**{k: v for k, v in choice.items() if k not in ("method", "slope")})
        return Uniform._at(layer, weight, stats, params)(float(choice["slope"]))

    @staticmethod
    def _at(layer: Layer, weight: Weight, stats: Stats, params: UniformParams) -> Callable[[float], Encoded]:
        """What a layer becomes at a slope; what all slopes share is done."""
        if stats.hessian.ndim == 2 and stats.coupling is not None and params.columns:
            return lambda slope: _table(layer, weight, stats, slope, params)
        frame = grid.framed(layer, weight, stats, params.shrink, columns=params.columns)
        return lambda slope: Uniform._encoded(layer, weight, stats, slope, params, frame)

    @staticmethod
    def _encoded(
        layer: Layer, weight: Weight, stats: Stats, slope: float, params: UniformParams, frame: grid.Frame
    ) -> Encoded:
        step = grid.optimal_step(slope, params.step)
        problem = grid.posed(layer, weight, stats, step, frame, together=True)
        codes = grid.in_place(solve(problem, slope, params.sweeps), problem.order)
        return Encoded(Uniform.name, *pack(layer, weight, stats, codes, problem))

    @staticmethod
    def decode(encoded: Encoded) -> Weight:
        """W' = codes * step * 2 ** ((row + column exponent) / 4), and the bias likewise.

        Raises ValueError where shapes do not fit.
        """
        row, column, bias = Uniform.scales(encoded)
        return Weight(grid.scaled_back(encoded.arrays[Uniform.CODES], row, column), bias)

    @staticmethod
    def scales(encoded: Encoded) -> tuple[F32, F32, F32 | None]:
        """Row factors [rows], column factors [groups, cols or 1], and the bias [rows]; the codes are not looked at."""
        arrays = encoded.arrays
        row = grid.steps(arrays["rows"], float(encoded.meta["step"]))
        return row, grid.steps(arrays["cols"], 1.0), grid.bias_back(arrays.get("bias"), row)

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

    @staticmethod
    def rescaled(encoded: Encoded, factor: float) -> Encoded:
        """Every step, in which weights and bias are counted, times a factor."""
        step = float(np.float32(float(encoded.meta["step"]) * factor))
        return Encoded(Uniform.name, encoded.arrays, {**encoded.meta, "step": step})


def _table(layer: Layer, weight: Weight, stats: Stats, slope: float, params: UniformParams) -> Encoded:
    """An embedding whose rows are coupled: words do not meet, so that it is its transpose with G as second moment."""
    assert stats.coupling is not None
    root = np.sqrt(row_sensitivity(layer, stats))
    second = np.asarray(stats.coupling * root[:, None] * root, np.float64)
    frequency = stats.hessian[0] + 1e-3 * stats.hessian.mean() + 1e-12  # as grid.regularised has it
    turned = replace(layer, kind="dense", rows=layer.cols, cols=layer.rows)
    seen = Stats(second[None], np.zeros((1, layer.rows)), stats.count, stats.samples, frequency)
    words = Weight(np.ascontiguousarray(weight.matrix.T))
    problem = grid.pose(turned, words, seen, grid.optimal_step(slope, params.step), 0.0)
    codes = grid.in_place(solve(problem, slope, params.sweeps), problem.order)
    rows = np.broadcast_to(problem.column_exponent[0], layer.rows).copy()
    arrays: dict[str, Array] = {
        "codes": np.ascontiguousarray(codes.T),
        "rows": rows,
        "cols": problem.row_exponent[None],
    }
    return Encoded(Uniform.name, arrays, {"step": float(np.float32(problem.step))})


def solve(
    problem: grid.Problem, slope: float, sweeps: int = 2, zeros: NDArray[np.bool_] | None = None
) -> NDArray[np.int32]:
    """Codes [groups, cols, rows] in the order of quantisation: error feedback blind to the rate, then the sweeps.

    Each sweep has the prices of the entropy model of the codes before it. Feedback under prices before the sweeps ends
    1 to 2 % higher on convolutional networks, and 0.1 % lower on a transformer for more time. zeros, of that shape, are
    the places where only 0 may stand; what that costs is fed back like any other error.
    """
    codes = _fed_back(problem, None if zeros is None else held(free(problem.scaled), zeros))
    for _ in range(sweeps if problem.rows is not None else min(sweeps, SETTLED)):
        codes = _swept(problem, codes, held(rate_of(codes, slope), zeros))
    return codes


def _costs(problem: grid.Problem) -> F32:
    """What a squared error of one step costs at each place, with feedback."""
    return np.ascontiguousarray(problem.pivots[:, :, None] * problem.stiffness[:, None, :])


def _fed_back(problem: grid.Problem, rate: feedback.Rate | None) -> NDArray[np.int32]:
    """Codes column by column, what is lost in one made up for by the next."""
    if problem.rows is None:
        return feedback.independent(problem.scaled, _costs(problem), rate)
    if problem.coupling is not None:
        price = rate or free(problem.scaled)
        return coupled.quantise(problem.scaled, problem.rows, problem.pivots, price, problem.coupling)
    return feedback.quantise(problem.scaled, problem.rows, _costs(problem), rate)


def _swept(problem: grid.Problem, codes: NDArray[np.int32], rate: feedback.Rate) -> NDArray[np.int32]:
    """Codes after one sweep under a price."""
    if problem.rows is None:
        return feedback.independent(problem.scaled, _costs(problem), rate)
    if problem.coupling is not None:
        return coupled.descend(problem.scaled, codes, problem.hessian, rate, problem.coupling)
    return feedback.descend(problem.scaled, codes, problem.hessian, problem.stiffness, rate)


def rate_of(codes: NDArray[np.int32], slope: float) -> feedback.Rate:
    """The price of codes under the rank-1 classes and tables that these codes themselves would get."""
    flat = codes.transpose(0, 2, 1).reshape(-1, codes.shape[1])
    radius = int(min(RADIUS, np.abs(flat).max(initial=0) + 1))
    class_of = entropy.classes(*entropy.levels(flat))
    table = entropy.bits_table(flat, class_of, radius) * np.float32(slope)
    stacked = class_of.reshape(codes.shape[0], -1, codes.shape[1]).transpose(0, 2, 1)
    offset = stacked.astype(np.int32) * (2 * radius + 1) + radius
    return feedback.Rate(table.ravel(), np.ascontiguousarray(offset), radius, 2 * slope)


def free(scaled: F32) -> feedback.Rate:
    """A rate under which every code is for nothing."""
    return feedback.Rate(np.zeros(3, np.float32), np.ones(scaled.shape, np.int32), 1, 0.0)


def held(rate: feedback.Rate, zeros: NDArray[np.bool_] | None) -> feedback.Rate:
    """The rate with one more class, in which every code but 0 costs FORBIDDEN, at the places to be zero."""
    if zeros is None:
        return rate
    only_zero = np.full(2 * rate.radius + 1, FORBIDDEN, np.float32)
    only_zero[rate.radius] = 0
    offset = np.where(zeros, np.int32(rate.price.size + rate.radius), rate.offset)
    return replace(rate, price=np.concatenate([rate.price, only_zero]), offset=np.ascontiguousarray(offset, np.int32))


def pack(
    layer: Layer, weight: Weight, stats: Stats, codes: NDArray[np.int32], problem: grid.Problem
) -> tuple[dict[str, Array], dict[str, Json]]:
    """Arrays and meta: codes and exponents, and the bias with the mean's error made up for, on the row's own step."""
    meta: dict[str, Json] = {"step": float(np.float32(problem.step))}
    arrays: dict[str, Array] = {"codes": codes, "rows": problem.row_exponent, "cols": problem.column_exponent}
    if weight.bias is not None:
        encoded = Encoded(Uniform.name, arrays, meta)
        row_step = Uniform.scales(encoded)[0]
        arrays["bias"] = grid.bias_codes(layer, weight, stats, Uniform.decode(encoded).matrix, row_step)
    return arrays, meta


def rate_bits(encoded: Encoded) -> float:
    """The coded size by the entropy model: codes in their classes, the rest by the entropy of its histogram."""
    codes = encoded.arrays["codes"]
    row_level, column_level = entropy.levels(codes)
    class_of = entropy.classes(row_level, column_level)
    total = entropy.ideal_bits(codes, class_of)
    side = [encoded.arrays[name] for name in encoded.arrays if name != "codes"]
    return total + sum(entropy.ideal_bits(one, None) for one in [*side, row_level, column_level])
