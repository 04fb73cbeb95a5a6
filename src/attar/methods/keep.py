"""Storing a layer as it is: lossless float32, or float16 where every value survives. For what must stay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attar.methods.base import distortion
from attar.types import Array, Encoded, Json, Layer, Point, Stats, Weight

HALF_PRECISION = 2.0**-10
"""Largest relative error of a value that may be stored as float16."""


@dataclass(frozen=True)
class KeepParams:
    """Which of the two to offer."""

    half: bool = field(default=True, metadata={"help": "offer float16 beside float32", "tune": False})


class Keep:
    """The weights as floats."""

    name: ClassVar[str] = "keep"
    Params: ClassVar[type] = KeepParams

    @staticmethod
    def points(
        layer: Layer, weight: Weight, stats: Stats, slopes: Iterable[float], params: KeepParams | None = None
    ) -> Iterable[Point]:
        """One point for float32 and one for float16, whatever the slopes."""
        del slopes
        dtypes = ["float32"] + ["float16"] * ((params or KeepParams()).half and _fits_half(weight))
        for dtype in dtypes:
            choice = {"method": Keep.name, "dtype": dtype}
            encoded = Keep.encode(layer, weight, stats, choice)
            bits = 8.0 * sum(array.nbytes for array in encoded.arrays.values())
            yield Point(bits, distortion(layer, weight, Keep.decode(encoded), stats), choice, encoded)

    @staticmethod
    def encode(layer: Layer, weight: Weight, stats: Stats, choice: Mapping[str, Json]) -> Encoded:
        """The matrix and the bias in the dtype of the choice."""
        del layer, stats
        dtype = np.dtype(str(choice["dtype"]))
        arrays: dict[str, Array] = {"matrix": weight.matrix.astype(dtype)}
        if weight.bias is not None:
            arrays["bias"] = weight.bias.astype(dtype)
        return Encoded(Keep.name, arrays)

    @staticmethod
    def decode(encoded: Encoded) -> Weight:
        """Back to float32."""
        bias = encoded.arrays.get("bias")
        matrix = np.asarray(encoded.arrays["matrix"], np.float32)
        return Weight(matrix, None if bias is None else np.asarray(bias, np.float32))

    @staticmethod
    def units(encoded: Encoded) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A sixteenth of the weights' root mean square: about what a step is where there are steps."""
        size = float(np.sqrt(np.square(encoded.arrays["matrix"], dtype=np.float32).mean())) / 16
        unit = np.full(1, size or 1.0, np.float32)
        return unit, unit

    @staticmethod
    def retold(encoded: Encoded, values: NDArray[np.float32], bias: NDArray[np.float32] | None) -> Encoded:
        """The floats themselves, in the dtype that they had."""
        unit, _ = Keep.units(encoded)
        arrays: dict[str, Array] = {"matrix": (values * unit).astype(encoded.arrays["matrix"].dtype)}
        if bias is not None:
            arrays["bias"] = (bias * unit).astype(encoded.arrays["bias"].dtype)
        return Encoded(Keep.name, arrays, encoded.meta)


def narrowed(array: Array) -> Array:
    """The array as float16 where every value survives (see HALF_PRECISION), otherwise as it is."""
    if array.dtype not in (np.float32, np.float64) or not _survives(array):
        return array
    return array.astype(np.float16)


def _fits_half(weight: Weight) -> bool:
    """Whether neither the matrix nor the bias overflows float16 (small values may vanish: the distortion says so)."""
    biggest = max(float(np.abs(a).max(initial=0)) for a in (weight.matrix, weight.bias) if a is not None)
    return biggest < float(np.finfo(np.float16).max)


def _survives(array: Array) -> bool:
    """Whether float16 holds every value to HALF_PRECISION."""
    with np.errstate(over="ignore", under="ignore"):
        error = np.abs(array.astype(np.float16).astype(np.float64) - array)
    return bool(np.all(error <= HALF_PRECISION * np.abs(array)))
