"""Weights of dense layers and tables as integers that runtimes hold: 8 bits a row, or 4 bits in blocks.

4 bits: codes -8 .. 7 times a scale for each block of a row. The largest weight of a block gets the code -8, so that
scales may be negative (llama.cpp's Q4_0); those of a row are whole multiples of one unit (as VS-Quant, Dai et al. 2021,
section 3.2), so that a code times its multiple is an 8-bit integer. Rounding is by error feedback and coordinate
descent on the second moments of the inputs (methods/fixed.py), and the mean error is taken off the bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.methods import grid
from attar.methods.columns import fed_back, swept
from attar.methods.fixed import SHRINK, SWEEPS, Fixed
from attar.methods.grid import F32
from attar.types import Array, Encoded, Layer, Stats, Weight

CHOICE = {"bits": 8, "part": 0, "rounding": "descent", "range": "mse", "alpha": 0.0}
LOW, HIGH = -8, 7
MOST = 15
"""The largest multiple: 15 times -8 fits 8 bits."""
REACHES = np.linspace(0.5, 1.0, 21)
"""Magnitudes that stand for the code -8, as shares of the block's largest, of which the best is taken."""
UNITS = np.linspace(1.0, 1.3, 13) / MOST
"""Units of a row that are tried, relative to its largest scale."""
Codes = NDArray[np.int8]


@dataclass(frozen=True)
class Packed:
    """W[rows, cols] = codes * unit [rows] * multiples [rows, parts], a part being `block` columns; bits are 4 or 8.

    With 8 bits a row is one part and its multiple is 1.
    """

    bits: int
    block: int
    codes: Codes
    multiples: Codes
    unit: F32

    @property
    def matrix(self) -> F32:
        """W', float32."""
        spread = np.repeat(self.multiples, self.block, axis=1)[:, : self.codes.shape[1]]
        return np.asarray(self.codes.astype(np.float32) * spread * self.unit[:, None], np.float32)


def packed(layer: Layer, weight: Weight, stats: Stats, bits: int, block: int = 0) -> tuple[Packed, Weight]:
    """A layer as integers, and the weight and bias that they stand for; block is that of 4 bits."""
    if bits == 8:
        rounded, scales = on_grid(layer, weight, stats)
        return in_bytes(layer, rounded, scales), rounded
    hessian = grid.regularised(layer, weight, stats, SHRINK)
    worth = np.repeat(grid.diagonal(hessian), layer.rows // layer.groups, axis=0)
    unit, multiples = _scales(weight.matrix, worth, block)
    steps = np.repeat(multiples * unit[:, None], block, axis=1)[:, : layer.cols].astype(np.float32)
    codes = _rounded(layer, np.array(weight.matrix), hessian, steps)
    made = Packed(4, block, codes, multiples, unit)
    bias = weight.bias
    if bias is not None:
        lost = (weight.matrix - made.matrix).reshape(layer.groups, -1, layer.cols).astype(np.float64)
        bias = np.asarray(bias + np.einsum("grc,gc->gr", lost, stats.mean).ravel(), np.float32)
    return made, Weight(made.matrix, bias)


def on_grid(layer: Layer, weight: Weight, stats: Stats) -> tuple[Weight, Array]:
    """The weight as 8-bit codes times scales [rows], and the scales; see the module's docstring."""
    return grid_of(Fixed.encode(layer, weight, stats, CHOICE))


def grid_of(encoded: Encoded) -> tuple[Weight, Array]:
    """The weight that such codes stand for, and its scales [rows]."""
    units, _ = Fixed.units(encoded)
    return Fixed.decode(encoded), np.maximum(np.asarray(units[:, 0], np.float32), np.float32(1e-30))


def in_bytes(layer: Layer, rounded: Weight, scales: Array) -> Packed:
    """A weight that is rounded already, as codes of 8 bits."""
    codes = np.asarray(np.rint(rounded.matrix / scales[:, None]), np.int8)
    return Packed(8, layer.cols, codes, np.ones((layer.rows, 1), np.int8), np.asarray(scales, np.float32))


def table(values: Array, bits: int, block: int) -> tuple[Codes, F32]:
    """A table [n, width] as codes of so many bits and a scale for each block of a row [n, blocks]: nearest values."""
    high = (1 << (bits - 1)) - 1
    blocks = _in_blocks(np.asarray(values, np.float32), block)
    scales, _ = _best_scales(blocks, np.ones_like(blocks), -high - 1, high)
    # The file holds float16 scales.
    scales = np.clip(scales, -65504, 65504).astype(np.float16).astype(np.float32)
    scales[scales == 0] = 2.0**-14
    codes = np.clip(np.rint(blocks / scales[..., None]), -high - 1, high).astype(np.int8)
    return codes.reshape(len(values), -1)[:, : values.shape[1]], scales


def _in_blocks(values: F32, block: int) -> F32:
    """[rows, cols] as [rows, parts, block], filled up with zeros."""
    parts = -(-values.shape[1] // block)
    room = np.zeros((len(values), parts * block), np.float32)
    room[:, : values.shape[1]] = values
    return room.reshape(len(values), parts, block)


def _best_scales(blocks: F32, worth: F32, low: int, high: int) -> tuple[F32, F32]:
    """The scale of each block [rows, parts] with the least weighted squared error, and that error."""
    place = np.abs(blocks).argmax(-1)[..., None]
    largest = np.take_along_axis(blocks, place, -1)[..., 0]
    best = np.full(largest.shape, np.inf, np.float32)
    scales = np.ones_like(largest)
    for share in REACHES:
        tried = largest * np.float32(share / low)
        tried = np.where(np.abs(tried) < 1e-30, np.float32(1e-30), tried)
        loss = _loss(blocks, worth, tried, low, high)
        scales, best = np.where(loss < best, tried, scales), np.minimum(loss, best)
    return np.asarray(scales, np.float32), np.asarray(best, np.float32)


def _loss(blocks: F32, worth: F32, scales: F32, low: int, high: int) -> F32:
    """Weighted squared error of each block [rows, parts]."""
    step = scales[..., None]
    return np.asarray((worth * np.square(np.clip(np.rint(blocks / step), low, high) * step - blocks)).sum(-1))


def _scales(matrix: F32, worth: Array, block: int) -> tuple[F32, Codes]:
    """The unit of each row and the multiples of its blocks with the least weighted squared error."""
    blocks, weights = _in_blocks(matrix, block), _in_blocks(np.asarray(worth, np.float32), block)
    wanted, _ = _best_scales(blocks, weights, LOW, HIGH)
    top = np.maximum(np.abs(wanted).max(1), np.float32(1e-30))
    best = np.full(len(matrix), np.inf, np.float32)
    unit, multiples = top / np.float32(MOST), np.ones(wanted.shape, np.int8)
    for share in UNITS:
        tried = top * np.float32(share)
        whole = np.clip(np.rint(wanted / tried[:, None]), -MOST, MOST)
        whole = np.where(whole == 0, np.where(wanted < 0, -1, 1), whole).astype(np.int8)
        loss = _loss(blocks, weights, whole * tried[:, None], LOW, HIGH).sum(1)
        better = loss < best
        unit, best = np.where(better, tried, unit), np.where(better, loss, best)
        multiples[better] = whole[better]
    return np.asarray(unit, np.float32), multiples


def _rounded(layer: Layer, live: F32, hessian: Array, steps: F32) -> Codes:
    """Codes [rows, cols], LOW .. HIGH."""
    codes = np.clip(np.rint(live / steps), LOW, HIGH)
    if hessian.ndim == 2:
        return np.asarray(codes, np.int8)
    h = grid.ordered(hessian)
    value, step = (
        np.ascontiguousarray(np.take_along_axis(grid.stacked(layer, one), h.order[:, :, None], 1))
        for one in (live, steps)
    )

    def decide(x: F32, j: int) -> F32:
        return np.asarray((np.clip(np.rint(x[:, 0] / step[:, j]), LOW, HIGH) * step[:, j])[:, None])

    stored = fed_back(value, h.rows, decide)
    dense = np.ascontiguousarray(h.hessian, np.float32)
    for _ in range(SWEEPS):
        stored = swept(value, stored, dense, decide)
    return np.asarray(grid.in_place(np.rint(stored / step), h.order), np.int8)
