"""Vector codebooks: 2, 4 or 8 neighbouring inputs of a row are one of up to 4,096 vectors that the layer shares.

Sources: GPTVQ (van Baalen et al. 2024: k-means weighed by the Hessian, error feedback between vectors), AQLM
(Egiazarian et al. 2024: codebooks shared in a layer), entropy-constrained assignment (Chou, Lookabaugh and Gray 1989).
Weights are in units of their row and column step, where a squared error matters alike everywhere; the vectors are
float16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attar.methods import grid, parts
from attar.methods.base import bounded, made
from attar.methods.columns import fed_back
from attar.methods.grid import F32
from attar.methods.masks import by_runs
from attar.methods.rates import coded_bits
from attar.methods.shared_values import compact, least_squares
from attar.types import Array, Encoded, Json, Layer, Point, Stats, Weight

WIDTHS = (2, 4, 8)
SIZES = tuple(1 << bits for bits in range(4, 13))
SAMPLES = 1 << 14
"""Vectors that k-means looks at."""
SHARE = 0.2
"""Most of a layer's bits that its codebook may take."""
SHRINK = 0.2


@dataclass(frozen=True)
class VectorParams:
    """What can be tuned; the width and the size of the codebook are found for each slope where none is given."""

    width: int = field(
        default=0, metadata={"help": "inputs to a vector; 0: by the slope", "low": 0, "high": 8, "tune": False}
    )
    size: int = field(default=0, metadata={"help": "vectors; 0: by the slope", "low": 0, "high": 4096, "tune": False})
    passes: int = field(
        default=2, metadata={"help": "estimates of vectors and prices", "low": 1, "high": 10, "tune": (1, 6)}
    )


class Vector:
    """The number of a vector for every few weights; see the module's docstring."""

    name: ClassVar[str] = "vector"
    Params: ClassVar[type] = VectorParams

    @staticmethod
    def declines(layer: Layer, stats: Stats) -> str | None:
        """Where no codebook can be shared by enough weights."""
        del stats
        if layer.cols < WIDTHS[0] or layer.size < 64:
            return "a vector needs two inputs, and its codebook weights that share it"
        return None

    @staticmethod
    def points(
        layer: Layer, weight: Weight, stats: Stats, slopes: Iterable[float], params: VectorParams | None = None
    ) -> Iterable[Point]:
        """One point for each slope and width."""
        params = params or VectorParams()
        for slope in slopes:
            for width, size in _shapes(layer, weight, stats, slope, params):
                choice = {"method": Vector.name, "slope": slope, **asdict(params), "width": width, "size": size}
                yield made(Vector, (layer, weight, stats), choice, coded_bits)

    @staticmethod
    def encode(layer: Layer, weight: Weight, stats: Stats, choice: Mapping[str, Json]) -> Encoded:
        """codes [rows, vectors], vectors [size, width] float16 by length, exponents, bias codes; columns in meta."""
        params = VectorParams(**{k: v for k, v in choice.items() if k not in ("method", "slope")})
        slope, width = float(choice["slope"]), params.width
        problem = _posed(layer, weight, stats, slope, width)
        vectors, symbols = _fit(problem, slope, params)
        used, symbols = np.unique(symbols, return_inverse=True)
        order = np.argsort(np.square(vectors[used]).sum(1), kind="stable")
        symbols = np.argsort(order)[symbols].reshape(layer.groups, -1, problem.scaled.shape[2])
        arrays: dict[str, Array] = {
            "codes": grid.in_place(symbols, problem.order[:, ::width] // width).astype(np.int16),
            "vectors": compact(vectors[used][order]),
            "rows": problem.row_exponent,
            "cols": np.ascontiguousarray(problem.column_exponent[:, : layer.cols]),
        }
        encoded = Encoded(Vector.name, arrays, {"step": float(np.float32(problem.step)), "cols": layer.cols})
        if weight.bias is not None:
            row_step = grid.steps(problem.row_exponent, problem.step)
            arrays["bias"] = grid.bias_codes(layer, weight, stats, Vector.decode(encoded).matrix, row_step)
        return encoded

    @staticmethod
    def shape(encoded: Encoded) -> tuple[int, int]:
        """A row for every row of codes, the columns of the meta, which the vectors must fill."""
        rows, runs = encoded.arrays["codes"].shape
        cols, width = int(encoded.meta["cols"]), encoded.arrays["vectors"].shape[1]
        return (rows, cols) if 0 <= runs * width - cols < width else (rows, runs * width)

    @staticmethod
    def decode(encoded: Encoded) -> Weight:
        """W' = vectors[codes] * column step * row step; raises IndexError, ValueError for what is no such."""
        arrays = encoded.arrays
        codes, vectors, cols = arrays["codes"], arrays["vectors"].astype(np.float32), int(encoded.meta["cols"])
        if codes.ndim != 2 or vectors.ndim != 2 or codes.min(initial=0) < 0 or cols < 0:
            raise ValueError(f"codes {codes.shape} from {codes.min(initial=0)} of vectors {vectors.shape}")
        bounded(encoded, codes.shape[0], codes.shape[1] * vectors.shape[1])
        row = grid.steps(arrays["rows"], float(encoded.meta["step"]))
        units = vectors[codes.astype(np.int64)].reshape(len(codes), -1)[:, :cols]
        bias = grid.bias_back(arrays.get("bias"), row)
        return Weight(grid.scaled_back(units, row, grid.steps(arrays["cols"], 1.0)), bias)

    @staticmethod
    def parts(encoded: Encoded) -> Mapping[str, Encoded]:
        """The vectors as floats, and the bias."""
        return {"vectors": parts.of_floats(encoded.arrays["vectors"]), **parts.of_bias(encoded)}

    @staticmethod
    def joined(encoded: Encoded, new: Mapping[str, Encoded]) -> Encoded:
        """The same codes with other vectors."""
        row = grid.steps(encoded.arrays["rows"], float(encoded.meta["step"]))
        arrays = {**encoded.arrays, "vectors": new["vectors"].arrays["matrix"], **parts.bias_array(new, row)}
        return replace(encoded, arrays=arrays)

    @staticmethod
    def composed(encoded: Encoded, new: Mapping[str, Weight]) -> Weight:
        """Every code's vector on its steps."""
        codes = encoded.arrays["codes"].astype(np.int64)
        units = new["vectors"].matrix[codes].reshape(len(codes), -1)[:, : int(encoded.meta["cols"])]
        return Weight(units * parts.factors(encoded, float(encoded.meta["step"])), parts.bias_of(new))

    @staticmethod
    def spread(encoded: Encoded, now: Mapping[str, Weight], gradient: Weight) -> Mapping[str, Weight]:
        """Each vector's is the sum over the places that it is in."""
        codes, (size, width) = encoded.arrays["codes"].astype(np.int64), now["vectors"].matrix.shape
        pulls = gradient.matrix * parts.factors(encoded, float(encoded.meta["step"]))
        missing = codes.shape[1] * width - pulls.shape[1]
        runs = np.pad(pulls, ((0, 0), (0, missing))).reshape(-1, width)
        found = np.stack([parts.summed(codes, one, size) for one in runs.T], axis=1)
        return {"vectors": Weight(found), **parts.bias_gradient(now, gradient)}


def _posed(layer: Layer, weight: Weight, stats: Stats, slope: float, width: int) -> grid.Problem:
    """The layer in units of its steps, its columns filled up with dead ones to whole vectors, which stay together."""
    missing = -layer.cols % width
    if missing:
        end = (0, missing)
        matrix = np.pad(weight.matrix, ((0, 0), end))
        hessian = np.pad(stats.hessian, ((0, 0), end, end)[: stats.hessian.ndim])
        layer = replace(layer, cols=layer.cols + missing)
        weight = replace(weight, matrix=matrix)
        stats = replace(stats, hessian=hessian, mean=np.pad(stats.mean, ((0, 0), end)))
    order = by_runs(grid.regularised(layer, weight, stats, SHRINK), width)
    return grid.pose(layer, weight, stats, grid.optimal_step(slope, 1.0), SHRINK, order=order)


def _shapes(layer: Layer, weight: Weight, stats: Stats, slope: float, params: VectorParams) -> list[tuple[int, int]]:
    """Widths and sizes whose codebooks a layer of this entropy can pay for; the smallest where it can pay for none."""
    if params.width and params.size:
        return [(params.width, params.size)]
    problem = _posed(layer, weight, stats, slope, 1)
    counts = np.unique(np.rint(problem.scaled / 1.5), return_counts=True)[1] / problem.scaled.size
    entropy = float(-(counts * np.log2(counts)).sum())
    found = []
    for width in (params.width,) if params.width else WIDTHS:
        most = min(SHARE * layer.size * entropy / (16 * width), 2 ** min(12, width * (entropy + 1.5)))
        size = params.size or max((size for size in SIZES if size <= most), default=0)
        if size and width <= layer.cols:
            found.append((width, size))
    return found or [(params.width or WIDTHS[0], SIZES[0])]


def _fit(problem: grid.Problem, slope: float, params: VectorParams) -> tuple[F32, NDArray[np.int64]]:
    """Vectors [size or fewer, width] and symbols [groups, vectors, rows] in the order of quantisation."""
    width, (groups, cols, rows) = params.width, problem.scaled.shape
    stacked = problem.scaled.reshape(groups, cols // width, width, rows)
    mean_cost = float((problem.pivots[:, :, None] * problem.stiffness[:, None, :]).mean())
    vectors, bits = kmeans(stacked.transpose(0, 1, 3, 2).reshape(-1, width), params.size, slope / max(mean_cost, 1e-30))
    metric = _metrics(problem, width)
    symbols = np.zeros((groups, cols // width, rows), np.int64)

    def decide(x: F32, column: int) -> F32:
        """The vectors of least cost for x [groups, width, rows]."""
        pulled = x.transpose(0, 2, 1) @ metric[:, column // width]
        own = np.einsum("kw,gwv,kv->gk", vectors, metric[:, column // width], vectors)
        cost = problem.stiffness[:, :, None] * (own[:, None] - 2 * pulled @ vectors.T) + slope * bits
        symbols[:, column // width] = np.argmin(cost, axis=2)
        return np.asarray(vectors[symbols[:, column // width]].transpose(0, 2, 1))

    for _ in range(params.passes):
        fed_back(problem.scaled, problem.rows, decide, width)
        index = symbols[:, :, None] * width + np.arange(width)[:, None]
        values = least_squares(problem, vectors.ravel().astype(np.float64), index.reshape(groups, cols, rows))
        vectors = values.astype(np.float32).reshape(-1, width)
        share = np.bincount(symbols.ravel(), minlength=len(vectors)) + 0.1
        bits = np.asarray(-np.log2(share / share.sum()), np.float32)
    return vectors, symbols


def _metrics(problem: grid.Problem, width: int) -> F32:
    """What an error in a vector costs when later columns make up for it, [groups, vectors, width, width].

    R R^T of the diagonal blocks of the factor: with V the feedback rows, R = V^-1 diag(R_jj).
    """
    groups, cols = problem.pivots.shape
    roots = np.sqrt(problem.pivots.reshape(groups, -1, 1, width))
    if problem.rows is None:
        return np.asarray(np.square(roots) * np.eye(width, dtype=np.float32))
    places = np.arange(cols).reshape(-1, width)
    inside = problem.rows[:, places[:, :, None], places[:, None, :]]
    factor = np.linalg.inv(np.triu(inside)) * roots
    return np.asarray(factor @ factor.transpose(0, 1, 3, 2), np.float32)


def kmeans(samples: F32, size: int, price: float) -> tuple[F32, F32]:
    """Vectors [size or fewer, width] of least squared error plus price * bits over samples [n, width], and their bits.

    One of the first vectors is zero, the others are samples spread evenly by length.
    """
    stride = max(1, len(samples) // SAMPLES)
    few = samples[::stride][np.argsort(np.square(samples[::stride]).sum(1), kind="stable")]
    picked = few[np.unique(np.linspace(0, len(few) - 1, size).astype(np.int64))]
    vectors = np.unique(np.concatenate([np.zeros((1, few.shape[1]), np.float32), picked]), axis=0)[:size]
    bits = np.zeros(len(vectors), np.float32)
    for _ in range(8):
        cost = np.square(vectors).sum(1) - 2 * few @ vectors.T + np.float32(price) * bits
        nearest = np.argmin(cost, axis=1)
        count = np.bincount(nearest, minlength=len(vectors))
        total = np.stack([np.bincount(nearest, one, len(vectors)) for one in few.T], axis=1)
        used = count > 0
        vectors = np.asarray(total[used] / count[used, None], np.float32)
        bits = np.asarray(-np.log2(count[used] / count.sum()), np.float32)
    return vectors, bits
