"""One-dimensional codebooks: every weight is one of up to 64 values of its layer, in units of its row and column step.

Sources: Deep Compression (Han et al. 2016, section 3: k-means weight sharing), weighed by the curvature (Choi et al.
2017, section 3.3), with entropy-constrained assignment (Chou, Lookabaugh and Gray 1989) and the error feedback of GPTQ.
Values are symbols around the one nearest to zero, so that the coder's classes see magnitudes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attar import entropy
from attar.methods import grid, parts
from attar.methods.base import made
from attar.methods.columns import fed_back, swept
from attar.methods.grid import F32
from attar.methods.rates import coded_bits, prices
from attar.methods.shared_values import compact, kmeans, least_squares
from attar.types import Array, Encoded, Json, Layer, Point, Stats, Weight

SIZES = (2, 4, 8, 16, 32, 64)
FEW = 4


@dataclass(frozen=True)
class CodebookParams:
    """What can be tuned; the size of the codebook is found for each slope where none is given."""

    size: int = field(
        default=0, metadata={"help": "values in the codebook; 0: by the slope", "low": 0, "high": 64, "tune": False}
    )
    shrink: float = field(
        default=0.2, metadata={"help": "shrinkage of H to its diagonal at 2,000 samples", "low": 0.0, "high": 1.0}
    )
    passes: int = field(
        default=3, metadata={"help": "estimates of values and prices", "low": 1, "high": 10, "tune": (1, 6)}
    )
    rate: bool = field(default=True, metadata={"help": "let the price of a symbol count when it is chosen"})
    zero: bool = field(default=True, metadata={"help": "one of the values is zero"})


class Codebook:
    """Symbols and the values they stand for; see the module's docstring."""

    name: ClassVar[str] = "codebook"
    Params: ClassVar[type] = CodebookParams

    @staticmethod
    def points(
        layer: Layer, weight: Weight, stats: Stats, slopes: Iterable[float], params: CodebookParams | None = None
    ) -> Iterable[Point]:
        """For each slope one point of the size given, or of the two sizes that suit it."""
        params = params or CodebookParams()
        for slope in slopes:
            for size in (params.size,) if params.size else _sizes(layer, weight, stats, slope, params):
                choice = {"method": Codebook.name, "slope": slope, **asdict(params), "size": size}
                yield made(Codebook, (layer, weight, stats), choice, coded_bits)

    @staticmethod
    def encode(layer: Layer, weight: Weight, stats: Stats, choice: Mapping[str, Json]) -> Encoded:
        """codes [rows, cols] around the value nearest to zero, values [size] float16, exponents, bias codes."""
        params = CodebookParams(**{k: v for k, v in choice.items() if k not in ("method", "slope")})
        slope = float(choice["slope"])
        problem = _posed(layer, weight, stats, slope, params)
        values, symbols = _fit(problem, slope if params.rate else 0.0, params)
        used, symbols = np.unique(symbols, return_inverse=True)
        order = np.argsort(values[used], kind="stable")
        values, symbols = values[used][order], np.argsort(order)[symbols]
        center = int(np.argmin(np.abs(values)))
        codes = grid.in_place(symbols.reshape(problem.scaled.shape) - center, problem.order).astype(np.int8)
        arrays: dict[str, Array] = {
            "codes": codes, "values": compact(values), "rows": problem.row_exponent, "cols": problem.column_exponent
        }  # fmt: skip
        encoded = Encoded(Codebook.name, arrays, {"step": float(np.float32(problem.step)), "center": center})
        if weight.bias is not None:
            row_step = grid.steps(problem.row_exponent, problem.step)
            arrays["bias"] = grid.bias_codes(layer, weight, stats, Codebook.decode(encoded).matrix, row_step)
        return encoded

    @staticmethod
    def decode(encoded: Encoded) -> Weight:
        """W' = values[codes + center] * column step * row step; raises IndexError, ValueError for what is no such."""
        arrays = encoded.arrays
        index = _index(encoded)
        if index.min(initial=0) < 0:
            raise ValueError("a code below the codebook")
        row = grid.steps(arrays["rows"], float(encoded.meta["step"]))
        column = grid.steps(arrays["cols"], 1.0)
        matrix = grid.scaled_back(np.asarray(arrays["values"], np.float32)[index], row, column)
        bias = grid.bias_back(arrays.get("bias"), row)
        return Weight(matrix, bias)

    @staticmethod
    def parts(encoded: Encoded) -> Mapping[str, Encoded]:
        """The values as floats, trained together as in Deep Compression (section 3.2), and the bias."""
        return {"values": parts.of_floats(encoded.arrays["values"]), **parts.of_bias(encoded)}

    @staticmethod
    def joined(encoded: Encoded, new: Mapping[str, Encoded]) -> Encoded:
        """The same codes with other values."""
        row = grid.steps(encoded.arrays["rows"], float(encoded.meta["step"]))
        arrays = {**encoded.arrays, "values": new["values"].arrays["matrix"][0], **parts.bias_array(new, row)}
        return replace(encoded, arrays=arrays)

    @staticmethod
    def composed(encoded: Encoded, new: Mapping[str, Weight]) -> Weight:
        """Every code's value on its steps."""
        steps = parts.factors(encoded, float(encoded.meta["step"]))
        return Weight(new["values"].matrix[0][_index(encoded)] * steps, parts.bias_of(new))

    @staticmethod
    def spread(encoded: Encoded, now: Mapping[str, Weight], gradient: Weight) -> Mapping[str, Weight]:
        """Each value's is the sum over its weights; zero stays zero."""
        values = now["values"].matrix[0]
        pulls = np.asarray(gradient.matrix * parts.factors(encoded, float(encoded.meta["step"])), np.float32)
        summed = parts.summed(_index(encoded), pulls, values.size) * (values != 0)
        return {"values": Weight(summed[None]), **parts.bias_gradient(now, gradient)}


def _index(encoded: Encoded) -> NDArray[np.int64]:
    """Every weight's place in the codebook [rows, cols]."""
    return np.asarray(encoded.arrays["codes"].astype(np.int64) + int(encoded.meta["center"]))


def _posed(layer: Layer, weight: Weight, stats: Stats, slope: float, params: CodebookParams) -> grid.Problem:
    return grid.pose(layer, weight, stats, grid.optimal_step(slope, 1.0), params.shrink)


def _sizes(layer: Layer, weight: Weight, stats: Stats, slope: float, params: CodebookParams) -> list[int]:
    """The least size that spans all but 1 in 1,000 weights in steps of 1.5 of the grid's, and half of it."""
    scaled = np.abs(_posed(layer, weight, stats, slope, params).scaled)
    needed = 2 * float(np.quantile(scaled, 0.999)) / 1.5 + 1
    best = next((k for k, size in enumerate(SIZES) if size >= needed), len(SIZES) - 1)
    return sorted({SIZES[max(best - 1, 1)], SIZES[max(best, 1)]})


def _fit(problem: grid.Problem, slope: float, params: CodebookParams) -> tuple[F32, NDArray[np.int64]]:
    """Values [size or fewer], ascending, and the symbol of every weight in the order of quantisation."""
    costs = problem.pivots[:, :, None] * problem.stiffness[:, None, :]
    # A few values pay for a lower price at first: one that no weight is left for would not come back.
    price = slope / 2 if params.size <= FEW else slope
    values = kmeans(problem.scaled, costs, params.size, price, zero=params.zero)
    while values.size < min(params.size, 3) and price > 1e-3 * slope:
        price /= 2
        values = kmeans(problem.scaled, costs, params.size, price, zero=params.zero)
    chooser = Chooser(values.astype(np.float32), problem.scaled.shape)
    for _ in range(params.passes):
        fed_back(problem.scaled, problem.rows, lambda x, j: chooser(x, costs[:, j, None], j))
        chooser.refit(problem, slope, zero=params.zero)
    if problem.rows is not None:
        swept(
            problem.scaled, chooser.values[chooser.symbols], problem.hessian,
            lambda x, j: chooser(x, problem.stiffness[:, None] * problem.hessian[:, j, j, None, None], j),
        )  # fmt: skip
        chooser.refit(problem, 0.0, zero=params.zero)
    return chooser.values, chooser.symbols


class Chooser:
    """The codebook while it is being fitted: values [size], symbols and classes [groups, cols, rows], prices."""

    def __init__(self, values: F32, shape: tuple[int, ...]) -> None:
        self.values = values
        self.symbols = np.zeros(shape, np.int64)
        self._class_of = np.zeros(shape, np.uint8)
        self._price = np.zeros((entropy.CLASSES, values.size), np.float32)

    def __call__(self, x: F32, cost: F32, column: int) -> F32:
        """The values of least cost for one column x [groups, 1, rows], whose symbols are kept."""
        price = self._price[self._class_of[:, column]]
        best = np.argmin(cost[:, 0, :, None] * np.square(x[:, 0, :, None] - self.values) + price, axis=2)
        self.symbols[:, column] = best
        return np.asarray(self.values[best][:, None])

    def refit(self, problem: grid.Problem, slope: float, *, zero: bool) -> None:
        """Values for the symbols as they are, by least squares; then prices for both."""
        pinned = int(np.argmin(np.abs(self.values)))
        values = least_squares(problem, self.values.astype(np.float64), self.symbols, pinned=pinned if zero else -1)
        self.values = values.astype(np.float32)
        if slope:
            codes = self.symbols - pinned
            self._price, self._class_of = prices(codes, -pinned, self.values.size - 1 - pinned, slope)
