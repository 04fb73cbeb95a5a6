"""Fixed-rate integers, as runtimes execute them: 8, 4, 3 or 2 bits, symmetric, a scale for each row or part of a row.

Sources: ranges in ranges.py; rounding to nearest; with error feedback (GPTQ, Frantar et al. 2023); up or down chosen on
e H e^T (AdaRound, Nagel et al. 2020, equation 20, here by coordinate descent and not by gradients); coordinate descent
over all codes from those of GPTQ ("descent"); column scales before rounding (AWQ, Lin et al. 2024, section 3.2), undone
in decode. The rate is that of the entropy-coded codes; `runtime_bits` in the choice is the packed size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attar.methods import grid
from attar.methods.base import made, row_sensitivity
from attar.methods.columns import fed_back, swept
from attar.methods.grid import F32, F64
from attar.methods.ranges import RANGES, reach
from attar.methods.rates import coded_bits
from attar.types import Array, Encoded, Json, Layer, Point, Stats, Weight

BITS = (2, 3, 4, 8)
ROUNDINGS = ("descent", "adaround", "gptq", "nearest")
ALPHAS = (0.0, 0.25, 0.5, 0.75)
SHRINK = 0.2
"""Shrinkage of H to its diagonal at 2,000 samples."""
SWEEPS = 3
BIAS_SPAN = 2.0**-10
"""The least step, relative to the largest bias, so that the bias in units of the least scale is no huge number."""
SMALLEST = 2.0**-14
"""The least scale, relative to the largest: a float16 that is not subnormal."""


@dataclass(frozen=True)
class FixedParams:
    """What can be tuned; bits and alpha that are not given are found."""

    bits: int = field(default=0, metadata={"help": "2, 3, 4 or 8; 0: by the slope", "low": 0, "high": 8, "tune": False})
    part: int = field(
        default=64,
        metadata={"help": "columns to a scale, beside one for a whole row", "low": 0, "high": 4096, "tune": (8, 512)},
    )
    rounding: str = field(
        default="descent", metadata={"help": "descent, adaround, gptq or nearest", "choices": ROUNDINGS}
    )
    range: str = field(default="mse", metadata={"help": "mse, kl or minmax", "choices": RANGES})
    alpha: float = field(
        default=0.0,
        metadata={"help": "power of AWQ's column scales; -1: searched", "low": -1.0, "high": 1.0, "tune": (0.0, 1.0)},
    )


class Fixed:
    """Integers of so many bits with scales; see the module's docstring."""

    name: ClassVar[str] = "fixed"
    CODES: ClassVar[str] = "codes"
    Params: ClassVar[type] = FixedParams

    @staticmethod
    def points(
        layer: Layer, weight: Weight, stats: Stats, slopes: Iterable[float], params: FixedParams | None = None
    ) -> Iterable[Point]:
        """For each number of bits near a slope a point with a scale a row, and one with a scale a part of a row."""
        params = params or FixedParams()
        wanted = [(params.bits,) if params.bits else _bits_near(layer, weight, stats, slope) for slope in slopes]
        for bits in sorted({one for some in wanted for one in some}):
            for part in sorted({0, params.part if params.part < layer.cols else 0}):
                packed = runtime_bits(layer, bits, part, params.alpha != 0)
                own = {"bits": bits, "part": part, "runtime_bits": packed}
                choice = {"method": Fixed.name, **asdict(params), **own}
                yield made(Fixed, (layer, weight, stats), choice, coded_bits)

    @staticmethod
    def encode(layer: Layer, weight: Weight, stats: Stats, choice: Mapping[str, Json]) -> Encoded:
        """codes int8 [rows, cols], scales [rows, parts] float16 in units of the step, column exponents, bias codes.

        Raises ValueError for bits, a rounding or a range that there is not.
        """
        bits, rounding, rule = int(choice["bits"]), str(choice["rounding"]), str(choice["range"])
        if bits not in BITS or rounding not in ROUNDINGS:
            raise ValueError(f"fixed: bits are {BITS}, roundings {ROUNDINGS}. Received {bits}, {rounding!r}.")
        part, alpha = int(choice["part"]) or layer.cols, float(choice["alpha"])
        hessian = grid.regularised(layer, weight, stats, SHRINK)
        live = np.array(weight.matrix)
        if weight.bias is not None:
            live[np.repeat(grid.diagonal(stats.hessian) <= 0, layer.rows // layer.groups, axis=0)] = 0
        top = (1 << (bits - 1)) - 1
        least = 1e-30 if weight.bias is None else max(1e-30, BIAS_SPAN * float(np.abs(weight.bias).max(initial=0)))
        tries = [
            _grid(layer, live, hessian, part, rule, top, one, least) for one in (ALPHAS if alpha < 0 else (alpha,))
        ]
        steps, arrays, meta = min(tries, key=lambda one: _nearest_loss(layer, stats, live, hessian, one[0], top))
        arrays["codes"] = _rounded(layer, live, hessian, steps, top, rounding)
        encoded = Encoded(Fixed.name, arrays, meta)
        if weight.bias is not None:
            arrays["bias"] = grid.bias_codes(layer, weight, stats, Fixed.decode(encoded).matrix, _bias_step(encoded))
        return encoded

    @staticmethod
    def decode(encoded: Encoded) -> Weight:
        """W' = codes * scale of the part * column factor; raises ValueError where shapes do not fit."""
        codes, scales = encoded.arrays["codes"], encoded.arrays["scales"]
        part, step = int(encoded.meta["part"]), np.float32(encoded.meta["step"])
        if codes.ndim != 2 or part < 1 or scales.shape != (len(codes), -(-codes.shape[1] // part)):
            raise ValueError(f"scales of {scales.shape} for {codes.shape} in parts of {part}")
        row = np.full(len(codes), step, np.float32)
        units = codes.astype(np.float32) * _spread(scales.astype(np.float32), part, codes.shape[1])
        bias = grid.bias_back(encoded.arrays.get("bias"), _bias_step(encoded))
        return Weight(grid.scaled_back(units, row, grid.steps(encoded.arrays["cols"], 1.0)), bias)

    @staticmethod
    def units(encoded: Encoded) -> tuple[F32, F32]:
        """Each weight's step [rows, cols], and the bias's [rows]."""
        ones = replace(encoded, arrays={**encoded.arrays, "codes": np.ones_like(encoded.arrays["codes"])})
        return Fixed.decode(ones).matrix, _bias_step(encoded)

    @staticmethod
    def limit(encoded: Encoded) -> int:
        """The largest code of so many bits as these codes need."""
        most = int(np.abs(encoded.arrays["codes"].astype(np.int32)).max(initial=0))
        return next((top for bits in BITS if (top := (1 << (bits - 1)) - 1) >= most), most)

    @staticmethod
    def rescaled(encoded: Encoded, factor: float) -> Encoded:
        """Every scale times a factor: it is in the common step."""
        return replace(encoded, meta={**encoded.meta, "step": float(np.float32(float(encoded.meta["step"]) * factor))})

    @staticmethod
    def retold(encoded: Encoded, values: F32, bias: F32 | None) -> Encoded:
        """The nearest codes within the limit."""
        top = Fixed.limit(encoded)
        arrays = {**encoded.arrays, "codes": np.clip(np.rint(values), -top, top).astype(np.int8)}
        if bias is not None:
            arrays["bias"] = np.rint(bias).astype(np.int32)
        return replace(encoded, arrays=arrays)


def runtime_bits(layer: Layer, bits: int, part: int, columns: bool) -> int:
    """Size of the packed weights and their float16 scales, as a runtime holds them."""
    parts = -(-layer.cols // part) if part else 1
    return bits * layer.size + 16 * (layer.rows * parts + layer.groups * layer.cols * columns)


def _bits_near(layer: Layer, weight: Weight, stats: Stats, slope: float) -> tuple[int, ...]:
    """The two numbers of bits around the one whose grid has the step that suits the slope."""
    problem = grid.pose(layer, weight, stats, grid.optimal_step(slope, 1.0), SHRINK)
    needed = float(np.log2(2 * np.quantile(np.abs(problem.scaled), 0.999) + 1))
    above = next((k for k, bits in enumerate(BITS) if bits >= needed), len(BITS) - 1)
    return BITS[max(above - 1, 0) : above + 1]


def _grid(
    layer: Layer, live: F32, hessian: F64, part: int, rule: str, top: int, alpha: float, least: float
) -> tuple[F32, dict[str, Array], dict[str, Json]]:
    """Every weight's step [rows, cols], and the arrays and meta that say it."""
    variance = grid.diagonal(hessian)
    exponents = np.zeros((layer.groups, 1), np.int16)
    if alpha:
        exponents = -grid.exponents(variance ** (alpha / 2), grid.LOWEST_STEP)
        exponents = (exponents - exponents.max()).astype(np.int16)
    column = np.broadcast_to(grid.steps(exponents, 1.0), variance.shape)
    column = np.repeat(column, layer.rows // layer.groups, axis=0)
    worth = np.repeat(variance, layer.rows // layer.groups, axis=0) * np.square(column)
    parts = -(-layer.cols // part)
    padded = np.zeros((2, layer.rows, parts * part), np.float32)
    padded[0, :, : layer.cols], padded[1, :, : layer.cols] = live / column, worth
    values, weights = padded.reshape(2, -1, part)
    scales = reach(values, weights, top, rule).reshape(layer.rows, parts) / np.float32(top)
    step = float(np.float32(max(float(scales.max(initial=0)), least)))
    scales = np.clip(scales / np.float32(step), SMALLEST, 1).astype(np.float16)
    steps = np.asarray(_spread(scales.astype(np.float32), part, layer.cols) * np.float32(step) * column, np.float32)
    return steps, {"scales": scales, "cols": exponents}, {"step": step, "part": part}


def _spread(scales: F32, part: int, cols: int) -> F32:
    """[rows, parts] as [rows, cols]."""
    return np.repeat(scales, min(part, max(cols, 1)), axis=1)[:, :cols]


def _bias_step(encoded: Encoded) -> F32:
    """The bias counts in sixteenths of the row's first step [rows]."""
    step = np.float32(encoded.meta["step"]) / np.float32(16)
    return np.asarray(encoded.arrays["scales"][:, 0].astype(np.float32) * step)


def _nearest_loss(layer: Layer, stats: Stats, live: F32, hessian: F64, steps: F32, top: int) -> float:
    """What rounding to nearest would cost by the diagonal of H."""
    error = live - np.clip(np.rint(live / steps), -top, top) * steps
    worth = np.repeat(grid.diagonal(hessian), layer.rows // layer.groups, axis=0)
    return float(row_sensitivity(layer, stats) @ (worth * np.square(error)).sum(1))


def _rounded(layer: Layer, live: F32, hessian: F64, steps: F32, top: int, rounding: str) -> NDArray[np.int8]:
    """Codes [rows, cols] within -top .. top."""
    codes = np.clip(np.rint(live / steps), -top, top)
    if rounding == "nearest" or hessian.ndim == 2:
        return np.asarray(codes, np.int8)
    h = grid.ordered(hessian)
    value, step, code = (
        np.ascontiguousarray(np.take_along_axis(grid.stacked(layer, one), h.order[:, :, None], 1))
        for one in (live, steps, codes)
    )
    low, high = np.full_like(code, -top), np.full_like(code, top)
    if rounding == "adaround":
        low = np.clip(np.floor(value / step), -top, top)
        high = np.clip(low + 1, -top, top)

    def decide(x: F32, j: int) -> F32:
        q = np.clip(np.rint(x[:, 0] / step[:, j]), low[:, j], high[:, j])
        return np.asarray((q * step[:, j])[:, None])

    stored = fed_back(value, h.rows, decide) if rounding != "adaround" else code * step
    dense = np.ascontiguousarray(h.hessian, np.float32)
    for _ in range(SWEEPS if rounding in ("adaround", "descent") else 0):
        stored = swept(value, stored, dense, decide)
    return np.asarray(grid.in_place(np.rint(stored / step), h.order), np.int8)
