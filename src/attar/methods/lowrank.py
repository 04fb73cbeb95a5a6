"""Low rank: W is a product of two thin factors, found where errors matter and quantised like layers of their own.

Sources: the singular vectors of S^1/2 W R with H = R R^T give the product of least distortion (SVD-LLM, Wang et al.
2025, section 3.1; Eckart and Young 1936). The right factor [rank, cols] sees H, and with S-orthonormal left vectors all
its rows matter alike; the left factor is then fitted anew to the right one as decoded, B, and sees B H B^T. Both go
through the uniform method. Only the canonical matrix is factored: spatial (Jaderberg et al. 2014) and Tucker forms of a
convolution (Kim et al. 2016) fold its columns, where H is no product of one factor for each axis, so that no truncation
of theirs is the best one; and a decoded file is dense again, so that their speed would not be there either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

import numpy as np

from attar.methods import grid
from attar.methods.base import bounded, distortion, row_sensitivity
from attar.methods.feedback import upper_factor
from attar.methods.grid import F32, F64
from attar.methods.rates import coded_bits
from attar.methods.uniform import Uniform
from attar.types import Array, Encoded, Json, Layer, Point, Stats, Weight

FACTOR_BITS = 2.0
"""About what a number of a factor costs: a singular vector pays for itself above slope times this for each."""
MOST_NUMBERS = 0.5
"""Numbers in the factors for each weight above which `uniform` is no larger: on four networks at four to six slopes the
two cross at 0.55, and the dense coder takes more off the codes of `uniform`."""
PIECE = 1 << 15
"""Values of a product that are summed at once: they stay in the cache."""


@dataclass(frozen=True)
class LowrankParams:
    """What can be tuned; a rank that is not given is found for each slope."""

    rank: int = field(default=0, metadata={"help": "rank; 0: by the slope", "low": 0, "high": 65536, "tune": False})
    step: float = field(
        default=1.5,
        metadata={"help": "step over the high-resolution optimum", "low": 0.3, "high": 4.0, "tune": (0.8, 2.5)},
    )
    shrink: float = field(
        default=0.2, metadata={"help": "shrinkage of H to its diagonal at 2,000 samples", "low": 0.0, "high": 1.0}
    )


class Lowrank:
    """Two quantised factors; see the module's docstring."""

    name: ClassVar[str] = "lowrank"
    Params: ClassVar[type] = LowrankParams

    @staticmethod
    def declines(layer: Layer, stats: Stats) -> str | None:
        """Where even one singular vector has as many numbers as the matrix."""
        del stats
        rows = layer.rows // layer.groups
        if rows + layer.cols >= rows * layer.cols:
            return f"factors of rank 1 have as many numbers as {rows} x {layer.cols} weights"
        return None

    @staticmethod
    def worth(
        layer: Layer, weight: Weight, stats: Stats, slopes: Sequence[float], params: LowrankParams
    ) -> Sequence[float]:
        """The slopes at which the vectors that pay have few enough numbers; all of them for a rank that is given."""
        if params.rank:
            return slopes
        rows, values = layer.rows // layer.groups, spectrum(layer, weight, stats, params.shrink)
        most = MOST_NUMBERS * rows * layer.cols / (rows + layer.cols)
        return [slope for slope in slopes if paying_rank(layer, values, slope) <= most]

    @staticmethod
    def points(
        layer: Layer, weight: Weight, stats: Stats, slopes: Iterable[float], params: LowrankParams | None = None
    ) -> Iterable[Point]:
        """For each slope the rank at which a further vector would not pay, and one above it."""
        params = params or LowrankParams()
        best = whitened(layer, weight, stats, params.shrink)
        for slope in slopes:
            paying = params.rank or paying_rank(layer, best.values, slope)
            most = min(layer.rows // layer.groups, layer.cols)
            for rank in sorted({paying} if params.rank else {paying, min(paying + -(-paying // 3), most)}):
                choice = {"method": Lowrank.name, "slope": slope, **asdict(params), "rank": rank}
                encoded = _joined(*factors(layer, weight, stats, choice, best))
                loss = distortion(layer, weight, Lowrank.decode(encoded), stats)
                yield Point(coded_bits(encoded), loss, choice, encoded)

    @staticmethod
    def encode(layer: Layer, weight: Weight, stats: Stats, choice: Mapping[str, Json]) -> Encoded:
        """The arrays of `uniform` for the left and the right factor; the bias is the left one's."""
        best = whitened(layer, weight, stats, float(choice["shrink"]))
        return _joined(*factors(layer, weight, stats, choice, best))

    @staticmethod
    def shape(encoded: Encoded) -> tuple[int, int]:
        """Rows of the left factor, columns of the right one."""
        return encoded.arrays["left.codes"].shape[0], encoded.arrays["right.codes"].shape[1]

    @staticmethod
    def decode(encoded: Encoded) -> Weight:
        """W' = left * right, group by group; raises ValueError where shapes do not fit."""
        left, right = (Uniform.decode(one) for one in Lowrank.parts(encoded).values())
        return Weight(product(encoded, left.matrix, right.matrix), left.bias)

    @staticmethod
    def parts(encoded: Encoded) -> Mapping[str, Encoded]:
        """The left and the right factor."""
        return {side: _part(encoded, side) for side in ("left", "right")}

    @staticmethod
    def joined(encoded: Encoded, new: Mapping[str, Encoded]) -> Encoded:
        """Other factors."""
        del encoded
        return _joined(new["left"], new["right"])

    @staticmethod
    def composed(encoded: Encoded, new: Mapping[str, Weight]) -> Weight:
        """left * right."""
        del encoded
        left, right = _grouped(new)
        return Weight(np.asarray((left @ right).reshape(-1, right.shape[2])), new["left"].bias)

    @staticmethod
    def spread(encoded: Encoded, now: Mapping[str, Weight], gradient: Weight) -> Mapping[str, Weight]:
        """d/d left = G right^T, d/d right = left^T G, group by group."""
        del encoded
        left, right = _grouped(now)
        pulls = gradient.matrix.reshape(len(left), -1, right.shape[2])
        tall, wide = pulls @ right.transpose(0, 2, 1), left.transpose(0, 2, 1) @ pulls
        return {
            "left": Weight(tall.reshape(-1, left.shape[2]), gradient.bias),
            "right": Weight(wide.reshape(-1, right.shape[2])),
        }


@dataclass(frozen=True)
class Whitened:
    """The singular vectors of S^1/2 W R, turned back: left S^-1/2 U [groups, rows, n], values [groups, n], right
    V^T R^-1 [groups, n, cols]."""

    left: F64
    values: F64
    right: F64


def whitened(layer: Layer, weight: Weight, stats: Stats, shrink: float) -> Whitened:
    """See `Whitened`; dead inputs have no part in it where there is a bias."""
    hessian = grid.regularised(layer, weight, stats, shrink)
    root = np.sqrt(_sensitivity(layer, stats)).reshape(layer.groups, -1, 1)
    turned = root * _live(layer, weight, stats)
    if hessian.ndim == 2:
        scale = np.sqrt(hessian)[:, None]
        u, values, vt = np.linalg.svd(turned * scale, full_matrices=False)
        return Whitened(u / root, values, vt / scale)
    factor = upper_factor(hessian)
    u, values, vt = np.linalg.svd(turned @ factor, full_matrices=False)
    right = np.linalg.solve(factor.transpose(0, 2, 1), vt.transpose(0, 2, 1)).transpose(0, 2, 1)
    return Whitened(u / root, values, right)


def spectrum(layer: Layer, weight: Weight, stats: Stats, shrink: float) -> F64:
    """The singular values alone, [groups, n], falling: roots of the eigenvalues of the smaller Gram matrix."""
    hessian = grid.regularised(layer, weight, stats, shrink)
    scaled = np.sqrt(_sensitivity(layer, stats)).reshape(layer.groups, -1, 1) * _live(layer, weight, stats)
    if scaled.shape[1] <= scaled.shape[2]:
        seen = scaled * hessian[:, None] if hessian.ndim == 2 else scaled @ hessian
        gram = seen @ scaled.transpose(0, 2, 1)
    elif hessian.ndim == 2:
        scaled *= np.sqrt(hessian)[:, None]
        gram = scaled.transpose(0, 2, 1) @ scaled
    else:
        factor = upper_factor(hessian)
        gram = factor.transpose(0, 2, 1) @ (scaled.transpose(0, 2, 1) @ scaled) @ factor
    return np.asarray(np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[:, ::-1], 0)))


def factors(
    layer: Layer, weight: Weight, stats: Stats, choice: Mapping[str, Json], best: Whitened
) -> tuple[Encoded, Encoded]:
    """The left [rows, rank] and the right factor [groups * rank, cols] as `uniform` encodes them."""
    form = {name: choice[name] for name in ("slope", "step", "shrink")}
    rank, groups = int(choice["rank"]), layer.groups
    start = (best.values[:, :rank, None] * best.right[:, :rank]).reshape(-1, layer.cols).astype(np.float32)
    thin = replace(layer, kind="dense", rows=len(start), shape=start.shape)
    # What the mean does to the output goes into the bias, if there is one, so that it is none of the factor's business.
    mean = stats.mean if weight.bias is None else np.zeros_like(stats.mean)
    alike = replace(stats, sensitivity=None, mean=mean, coupling=None)  # its rows are none of the layer's
    right = Uniform.encode(thin, Weight(start), alike, form)
    decoded = Uniform.decode(right).matrix.astype(np.float64).reshape(groups, -1, layer.cols)
    hessian, fitted = _refitted(layer, weight, stats, decoded, float(choice["shrink"]))
    seen = replace(
        stats, hessian=hessian, mean=np.einsum("gkc,gc->gk", decoded, stats.mean), pooled=None,
    )  # fmt: skip
    bias = weight.bias
    if bias is not None:
        left_out = weight.matrix.reshape(groups, -1, layer.cols) - fitted @ decoded
        bias = np.asarray(bias + np.einsum("grc,gc->gr", left_out, stats.mean).ravel(), np.float32)
    tall = replace(layer, kind="dense", cols=decoded.shape[1], shape=(layer.rows, decoded.shape[1]))
    matrix = fitted.reshape(layer.rows, -1).astype(np.float32)
    return Uniform.encode(tall, Weight(matrix, bias), seen, form), right


def _refitted(layer: Layer, weight: Weight, stats: Stats, right: F64, shrink: float) -> tuple[F64, F64]:
    """B H B^T [groups, rank, rank], and the left factor [groups, rows, rank] that goes best with B, `right`."""
    whole = grid.regularised(layer, weight, stats, shrink)

    def seen(hessian: F64) -> F64:
        return np.asarray(right * hessian[:, None] if hessian.ndim == 2 else right @ hessian)

    back = right.transpose(0, 2, 1)
    normal = seen(whole) @ back
    index = np.arange(normal.shape[1])
    normal[:, index, index] += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None] + 1e-30
    wanted = seen(whole) @ _live(layer, weight, stats).transpose(0, 2, 1)
    fitted = np.asarray(np.linalg.solve(normal, wanted).transpose(0, 2, 1), np.float64)
    return seen(stats.hessian) @ back, fitted


def _sensitivity(layer: Layer, stats: Stats) -> F64:
    """[rows], none of them next to nothing."""
    rows = row_sensitivity(layer, stats)
    return np.maximum(rows, 1e-6 * float(rows.max(initial=0)) + 1e-30)


def _live(layer: Layer, weight: Weight, stats: Stats) -> F64:
    """The matrix by groups [groups, rows, cols], without dead inputs where there is a bias."""
    matrix = weight.matrix.reshape(layer.groups, -1, layer.cols).astype(np.float64)
    return matrix if weight.bias is None else matrix * (grid.diagonal(stats.hessian) > 0)[:, None]


def paying_rank(layer: Layer, values: F64, slope: float) -> int:
    """How many singular vectors [groups, n] pay for themselves, at least one."""
    paying = np.square(values) / 2 > slope * FACTOR_BITS * (layer.rows // layer.groups + layer.cols)
    return max(1, round(float(paying.sum(1).mean())))


def _part(encoded: Encoded, side: str) -> Encoded:
    """One factor as a layer of `uniform`."""
    start = f"{side}."
    arrays = {name.removeprefix(start): array for name, array in encoded.arrays.items() if name.startswith(start)}
    return Encoded(Uniform.name, arrays, {"step": encoded.meta[side]})


def _joined(left: Encoded, right: Encoded) -> Encoded:
    """Two layers of `uniform` as one of this method."""
    arrays: dict[str, Array] = {f"left.{name}": array for name, array in left.arrays.items()}
    arrays |= {f"right.{name}": array for name, array in right.arrays.items()}
    return Encoded(Lowrank.name, arrays, {"left": left.meta["step"], "right": right.meta["step"]})


def _grouped(parts: Mapping[str, Weight]) -> tuple[F32, F32]:
    """The left factor [groups, rows, rank] and the right one [groups, rank, cols]."""
    left, right = parts["left"].matrix, parts["right"].matrix
    groups = len(right) // left.shape[1]
    return left.reshape(groups, -1, left.shape[1]), right.reshape(groups, -1, right.shape[1])


def product(encoded: Encoded, left: F32, right: F32) -> F32:
    """left [rows, rank] times right [groups * rank, cols], group by group; raises ValueError where they do not fit.

    Summed in the order of the ranks, in single floats, so that every machine decodes alike.
    """
    rank = left.shape[1]
    groups = len(right) // max(rank, 1)
    if not rank or not groups or len(right) % rank or len(left) % groups:
        raise ValueError(f"factors of {left.shape} and {right.shape}")
    bounded(encoded, len(left), right.shape[1])
    tall, wide = left.reshape(groups, -1, rank), right.reshape(groups, rank, -1)
    result = np.zeros((groups, tall.shape[1], wide.shape[2]), np.float32)
    rows = max(1, PIECE // (groups * wide.shape[2]))
    for first in range(0, tall.shape[1], rows):
        piece, some = result[:, first : first + rows], tall[:, first : first + rows]
        term = np.empty_like(piece)
        for k in range(rank):
            piece += np.multiply(some[:, :, k, None], wide[:, None, k], out=term)
    return result.reshape(len(left), -1)
