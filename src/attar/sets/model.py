"""What a set of images is coded with: predictors, levels and tables, all of them integers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.coding import kernel
from attar.errors import FormatError
from attar.sets.geometry import Geometry
from attar.types import Array

REGIMES, PAIRS, SYMBOLS, SLOTS = 16, 4, 256, 4096
MOST_CONTEXTS, MOST_TABLES, MOST_STEPS = 65536, 255, 127
BIAS, SPREAD_BIAS = 8, 4
"""What the last weight of a predictor, and of an expected error, is a factor of."""

KINDS = {
    "weight": ("int16", 2), "spread": ("int16", 2), "regime": ("uint8", 2), "mean": ("int16", 1),
    "energy": ("int16", 1), "side": ("int16", 1), "table": ("uint8", 2), "frequency": ("uint16", 2),
}  # fmt: skip
"""Dtypes and axes of a model's arrays in a file."""


def sites_kernel() -> ModuleType:
    """The native code, or its twin."""
    found = kernel.kernel()
    return found if hasattr(found, "SiteModel") else import_module("attar.sets.twin")


@dataclass(frozen=True)
class Model:
    """The parts of a file's model.

    weight [zones, taps + 1, regimes], in 1/64: the predictor; the last tap is the constant 8.
    spread [zones, errors + pairs + 1], in 1/64: the expected error; the last one is the constant 4.
    regime [3, 2]: thresholds of the first and the second tap; a regime is 4 times the first's level plus the second's.
    mean, energy, side: rising thresholds; a level is the number of them that are reached.
    table [energies, means, sides, sides]: a context's table.
    frequency [tables, 256]: of 4,096 slots.
    """

    weight: NDArray[np.int16]
    spread: NDArray[np.int16]
    regime: NDArray[np.uint8]
    mean: NDArray[np.int16]
    energy: NDArray[np.int16]
    side: NDArray[np.int16]
    table: NDArray[np.uint8]
    frequency: NDArray[np.uint16]

    def arrays(self) -> dict[str, Array]:
        """By name, as they are written."""
        zones = len(self.weight)
        return {
            "weight": self.weight.reshape(zones, -1), "spread": self.spread, "regime": self.regime, "mean": self.mean,
            "energy": self.energy, "side": self.side, "table": self.table.reshape(self.contexts[0], -1),
            "frequency": self.frequency,
        }  # fmt: skip

    @property
    def contexts(self) -> tuple[int, int, int, int]:
        """Levels of energy, mean, first side, second side."""
        sides = len(self.side) + 1
        return len(self.energy) + 1, len(self.mean) + 1, sides, sides

    def native(self, place: Geometry) -> Any:
        """The kernel's model for images of this geometry; raises Malformed."""
        # Without regimes of its own a zone has the same weights in all.
        weight = np.ascontiguousarray(np.broadcast_to(self.weight, (*self.weight.shape[:2], REGIMES)))
        zone = np.arange(place.sites, dtype=np.int32) if len(weight) == place.sites else place.channel
        parts = (self.spread, self.regime, self.mean, self.energy, self.side, self.table)
        return sites_kernel().SiteModel(
            place.tap, place.error, np.ascontiguousarray(zone), weight, *map(np.ascontiguousarray, parts)
        )


def model_from(arrays: Mapping[str, Array], place: Geometry) -> Model:
    """A file's model, every shape and value checked; raises FormatError."""
    _hold(set(arrays) == set(KINDS), "its arrays must be " + ", ".join(KINDS), ", ".join(sorted(arrays)))
    for name, (dtype, axes) in KINDS.items():
        right = arrays[name].dtype.name == dtype and arrays[name].ndim == axes
        _hold(right, f"{name} must be {dtype} of {axes} axes", f"{arrays[name].dtype} {arrays[name].shape}")
    weight, spread, frequency, table = (arrays[name] for name in ("weight", "spread", "frequency", "table"))
    zones, taps, errors = len(weight), place.tap.shape[1] + 1, place.error.shape[1] + PAIRS + 1
    _hold(zones in (place.sites, int(place.channel.max()) + 1), "zones are sites or channels", str(zones))
    right = weight.shape[1] in (taps, taps * REGIMES) and spread.shape == (zones, errors)
    _hold(
        right and arrays["regime"].shape == (3, 2), "predictors must fit the images", f"{weight.shape} {spread.shape}"
    )
    for name in ("mean", "energy", "side"):
        right = arrays[name].size <= MOST_STEPS and bool((np.diff(arrays[name].astype(np.int64)) > 0).all())
        _hold(right, f"{name} must rise, in {MOST_STEPS} steps at most", f"{arrays[name].size} steps")
    sides = arrays["side"].size + 1
    contexts = (arrays["energy"].size + 1, arrays["mean"].size + 1, sides, sides)
    right = table.size == math.prod(contexts) <= MOST_CONTEXTS and len(table) == contexts[0]
    _hold(right, "each context must have a table", f"{table.shape} for {contexts}")
    right = 0 < len(frequency) <= MOST_TABLES and frequency.shape[1] == SYMBOLS
    right = right and bool((frequency.sum(1, dtype=np.int64) == SLOTS).all())
    _hold(right, f"frequencies of {SYMBOLS} symbols must sum to {SLOTS}", str(frequency.shape))
    _hold(int(table.max()) < len(frequency), "a context must name a table that exists", str(len(frequency)))
    return Model(weight.reshape(zones, taps, -1), spread, arrays["regime"], arrays["mean"], arrays["energy"],
                 arrays["side"], table.reshape(contexts), frequency)  # fmt: skip


def _hold(right: bool, rule: str, received: str) -> None:
    if not right:
        raise FormatError(f"set model: {rule}. Received {received}. Fetch the file again.")
