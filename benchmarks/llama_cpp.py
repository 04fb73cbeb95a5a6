"""llama.cpp's own rounding in numpy: what `llama-quantize` does to a matrix without an importance matrix.

Source: ggml-org/llama.cpp, ggml/src/ggml-quants.c: make_qkx2_quants, make_qx_quants, make_q3_quants and the
quantize_row_*_ref that call them. The older formats are the gguf package's own.
"""

from __future__ import annotations

import gguf
import numpy as np
from gguf import quants
from numpy.typing import NDArray

from attar.exports.gguf.blocks import F32, FORMATS, SUPER, Held

Parts = tuple[F32, F32]


def stock(name: str, matrix: F32) -> NDArray[np.uint8]:
    """The bytes [rows, bytes of a row] of a matrix in one of llama.cpp's types."""
    kind = gguf.GGMLQuantizationType[name]
    if FORMATS[name].size != SUPER:
        return quants.quantize(np.ascontiguousarray(matrix, np.float32), kind)
    form = FORMATS[name]
    blocks = np.ascontiguousarray(matrix, np.float32).reshape(-1, SUPER // form.part, form.part)
    scale, offset = {"Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k, "Q3_K": _q3_k}[name](blocks)
    held = form.scales(scale, offset, np.ones(len(blocks), np.float32))
    flat = blocks.reshape(-1, SUPER)
    wide, zero = np.repeat(held.scale, form.part, 1), np.repeat(held.offset, form.part, 1)
    counts = np.divide(flat - zero, wide, out=np.zeros_like(flat), where=wide != 0)
    codes = np.clip(np.rint(counts), form.low, form.high).astype(np.int16)
    return form.pack(Held(held.scale, held.offset, held.arrays), codes).reshape(len(matrix), -1)


def _q4_k(x: F32) -> Parts:
    return _qkx2(x, 15, -1.0, 0.1, 20)


def _q5_k(x: F32) -> Parts:
    return _qkx2(x, 31, -0.5, 0.1, 15)


def _qkx2(x: F32, top: int, first: float, step: float, steps: int) -> Parts:
    """Scales and offsets [n, parts] of x [n, parts, part]."""
    w = np.sqrt(np.square(x).mean(2, keepdims=True)) + np.abs(x)
    low, high = np.minimum(x.min(2), 0), x.max(2)
    span = np.where(high > low, high - low, 1)
    sum_w, sum_x = w.sum(2), (w * x).sum(2)
    scale, offset = np.where(high > low, span / top, 0), low.copy()

    def codes(inverse: F32) -> F32:
        return np.clip(np.rint(inverse[..., None] * (x - low[..., None])), 0, top)

    best = (w * np.square(scale[..., None] * codes(top / span) + low[..., None] - x)).sum(2)
    for k in range(steps + 1):
        q = codes((first + step * k + top) / span)
        sum_q, sum_qq, sum_xq = (w * q).sum(2), (w * q * q).sum(2), (w * q * x).sum(2)
        det = sum_w * sum_qq - sum_q * sum_q
        safe, full = np.where(det > 0, det, 1), np.where(sum_qq > 0, sum_qq, 1)
        s, o = (sum_w * sum_xq - sum_x * sum_q) / safe, (sum_qq * sum_x - sum_q * sum_xq) / safe
        s, o = np.where(o > 0, sum_xq / full, s), np.minimum(o, 0)
        cost = (w * np.square(s[..., None] * q + o[..., None] - x)).sum(2)
        better = (det > 0) & (cost < best)
        scale, offset, best = np.where(better, s, scale), np.where(better, o, offset), np.where(better, cost, best)
    flat = high <= low
    return np.where(flat, 0, scale).astype(np.float32), np.where(flat, low, offset).astype(np.float32)


def _largest(x: F32) -> F32:
    """The value of largest magnitude of each part, with its sign; 1 where all are nothing."""
    most = np.take_along_axis(x, np.abs(x).argmax(2)[..., None], 2)[..., 0]
    return np.where(np.abs(most) < 1e-15, 1, most)


def _q6_k(x: F32) -> Parts:
    w, most = x * x, _largest(x)
    scale, best = np.zeros_like(most), np.zeros_like(most)
    for k in (0, *range(-9, 0), *range(1, 10)):
        q = np.clip(np.rint(-(32 + 0.1 * k) / most[..., None] * x), -32, 31)
        xq, qq = (w * x * q).sum(2), (w * q * q).sum(2)
        better = (qq > 0) & ((xq * xq > best * qq) if k else True)
        scale = np.where(better, xq / np.where(qq > 0, qq, 1), scale)
        best = np.where(better, scale * xq, best)
    return scale.astype(np.float32), np.zeros_like(scale, np.float32)


def _q3_k(x: F32) -> Parts:
    w, most = x * x, _largest(x)
    q = np.clip(np.rint(-4 / most[..., None] * x), -4, 3)
    xq, qq = (w * x * q).sum(2), (w * q * q).sum(2)
    for _ in range(5):
        for i in range(x.shape[2]):
            one, code, weight = x[..., i], q[..., i], w[..., i]
            less_xq, less_qq = xq - weight * one * code, qq - weight * code * code
            tried = np.clip(np.rint(one * less_qq / np.where(less_xq > 0, less_xq, 1)), -4, 3)
            new_xq, new_qq = less_xq + weight * one * tried, less_qq + weight * tried * tried
            better = (less_xq > 0) & (tried != code) & (new_qq > 0) & (new_xq**2 * qq > xq**2 * new_qq)
            q[..., i] = np.where(better, tried, code)
            xq, qq = np.where(better, new_xq, xq), np.where(better, new_qq, qq)
    scale = np.where(qq > 0, xq / np.where(qq > 0, qq, 1), 0)
    return scale.astype(np.float32), np.zeros_like(scale, np.float32)
