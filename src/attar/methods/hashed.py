"""HashedNets: every weight is one of a few shared values, chosen by a hash of its place, times a hashed sign.

Source: Chen et al. 2015 (Compressing Neural Networks with the Hashing Trick, section 4.3). Nothing about places is
stored but the seed. Weight (i, j) of W[rows, cols] has number n = i * cols + j; h is the n-th output of splitmix64 from
the seed (mixing.py); its bucket is (h >> 1) mod buckets, its sign by the lowest bit of h (1 is minus). The values are
fitted to the whole quadratic by conjugate gradients and stored as integers on a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attar.methods import grid, parts
from attar.methods.base import bounded, made
from attar.methods.mixing import mixed
from attar.methods.rates import coded_bits
from attar.methods.shared_values import least_squares
from attar.types import Array, Encoded, Json, Layer, Point, Stats, Weight

SHARES = (2, 8, 32)
"""Weights to a bucket, where the size is not given."""


@dataclass(frozen=True)
class HashedParams:
    """What can be tuned."""

    share: int = field(
        default=0,
        metadata={"help": "weights to a bucket; 0: 2, 8 and 32 compete", "low": 0, "high": 4096, "tune": False},
    )
    step: float = field(
        default=1.0,
        metadata={"help": "step over the high-resolution optimum", "low": 0.3, "high": 4.0, "tune": (0.8, 2.5)},
    )
    shrink: float = field(
        default=0.2, metadata={"help": "shrinkage of H to its diagonal at 2,000 samples", "low": 0.0, "high": 1.0}
    )
    seed: int = field(default=0, metadata={"help": "of the hash", "low": 0, "high": 2**32 - 1, "tune": False})


class Hashed:
    """Values of buckets; see the module's docstring."""

    name: ClassVar[str] = "hashed"
    Params: ClassVar[type] = HashedParams

    @staticmethod
    def points(
        layer: Layer, weight: Weight, stats: Stats, slopes: Iterable[float], params: HashedParams | None = None
    ) -> Iterable[Point]:
        """A point for each slope and number of buckets."""
        params = params or HashedParams()
        for slope in slopes:
            for share in (params.share,) if params.share else SHARES:
                choice = {"method": Hashed.name, "slope": slope, **asdict(params), "share": share}
                yield made(Hashed, (layer, weight, stats), choice, coded_bits)

    @staticmethod
    def encode(layer: Layer, weight: Weight, stats: Stats, choice: Mapping[str, Json]) -> Encoded:
        """buckets [number] integers, rows and cols exponents, bias codes; step, seed and columns in the meta."""
        seed, step = int(choice["seed"]), grid.optimal_step(float(choice["slope"]), float(choice["step"]))
        problem = grid.pose(layer, weight, stats, step, float(choice["shrink"]), columns=False)
        buckets = max(1, -(-layer.size // int(choice["share"])))
        places, signs = hashed(layer.rows, layer.cols, buckets, seed)
        index, sign = (
            np.ascontiguousarray(np.take_along_axis(grid.stacked(layer, one), problem.order[:, :, None], 1))
            for one in (places, signs)
        )
        start = np.zeros(buckets)
        values = least_squares(problem, start, index, sign=sign.astype(np.float32), steps=40)
        # A bucket's error is that of all its weights: its step is finer by the root of their number.
        fine = 2.0 ** round(0.5 * np.log2(max(layer.size / buckets, 1)))
        arrays: dict[str, Array] = {
            "buckets": np.rint(values * fine).astype(np.int32), "rows": problem.row_exponent,
            "cols": problem.column_exponent,
        }  # fmt: skip
        meta = {"step": float(np.float32(step / fine)), "seed": seed, "width": layer.cols}
        encoded = Encoded(Hashed.name, arrays, meta)
        if weight.bias is not None:
            row_step = grid.steps(problem.row_exponent, meta["step"])
            arrays["bias"] = grid.bias_codes(layer, weight, stats, Hashed.decode(encoded).matrix, row_step)
        return encoded

    @staticmethod
    def shape(encoded: Encoded) -> tuple[int, int]:
        """A row for every step, the columns of the meta."""
        return encoded.arrays["rows"].size, int(encoded.meta["width"])

    @staticmethod
    def decode(encoded: Encoded) -> Weight:
        """W' = sign * buckets[hash] * steps; raises ValueError where shapes do not fit."""
        arrays, width = encoded.arrays, int(encoded.meta["width"])
        rows, buckets = len(arrays["rows"]), arrays["buckets"].astype(np.float32)
        if buckets.ndim != 1 or not buckets.size or width < 0:
            raise ValueError(f"buckets of {buckets.shape} for {width} columns")
        bounded(encoded, rows, width)
        places, signs = hashed(rows, width, buckets.size, int(encoded.meta["seed"]))
        row = grid.steps(arrays["rows"], float(encoded.meta["step"]))
        matrix = grid.scaled_back(buckets[places] * signs, row, grid.steps(arrays["cols"], 1.0))
        return Weight(matrix, grid.bias_back(arrays.get("bias"), row))

    @staticmethod
    def parts(encoded: Encoded) -> Mapping[str, Encoded]:
        """The buckets on their step, trained as Chen et al. do (section 4.4), and the bias."""
        buckets = parts.of_codes(encoded.arrays["buckets"], float(encoded.meta["step"]))
        return {"buckets": buckets, **parts.of_bias(encoded)}

    @staticmethod
    def joined(encoded: Encoded, new: Mapping[str, Encoded]) -> Encoded:
        """Other buckets, on their own step."""
        step = float(new["buckets"].meta["step"])
        bias = parts.bias_array(new, grid.steps(encoded.arrays["rows"], step))
        arrays = {**encoded.arrays, "buckets": new["buckets"].arrays["codes"][0], **bias}
        return Encoded(Hashed.name, arrays, {**encoded.meta, "step": step})

    @staticmethod
    def composed(encoded: Encoded, new: Mapping[str, Weight]) -> Weight:
        """Every weight from its bucket, times its sign and steps."""
        values = new["buckets"].matrix[0]
        places, signs = hashed(*Hashed.shape(encoded), values.size, int(encoded.meta["seed"]))
        return Weight(values[places] * signs * parts.factors(encoded, 1.0), parts.bias_of(new))

    @staticmethod
    def spread(encoded: Encoded, now: Mapping[str, Weight], gradient: Weight) -> Mapping[str, Weight]:
        """Each bucket's is the sum over its weights (Chen et al., equation 11)."""
        size = now["buckets"].matrix.size
        places, signs = hashed(*Hashed.shape(encoded), size, int(encoded.meta["seed"]))
        pulls = np.asarray(gradient.matrix * signs * parts.factors(encoded, 1.0), np.float32)
        return {"buckets": Weight(parts.summed(places, pulls, size)[None]), **parts.bias_gradient(now, gradient)}


def hashed(rows: int, cols: int, buckets: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """The bucket and the sign of every weight [rows, cols]."""
    h = mixed(seed, 0, rows * cols).reshape(rows, cols)
    places = ((h >> np.uint64(1)) % np.uint64(buckets)).astype(np.int64)
    return places, (1 - 2 * (h & np.uint64(1)).astype(np.int8)).astype(np.int8)
