"""Weights rounded onto a block format: scales searched by what errors cost, codes by error feedback.

Scales: for every part some reaches, each refined by weighted least squares (as llama.cpp's make_qkx2_quants and
make_qx_quants do, here weighted by the inputs' second moments and over both signs), then some common steps for each
block. Codes: GPTQ (Frantar et al. 2023) in the order of falling pivots, and sweeps of coordinate descent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.exports.gguf.blocks import F32, U8, Codes, Format, Held
from attar.methods import grid
from attar.methods.columns import fed_back, swept
from attar.run.executor import map_in_order
from attar.types import Layer, Stats, Weight

SHRINK = 0.2
SWEEPS = 2
REACHES = np.linspace(0.62, 1.08, 24, dtype=np.float32)
"""Reaches of a part that are tried, as shares of its largest weight."""
FACTORS = (1.0, 0.97, 0.94, 1.03)
"""Common steps of a block that are tried, in that of its largest scale."""
ROWS = 4096
"""Rows at a time."""
CHUNK = 1 << 10
"""Blocks at a time: what a search of their scales takes stays in the cache."""


def nearest(form: Format, matrix: F32, worth: F32 | None = None) -> tuple[Held, Codes]:
    """Scales by search and nearest codes [n, size] of a matrix [rows, cols]; worth [cols] weighs squared errors."""
    values = np.ascontiguousarray(matrix, np.float32).reshape(-1, form.size)
    weights = np.ones(matrix.shape[1], np.float32) if worth is None else np.asarray(worth, np.float32)
    weights = np.maximum(weights / max(float(weights.mean()), 1e-30), np.float32(1e-6))
    per_row = weights.reshape(-1, form.size)

    def chunk(start: int) -> tuple[Held, Codes]:
        part = values[start : start + CHUNK]
        one = fitted(form, part, per_row[np.arange(start, start + len(part)) % len(per_row)])
        return one, _codes(form, part, one)

    held, codes = zip(*map_in_order(chunk, range(0, len(values), CHUNK)), strict=True)
    arrays = tuple(np.concatenate(each) for each in zip(*(one.arrays for one in held), strict=True))
    both = Held(np.concatenate([one.scale for one in held]), np.concatenate([one.offset for one in held]), arrays)
    return both, np.concatenate(codes)


def fitted(form: Format, values: F32, weights: F32) -> Held:
    """What blocks [n, size] hold so that the weighted squared error of nearest codes is small."""
    parts = (len(values), -1, form.part)
    v, w = values.reshape(parts), weights.reshape(parts)
    scale, offset = _asymmetric(form, v, w) if form.offsets else _symmetric(form, v, w)
    best = form.scales(scale, offset, np.ones(len(values), np.float32))
    if form.spread == 1:
        return best
    least = _cost(form, values, weights, best)
    for factor in FACTORS[1:]:
        tried = form.scales(scale, offset, np.full(len(values), factor, np.float32))
        cost = _cost(form, values, weights, tried)
        better = cost < least
        least = np.where(better, cost, least)
        best = Held(
            np.where(better[:, None], tried.scale, best.scale),
            np.where(better[:, None], tried.offset, best.offset),
            tuple(np.where(better[:, None], a, b) for a, b in zip(tried.arrays, best.arrays, strict=True)),
        )
    return best


def _cost(form: Format, values: F32, weights: F32, held: Held) -> F32:
    """Weighted squared error of each block [n]."""
    error = values - _decoded(form, held, _codes(form, values, held))
    return np.asarray((weights * error * error).sum(1), np.float32)


def _wide(form: Format, held: Held) -> tuple[F32, F32]:
    """Scale and offset of every weight [n, size]."""
    return np.repeat(held.scale, form.part, 1), np.repeat(held.offset, form.part, 1)


def _codes(form: Format, values: F32, held: Held) -> Codes:
    scale, offset = _wide(form, held)
    counts = np.divide(values - offset, scale, out=np.zeros_like(values), where=scale != 0)
    return np.asarray(np.clip(np.rint(counts), form.low, form.high), np.int16)


def _decoded(form: Format, held: Held, codes: Codes) -> F32:
    scale, offset = _wide(form, held)
    return np.asarray(scale * codes + offset, np.float32)


def _symmetric(form: Format, v: F32, w: F32) -> tuple[F32, F32]:
    """Scales [n, parts] of either sign, without offsets."""
    most = np.abs(v).max(2)
    best, least = np.zeros_like(most), (w * v * v).sum(2)
    for sign in (-1.0, 1.0) if form.high != -form.low else (1.0,):
        for reach in REACHES:
            scale = most * np.float32(sign * reach / form.high)
            q = _counts(v, scale, form)
            total = (w * q * q).sum(2)
            scale = np.divide((w * q * v).sum(2), total, out=scale, where=total > 0)
            error = v - scale[..., None] * _counts(v, scale, form)
            cost = (w * error * error).sum(2)
            best, least = np.where(cost < least, scale, best), np.minimum(cost, least)
    return np.asarray(best, np.float32), np.zeros_like(most)


def _counts(v: F32, scale: F32, form: Format) -> F32:
    q = np.divide(v, scale[..., None], out=np.zeros_like(v), where=scale[..., None] != 0)
    return np.clip(np.rint(q), form.low, form.high)


def _asymmetric(form: Format, v: F32, w: F32) -> tuple[F32, F32]:
    """Scales [n, parts], zero or more, and offsets, which are zero or less where scales are stored together."""
    free = form.spread == 1
    low, high = v.min(2), v.max(2)
    if not free:
        low = np.minimum(low, 0)
    best_s, best_o = np.zeros_like(low), low.copy()
    least = (w * np.square(v - low[..., None])).sum(2)
    sw, swv = w.sum(2), (w * v).sum(2)
    for reach in REACHES:
        scale, offset = (high - low) * np.float32(reach / form.high), low * np.float32(min(reach, 1.0))
        q = _counts(v - offset[..., None], scale, form)
        sq, sqq, sqv = (w * q).sum(2), (w * q * q).sum(2), (w * q * v).sum(2)
        det = sw * sqq - sq * sq
        good = det > 1e-12 * sw * np.maximum(sqq, 1e-30)
        s = np.divide(sw * sqv - sq * swv, det, out=scale.copy(), where=good)
        o = np.where(good, (swv - s * sq) / sw, offset)
        if not free:
            alone = np.divide(sqv, sqq, out=s.copy(), where=sqq > 0)
            s, o = np.where(o > 0, alone, s), np.minimum(o, 0)
        s = np.maximum(s, 0)
        error = v - (s[..., None] * _counts(v - o[..., None], s, form) + o[..., None])
        cost = (w * error * error).sum(2)
        better = cost < least
        best_s, best_o, least = np.where(better, s, best_s), np.where(better, o, best_o), np.minimum(cost, least)
    return np.asarray(best_s, np.float32), np.asarray(best_o, np.float32)


def rounded(form: Format, layer: Layer, weight: Weight, stats: Stats) -> tuple[U8, F32]:
    """The bytes [rows, bytes of a row] of a layer's matrix, and the matrix that they stand for."""
    return packed(form, *rounding_of(form, layer, weight, stats), weight.matrix.shape)


def rounding_of(form: Format, layer: Layer, weight: Weight, stats: Stats) -> tuple[Held, Codes]:
    """Scales, and codes [n, size], of a layer's matrix, whose rows are whole blocks.

    Where H is diagonal codes are the nearest ones.
    """
    matrix = np.asarray(weight.matrix, np.float32)
    hessian = grid.regularised(layer, weight, stats, SHRINK)
    held, codes = nearest(form, matrix, np.asarray(grid.diagonal(hessian)[0], np.float32))
    if hessian.ndim == 3:
        h, per = grid.ordered(hessian), layer.cols // form.size
        wide = [one.reshape(matrix.shape) for one in _wide(form, held)]
        for start in range(0, layer.rows, ROWS):  # rows know nothing of each other
            part = slice(start, start + ROWS)
            found = _fed_back(form, layer, (matrix[part], wide[0][part], wide[1][part]), h)
            codes[start * per : (start + ROWS) * per] = found
    return held, codes


def fields(held: Held, rows: int) -> NDArray[Any]:
    """The first array of what blocks hold, [rows, blocks of a row]."""
    return held.arrays[0].reshape(rows, -1)


def packed(form: Format, held: Held, codes: Codes, shape: tuple[int, ...]) -> tuple[U8, F32]:
    """The bytes [rows, bytes of a row] of codes [n, size], and the matrix that they stand for."""
    data = form.pack(held, codes)
    return data.reshape(shape[0], -1), _decoded(form, held, codes).reshape(shape)


def _fed_back(form: Format, layer: Layer, given: tuple[F32, F32, F32], h: grid.Ordered) -> Codes:
    """Codes [n, size] of (matrix, scales, offsets) [rows, cols], the errors of each taken off what follows."""
    value, step, zero = (
        np.ascontiguousarray(np.take_along_axis(grid.stacked(layer, one), h.order[:, :, None], 1)) for one in given
    )
    inverse = np.divide(np.float32(1), step, out=np.zeros_like(step), where=step != 0)

    def decide(x: F32, j: int) -> F32:
        q = np.clip(np.rint((x[:, 0] - zero[:, j]) * inverse[:, j]), form.low, form.high)
        return np.asarray((q * step[:, j] + zero[:, j])[:, None])

    stored = fed_back(value, h.rows, decide)
    dense = np.ascontiguousarray(h.hessian, np.float32)
    for _ in range(SWEEPS):
        stored = swept(value, stored, dense, decide)
    codes = np.rint((stored - zero) * inverse)
    return np.asarray(grid.in_place(codes, h.order), np.int16).reshape(-1, form.size)
