"""What a compression method offers: points on a layer's rate-distortion chart, and a way to make and to undo each.

A method knows numpy and this module only. The laws (tests/kits/method_laws.py, run over every registered method):
the input is never modified; `decode(encode(...))` is deterministic; the distortion measured on the decoded matrix is
the point's; the coded size does not exceed the point's rate by more than `RATE_MARGIN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from attar.types import Encoded, Json, Layer, Point, Stats, Weight

RATE_MARGIN = 1.05
"""Coded size / stated rate that the kit allows, above a fixed 64 bytes for headers and tables."""

RIVAL = "uniform"
"""The base method, which others are compared with."""
BIAS_PART = "bias"
MOST_EXPANSION = 1 << 14
"""Weights that one stored number may stand for."""


class Method(Protocol):
    """One way to store a layer.

    A method that is not for every layer has a static method `declines(layer, stats)` too: the reason why it offers
    nothing for this one, or None. `declined` asks for it.
    """

    name: ClassVar[str]
    Params: ClassVar[type]
    """A frozen dataclass with defaults; field metadata as attar/parameters.py says."""

    @staticmethod
    def points(layer: Layer, weight: Weight, stats: Stats, slopes: Iterable[float], params: Any) -> Iterable[Point]:
        """Points made for the given slopes (nats per bit); a method without a trade-off yields its one point."""
        ...

    @staticmethod
    def encode(layer: Layer, weight: Weight, stats: Stats, choice: Mapping[str, Json]) -> Encoded:
        """The layer as integers, for a choice that `points` returned."""
        ...

    @staticmethod
    def decode(encoded: Encoded) -> Weight:
        """Back to float32; pure, and able to read every file an earlier version wrote."""
        ...


@runtime_checkable
class Scaled(Protocol):
    """A method whose weights are an integer matrix times row and column factors: the decoder then makes floats at once.

    `decode` gives float32(code) * column * row, multiplied in this order.
    """

    CODES: ClassVar[str]
    """The integer matrix's name."""

    @staticmethod
    def scales(encoded: Encoded) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
        """Row factors [rows], column factors [groups, cols or 1], and the bias [rows]; the codes may be missing."""
        ...


@runtime_checkable
class Tunable(Protocol):
    """A method whose weights training can move: codes that change on a grid that stays, or floats.

    With codes it has their name, CODES. Codes that end somewhere have a static method `limit(encoded)`, the largest.
    """

    @staticmethod
    def units(encoded: Encoded) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What a weight is counted in while it is trained, broadcast to [rows, cols], and a bias, [rows] or [1]."""
        ...

    @staticmethod
    def retold(encoded: Encoded, values: NDArray[np.float32], bias: NDArray[np.float32] | None) -> Encoded:
        """The layer with other weights and bias, both in units; what has a grid rounds them."""
        ...


@runtime_checkable
class Composed(Protocol):
    """A method whose matrix is made of smaller ones, each stored by a `Tunable` method: training moves these.

    A part that is called BIAS_PART is the bias, [rows, 1], of a method that has no other place for it.
    """

    @staticmethod
    def parts(encoded: Encoded) -> Mapping[str, Encoded]:
        """The smaller layers by name."""
        ...

    @staticmethod
    def joined(encoded: Encoded, parts: Mapping[str, Encoded]) -> Encoded:
        """The layer with other parts; with its own it is the same."""
        ...

    @staticmethod
    def composed(encoded: Encoded, parts: Mapping[str, Weight]) -> Weight:
        """The layer that the parts' weights make: of decoded parts what `decode` gives, but for rounding."""
        ...

    @staticmethod
    def spread(encoded: Encoded, parts: Mapping[str, Weight], gradient: Weight) -> Mapping[str, Weight]:
        """The gradient of each part, given the layer's: the chain rule through `composed` at these parts."""
        ...


@runtime_checkable
class Rescalable(Protocol):
    """A tunable method whose steps have a common factor in the file: training may move it at no cost in bytes."""

    @staticmethod
    def rescaled(encoded: Encoded, factor: float) -> Encoded:
        """The same codes, of the bias too, with every step times a factor above 0."""
        ...


@runtime_checkable
class Expanding(Protocol):
    """A method whose arrays are smaller than the matrix that they stand for: it says its size before it is decoded."""

    @staticmethod
    def shape(encoded: Encoded) -> tuple[int, int]:
        """Rows and columns of the decoded matrix; nothing is allocated. May raise what `decode` raises."""
        ...


@runtime_checkable
class Screened(Protocol):
    """A method that can tell without encoding where RIVAL, which takes every layer, will be smaller."""

    @staticmethod
    def worth(layer: Layer, weight: Weight, stats: Stats, slopes: Sequence[float], params: Any) -> Sequence[float]:
        """Those of the slopes at which the method may win; asked where RIVAL competes too."""
        ...


def trainable(method: Any) -> bool:
    """Whether training can move what a method stores."""
    return isinstance(method, Tunable | Composed)


def declined(method: Any, layer: Layer, stats: Stats) -> str | None:
    """Why a method offers no point for a layer; None where it offers some."""
    reason: str | None = getattr(method, "declines", lambda *_: None)(layer, stats)
    return reason


def bounded(encoded: Encoded, rows: int, cols: int) -> None:
    """Raise ValueError where a matrix of this size is more than its arrays can stand for: before it is allocated."""
    numbers = sum(array.size for array in encoded.arrays.values())
    if rows * cols > (1 << 20) + MOST_EXPANSION * numbers:
        raise ValueError(f"{rows} x {cols} weights of {numbers} numbers")


def made(
    method: Any, given: tuple[Layer, Weight, Stats], choice: Mapping[str, Json], bits: Callable[[Encoded], float]
) -> Point:
    """The point of a choice, by encoding it and looking at the result; bits says what the arrays cost."""
    layer, weight, stats = given
    encoded = method.encode(layer, weight, stats, choice)
    return Point(bits(encoded), distortion(layer, weight, method.decode(encoded), stats), choice, encoded)


def distortion(layer: Layer, weight: Weight, decoded: Weight, stats: Stats) -> float:
    """Nats of output KL by the quadratic model: 1/2 sum_r s_r (e_r H e_r^T + (e_r mu + d_r)^2).

    e = w - w' per row, d = b - b' its bias error (zero where there is no bias), H the centred second moment. Where a
    coupling C of rows was measured: 1/2 sum_rt C_rt sqrt(s_r s_t) (e_r H e_t^T + (e_r mu + d_r) (e_t mu + d_t)).
    """
    error = (weight.matrix.astype(np.float64) - decoded.matrix).reshape(layer.groups, -1, layer.cols)
    offset = np.einsum("grc,gc->gr", error, stats.mean).ravel()
    if weight.bias is not None and decoded.bias is not None:
        offset = offset + (weight.bias.astype(np.float64) - decoded.bias)
    if stats.coupling is not None:
        return _coupled(error[0], offset, stats)
    if stats.hessian.ndim == 2:
        quadratic = np.einsum("grc,gc->gr", error**2, stats.hessian).ravel()
    else:
        quadratic = np.einsum("grc,grc->gr", error @ stats.hessian, error).ravel()
    return float(0.5 * np.sum(row_sensitivity(layer, stats) * (quadratic + offset**2)))


def _coupled(error: NDArray[np.float64], offset: NDArray[np.float64], stats: Stats) -> float:
    """The distortion of a layer of one group whose rows are coupled; error [rows, cols], offset [rows]."""
    assert stats.coupling is not None
    root = np.ones(len(error)) if stats.sensitivity is None else np.sqrt(stats.sensitivity)
    error, offset = error * root[:, None], offset * root
    seen = error * stats.hessian[0] if stats.hessian.ndim == 2 else error @ stats.hessian[0]
    coupling = stats.coupling.astype(np.float64)
    return float(0.5 * (np.vdot(coupling @ error, seen) + offset @ coupling @ offset))


def row_sensitivity(layer: Layer, stats: Stats) -> NDArray[np.float64]:
    """[rows], ones where none was measured."""
    if stats.sensitivity is None:
        return np.ones(layer.rows)
    return stats.sensitivity
