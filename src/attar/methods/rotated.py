"""Uniform quantisation of a layer whose inputs are turned by a random orthogonal matrix, turned back on decoding.

Sources: QuIP# (Tseng et al. 2024, section 3: random Hadamard transform), QuaRot (Ashkboos et al. 2024). The rotation Q
is block-diagonal: blocks whose sizes are the powers of two that the number of columns is a sum of, the largest first,
each the normalised Hadamard matrix in Sylvester's order after random signs. W Q is quantised for Q^T H Q, and
W' = (W Q)' Q^T. Only sums and products of single floats in a fixed order are used: every machine decodes alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from attar.methods.base import made
from attar.methods.mixing import signs
from attar.methods.uniform import Uniform, rate_bits
from attar.types import Array, Encoded, Json, Layer, Point, Stats, Weight

T = TypeVar("T", np.float32, np.float64)


@dataclass(frozen=True)
class RotatedParams:
    """What can be tuned."""

    step: float = field(
        default=1.5,
        metadata={"help": "step over the high-resolution optimum", "low": 0.3, "high": 4.0, "tune": (0.8, 2.5)},
    )
    shrink: float = field(
        default=0.2, metadata={"help": "shrinkage of H to its diagonal at 2,000 samples", "low": 0.0, "high": 1.0}
    )
    seed: int = field(default=0, metadata={"help": "of the random signs", "low": 0, "high": 2**32 - 1, "tune": False})


class Rotated:
    """Codes of W Q; see the module's docstring."""

    name: ClassVar[str] = "rotated"
    Params: ClassVar[type] = RotatedParams

    @staticmethod
    def declines(layer: Layer, stats: Stats) -> str | None:
        """Where a rotation has nothing to turn."""
        if stats.hessian.ndim == 2:
            return "the inputs of an embedding are one at a time: turned, each would need all columns"
        return "one input cannot be turned" if layer.cols < 2 else None

    @staticmethod
    def points(
        layer: Layer, weight: Weight, stats: Stats, slopes: Iterable[float], params: RotatedParams | None = None
    ) -> Iterable[Point]:
        """One point for each slope."""
        params = params or RotatedParams()
        for slope in slopes:
            choice = {"method": Rotated.name, "slope": slope, **asdict(params)}
            yield made(Rotated, (layer, weight, stats), choice, rate_bits)

    @staticmethod
    def encode(layer: Layer, weight: Weight, stats: Stats, choice: Mapping[str, Json]) -> Encoded:
        """Arrays as those of `uniform`, of the turned layer; the seed is in the meta."""
        seed = int(choice["seed"])
        half = turned(stats.hessian, seed).transpose(0, 2, 1)
        hessian = turned(half, seed)
        moved = replace(stats, hessian=hessian, mean=turned(stats.mean, seed), pooled=None)
        matrix = turned(weight.matrix, seed)
        uniform = {"slope": choice["slope"], "step": choice["step"], "shrink": choice["shrink"]}
        encoded = Uniform.encode(layer, Weight(matrix, weight.bias), moved, uniform)
        return Encoded(Rotated.name, encoded.arrays, {**encoded.meta, "seed": seed})

    @staticmethod
    def decode(encoded: Encoded) -> Weight:
        """The matrix of the codes, turned back."""
        weight = Uniform.decode(encoded)
        return Weight(turned(weight.matrix, int(encoded.meta["seed"]), back=True), weight.bias)

    @staticmethod
    def parts(encoded: Encoded) -> Mapping[str, Encoded]:
        """The turned layer."""
        return {"turned": Encoded(Uniform.name, encoded.arrays, {"step": encoded.meta["step"]})}

    @staticmethod
    def joined(encoded: Encoded, new: Mapping[str, Encoded]) -> Encoded:
        """Another turned layer, by the same rotation."""
        return Encoded(Rotated.name, new["turned"].arrays, {**new["turned"].meta, "seed": encoded.meta["seed"]})

    @staticmethod
    def composed(encoded: Encoded, new: Mapping[str, Weight]) -> Weight:
        """W Q turned back."""
        one = new["turned"]
        return Weight(turned(one.matrix, int(encoded.meta["seed"]), back=True), one.bias)

    @staticmethod
    def spread(encoded: Encoded, now: Mapping[str, Weight], gradient: Weight) -> Mapping[str, Weight]:
        """The gradient, turned like the weights."""
        del now
        return {"turned": Weight(turned(gradient.matrix, int(encoded.meta["seed"])), gradient.bias)}


def blocks(cols: int) -> list[slice]:
    """Powers of two that add up to the number of columns, the largest first."""
    sizes = [1 << bit for bit in reversed(range(cols.bit_length())) if cols >> bit & 1]
    ends = np.cumsum(sizes)
    return [slice(int(end) - size, int(end)) for size, end in zip(sizes, ends, strict=True)]


def turned(values: NDArray[T], seed: int, *, back: bool = False) -> NDArray[T]:
    """values [..., cols] times Q, or times Q^T; the dtype stays."""
    result = np.array(values)
    sign = signs(result.shape[-1], seed).astype(result.dtype)
    if not back:
        result *= sign
    for block in blocks(result.shape[-1]):
        result[..., block] = hadamard(result[..., block])
    return np.asarray(result * sign if back else result, values.dtype)


def hadamard(values: Array) -> Array:
    """values [..., n] times the normalised Hadamard matrix of size n, a power of two, by butterflies."""
    n = values.shape[-1]
    shape, width = values.shape, 1
    while width < n:
        pairs = values.reshape(*shape[:-1], n // (2 * width), 2, width)
        low, high = pairs[..., 0, :], pairs[..., 1, :]
        values = np.stack([low + high, low - high], axis=-2).reshape(shape)
        width *= 2
    return np.asarray(values * values.dtype.type(1 / np.sqrt(n)))
