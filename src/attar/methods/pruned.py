"""Pruning jointly with quantisation: chosen weights are zero, the others on the uniform grid, errors of both fed back.

Sources: SparseGPT (Frantar and Alistarh 2023), Wanda (Sun et al. 2024), Optimal Brain Surgeon (Hassibi and Stork 1993);
the criteria and patterns are in masks.py, the grid and the feedback are the uniform method's. The mask is not stored:
zeros are codes, and the coder's tables make them cheap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

import numpy as np

from attar.methods import grid, masks
from attar.methods.base import made
from attar.methods.uniform import F32, Uniform, pack, rate_bits, solve
from attar.types import Encoded, Json, Layer, Point, Stats, Weight

PATTERNS = ("", "free", "1:2", "1:4", "2:4", "2:8", "4:8")
SURVIVOR_BITS = 5.0
"""What a weight costs that is not zero, its sign and place included: below slope times this it is not worth it."""


@dataclass(frozen=True)
class PrunedParams:
    """What can be tuned; a share or a pattern that is not given is found for each slope."""

    step: float = field(
        default=1.5,
        metadata={"help": "step over the high-resolution optimum", "low": 0.3, "high": 4.0, "tune": (0.8, 2.5)},
    )
    shrink: float = field(
        default=0.2, metadata={"help": "shrinkage of H to its diagonal at 2,000 samples", "low": 0.0, "high": 1.0}
    )
    criterion: str = field(default="obs", metadata={"help": "obs, wanda or magnitude", "choices": masks.CRITERIA})
    share: float = field(
        default=0.0,
        metadata={"help": "share of zeros where free; 0: from the slope", "low": 0.0, "high": 1.0, "tune": (0.0, 0.95)},
    )
    pattern: str = field(
        default="", metadata={"help": "free, or N:M; empty: free, 2:4 and 4:8 compete", "choices": PATTERNS}
    )


class Pruned:
    """Zeros in chosen places, integer codes elsewhere; see the module's docstring."""

    name: ClassVar[str] = "pruned"
    CODES: ClassVar[str] = "codes"
    Params: ClassVar[type] = PrunedParams

    @staticmethod
    def points(
        layer: Layer, weight: Weight, stats: Stats, slopes: Iterable[float], params: PrunedParams | None = None
    ) -> Iterable[Point]:
        """One point for each slope and pattern."""
        params = params or PrunedParams()
        for slope in slopes:
            for pattern in (params.pattern,) if params.pattern else ("free", "2:4", "4:8"):
                choice = {"method": Pruned.name, "slope": slope, **asdict(params), "pattern": pattern}
                yield made(Pruned, (layer, weight, stats), choice, rate_bits)

    @staticmethod
    def encode(layer: Layer, weight: Weight, stats: Stats, choice: Mapping[str, Json]) -> Encoded:
        """Arrays as those of `uniform`; raises ValueError for an unknown criterion or pattern."""
        params = PrunedParams(**{k: v for k, v in choice.items() if k not in ("method", "slope")})
        slope = float(choice["slope"])
        order = masks.by_runs(grid.regularised(layer, weight, stats, params.shrink), masks.parse(params.pattern)[1])
        step = grid.optimal_step(slope, params.step)
        problem = grid.pose(layer, weight, stats, step, params.shrink, order=order)
        share = params.share or masks.share_below(problem, slope * SURVIVOR_BITS)
        zeros = masks.choose(problem, params.criterion, share, params.pattern)
        codes = grid.in_place(solve(problem, slope, zeros=zeros), problem.order)
        return Encoded(Pruned.name, *pack(layer, weight, stats, codes, problem))

    @staticmethod
    def decode(encoded: Encoded) -> Weight:
        """As `uniform`."""
        return Uniform.decode(encoded)

    @staticmethod
    def scales(encoded: Encoded) -> tuple[F32, F32, F32 | None]:
        """As `uniform`."""
        return Uniform.scales(encoded)

    @staticmethod
    def units(encoded: Encoded) -> tuple[F32, F32]:
        """As `uniform`, but nothing where a weight is zero: it stays so."""
        unit, row = Uniform.units(encoded)
        return np.asarray(unit * (encoded.arrays["codes"] != 0)), row

    @staticmethod
    def rescaled(encoded: Encoded, factor: float) -> Encoded:
        """As `uniform`."""
        return replace(Uniform.rescaled(encoded, factor), method=Pruned.name)

    @staticmethod
    def retold(encoded: Encoded, values: F32, bias: F32 | None) -> Encoded:
        """The nearest codes where weights are."""
        kept = np.where(encoded.arrays["codes"] != 0, values, np.float32(0))
        return replace(Uniform.retold(encoded, kept, bias), method=Pruned.name)
