"""Uniform codes and a product of low rank, added up: what a grid does badly, a few singular vectors may do well.

Sources: the error of the codes is factored (LoRC of ZeroQuant-V2, Yao et al. 2023; LQER, Zhang et al. 2024, whitened by
the activations), or the matrix first and the codes hold the rest (LQ-LoRA, Guo et al. 2024; SVDQuant, Li et al. 2025).
The factors are those of the low-rank method, quantised with the Hessians that they see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

import numpy as np

from attar.methods.base import made
from attar.methods.lowrank import Lowrank, paying_rank, whitened
from attar.methods.rates import coded_bits
from attar.methods.uniform import Uniform
from attar.types import Encoded, Json, Layer, Point, Stats, Weight

FIRST = ("factors", "codes")


@dataclass(frozen=True)
class ResidualParams:
    """What can be tuned."""

    rank: int = field(
        default=0, metadata={"help": "rank of the product; 0: by the slope", "low": 0, "high": 65536, "tune": False}
    )
    first: str = field(default="", metadata={"help": "factors or codes; empty: both compete", "choices": ("", *FIRST)})
    coarser: float = field(
        default=1.5,
        metadata={
            "help": "slope of codes that are first, over the plan's",
            "low": 1.0,
            "high": 16.0,
            "tune": (1.0, 6.0),
        },
    )
    step: float = field(
        default=1.5,
        metadata={"help": "step over the high-resolution optimum", "low": 0.3, "high": 4.0, "tune": (0.8, 2.5)},
    )
    shrink: float = field(
        default=0.2, metadata={"help": "shrinkage of H to its diagonal at 2,000 samples", "low": 0.0, "high": 1.0}
    )


class Residual:
    """Codes plus factors; see the module's docstring."""

    name: ClassVar[str] = "residual"
    Params: ClassVar[type] = ResidualParams

    @staticmethod
    def declines(layer: Layer, stats: Stats) -> str | None:
        """As the low-rank method."""
        return Lowrank.declines(layer, stats)

    @staticmethod
    def points(
        layer: Layer, weight: Weight, stats: Stats, slopes: Iterable[float], params: ResidualParams | None = None
    ) -> Iterable[Point]:
        """For each slope: rank 1 in each order; with factors first also a quarter and half of what pays alone."""
        params = params or ResidualParams()
        values = whitened(layer, weight, stats, params.shrink).values
        for slope in slopes:
            paying = paying_rank(layer, values, slope)
            ranks = (params.rank,) if params.rank else sorted({1, -(-paying // 4), -(-paying // 2)})
            for first in (params.first,) if params.first else FIRST:
                for rank in ranks if first == "factors" else ranks[:1]:
                    own = {"method": Residual.name, "slope": slope, "rank": rank, "first": first}
                    yield made(Residual, (layer, weight, stats), {**asdict(params), **own}, coded_bits)

    @staticmethod
    def encode(layer: Layer, weight: Weight, stats: Stats, choice: Mapping[str, Json]) -> Encoded:
        """The arrays of `uniform` and of `lowrank`; raises ValueError for an order that there is not."""
        form = {name: choice[name] for name in ("slope", "step", "shrink")}
        thin = {**form, "rank": choice["rank"]}
        if choice["first"] == "codes":
            coarse = {**form, "slope": float(choice["slope"]) * float(choice["coarser"])}
            codes = _without(Uniform.encode(layer, weight, stats, coarse), "bias")
            rest = Weight(weight.matrix - Uniform.decode(codes).matrix, weight.bias)
            factors = Lowrank.encode(layer, rest, stats, thin)
        elif choice["first"] == "factors":
            factors = _without(Lowrank.encode(layer, weight, stats, thin), "left.bias")
            rest = Weight(weight.matrix - Lowrank.decode(factors).matrix, weight.bias)
            codes = Uniform.encode(layer, rest, stats, form)
        else:
            raise ValueError(f"first: it must be one of {', '.join(FIRST)}. Received {choice['first']!r}.")
        return Encoded(Residual.name, {**codes.arrays, **factors.arrays}, {**codes.meta, **factors.meta})

    @staticmethod
    def shape(encoded: Encoded) -> tuple[int, int]:
        """As the codes."""
        rows, cols = encoded.arrays["codes"].shape
        return (rows, cols) if Lowrank.shape(encoded) == (rows, cols) else (0, 0)

    @staticmethod
    def decode(encoded: Encoded) -> Weight:
        """The sum of both; raises ValueError where they are of two sizes."""
        codes, factors = Uniform.decode(encoded), Lowrank.decode(encoded)
        if codes.matrix.shape != factors.matrix.shape:
            raise ValueError(f"codes of {codes.matrix.shape}, a product of {factors.matrix.shape}")
        return Weight(np.asarray(codes.matrix + factors.matrix), codes.bias if factors.bias is None else factors.bias)

    @staticmethod
    def parts(encoded: Encoded) -> Mapping[str, Encoded]:
        """The codes, and both factors."""
        own = {name: array for name, array in encoded.arrays.items() if "." not in name}
        return {"codes": Encoded(Uniform.name, own, {"step": encoded.meta["step"]}), **Lowrank.parts(encoded)}

    @staticmethod
    def joined(encoded: Encoded, new: Mapping[str, Encoded]) -> Encoded:
        """Other codes and factors."""
        codes, factors = new["codes"], Lowrank.joined(encoded, new)
        return Encoded(Residual.name, {**codes.arrays, **factors.arrays}, {**codes.meta, **factors.meta})

    @staticmethod
    def composed(encoded: Encoded, new: Mapping[str, Weight]) -> Weight:
        """The sum."""
        codes, factors = new["codes"], Lowrank.composed(encoded, new)
        return Weight(codes.matrix + factors.matrix, codes.bias if factors.bias is None else factors.bias)

    @staticmethod
    def spread(encoded: Encoded, now: Mapping[str, Weight], gradient: Weight) -> Mapping[str, Weight]:
        """The codes see the gradient itself."""
        return {"codes": gradient, **Lowrank.spread(encoded, now, gradient)}


def _without(encoded: Encoded, name: str) -> Encoded:
    """Without one array: what comes second has the bias for both."""
    return replace(encoded, arrays={key: array for key, array in encoded.arrays.items() if key != name})
