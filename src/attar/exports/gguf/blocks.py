"""llama.cpp's block formats as data: codes, parts that share a scale, how scales are stored, and the bytes.

A block [n, size] stands for scale * code + offset, with a scale and an offset for each part of it. `Format.scales`
rounds wished scales and offsets to what a block can hold, `Format.pack` makes the bytes that
`gguf.quants.dequantize` reads. Layouts: ggml-org/llama.cpp, ggml/src/ggml-common.h and gguf-py/gguf/quants.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Codes = NDArray[np.int16]
SUPER = 256


@dataclass(frozen=True)
class Held:
    """Scales and offsets [n, parts] as a reader has them, and the arrays that say them."""

    scale: F32
    offset: F32
    arrays: tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Format:
    """size: weights in a block; part: weights that share a scale; codes low .. high; offsets: whether there are any.

    spread: largest integer that scales of a block are stored as, 1 where they are stored as they are.
    """

    name: str
    size: int
    part: int
    low: int
    high: int
    offsets: bool
    nbytes: int
    spread: int
    scales: Callable[[F32, F32, F32], Held]
    """(scale [n, parts], offset [n, parts], factor [n] of the common step) -> what a block holds."""
    pack: Callable[[Held, Codes], U8]
    """Codes [n, size] -> [n, nbytes]."""

    @property
    def bits(self) -> float:
        """Bits for each weight."""
        return 8 * self.nbytes / self.size


def half(values: F32) -> NDArray[np.float16]:
    """float16, finite."""
    return np.clip(values, -65504, 65504).astype(np.float16)


def raw(values: NDArray[np.generic]) -> U8:
    """The bytes of each block's values [n, k]."""
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)


def halves(codes: NDArray[np.uint8], run: int) -> U8:
    """Two codes to a byte: of every 2 * run codes the first half low, the second high."""
    pairs = codes.reshape(len(codes), -1, 2, run)
    return np.asarray(pairs[:, :, 0] | (pairs[:, :, 1] << 4), np.uint8).reshape(len(codes), -1)


# One scale, and perhaps one offset, to 32 weights


def _plain(scale: F32, offset: F32, factor: F32) -> Held:
    del factor
    d = half(scale)
    return Held(d.astype(np.float32), np.zeros_like(offset), (d,))


def _with_offset(scale: F32, offset: F32, factor: F32) -> Held:
    del factor
    d, m = half(scale), half(offset)
    return Held(d.astype(np.float32), m.astype(np.float32), (d, m))


def _pack_q8_0(held: Held, codes: Codes) -> U8:
    return np.hstack([raw(held.arrays[0]), raw(codes.astype(np.int8))])


def _pack_legacy(zero: int, fifth: bool) -> Callable[[Held, Codes], U8]:
    """Heads, then the fifth bits where there are some, then the lower four."""

    def pack(held: Held, codes: Codes) -> U8:
        plain: U8 = (codes + zero).astype(np.uint8)
        heads = [raw(array) for array in held.arrays]
        bits = [np.packbits(plain >> 4, axis=1, bitorder="little")] if fifth else []
        return np.hstack([*heads, *bits, halves(plain & np.uint8(15), 16)])

    return pack


# 256 weights with scales in 6 bits or 8


def _common(values: F32, top: int, factor: F32) -> tuple[NDArray[np.float16], NDArray[np.int16]]:
    """The common step [n, 1] in float16 and whole numbers 0 .. top [n, parts] of values >= 0."""
    step = half(values.max(1, keepdims=True) * factor[:, None] / np.float32(top))
    wide = step.astype(np.float32)
    counts = np.divide(values, wide, out=np.zeros_like(values), where=wide > 0)
    return step, np.clip(np.rint(counts), 0, top).astype(np.int16)


def _scales_and_offsets(scale: F32, offset: F32, factor: F32) -> Held:
    d, sc = _common(np.maximum(scale, 0), 63, factor)
    low, m = _common(np.maximum(-offset, 0), 63, np.ones_like(factor))
    wide, deep = d.astype(np.float32) * sc.astype(np.float32), low.astype(np.float32) * m.astype(np.float32)
    return Held(wide, -deep, (d, low, sc, m))


def _six_bits(sc: NDArray[np.int16], m: NDArray[np.int16]) -> U8:
    """Eight scales and eight offsets of six bits in twelve bytes."""
    s, o = sc.astype(np.uint8), m.astype(np.uint8)
    first = s[:, :4] | ((s[:, 4:] >> 4) << 6)
    second = o[:, :4] | ((o[:, 4:] >> 4) << 6)
    third = (s[:, 4:] & 15) | ((o[:, 4:] & 15) << 4)
    return np.hstack([first, second, third]).astype(np.uint8)


def _pack_q4_k(held: Held, codes: Codes) -> U8:
    d, low, sc, m = held.arrays
    return np.hstack([raw(d), raw(low), _six_bits(sc, m), halves(codes.astype(np.uint8), 32)])


def _pack_q5_k(held: Held, codes: Codes) -> U8:
    d, low, sc, m = held.arrays
    plain = codes.astype(np.uint8)
    high = (plain >> 4).reshape(len(plain), 8, 32)
    fifth = np.zeros((len(plain), 32), np.uint8)
    for part in range(8):
        fifth |= high[:, part] << np.uint8(part)
    return np.hstack([raw(d), raw(low), _six_bits(sc, m), fifth, halves(plain & 15, 32)])  # type: ignore[arg-type]


def _signed(top: int) -> Callable[[F32, F32, F32], Held]:
    """Scales as whole numbers -top .. top - 1 of a common step, whose sign makes the largest of them -top."""

    def scales(scale: F32, offset: F32, factor: F32) -> Held:
        most = np.take_along_axis(scale, np.abs(scale).argmax(1)[:, None], 1)
        d = half(most * factor[:, None] / np.float32(-top))
        wide = d.astype(np.float32)
        counts = np.divide(scale, wide, out=np.zeros_like(scale), where=wide != 0)
        sc = np.clip(np.rint(counts), -top, top - 1).astype(np.int16)
        return Held(wide * sc.astype(np.float32), np.zeros_like(offset), (d, sc))

    return scales


def _pack_q6_k(held: Held, codes: Codes) -> U8:
    d, sc = held.arrays
    plain = (codes + 32).astype(np.uint8).reshape(len(codes), 2, 4, 32)
    low = (plain[:, :, :2] & 15) | ((plain[:, :, 2:] & 15) << 4)
    high = np.zeros((len(codes), 2, 32), np.uint8)
    for part in range(4):
        high |= (plain[:, :, part] >> 4) << np.uint8(2 * part)
    return np.hstack([low.reshape(len(codes), -1), high.reshape(len(codes), -1), raw(sc.astype(np.int8)), raw(d)])


def _pack_q3_k(held: Held, codes: Codes) -> U8:
    d, sc = held.arrays
    plain = (codes + 4).astype(np.uint8)
    third = (plain >> 2).reshape(len(codes), 8, 32)
    mask = np.zeros((len(codes), 32), np.uint8)
    for part in range(8):
        mask |= third[:, part] << np.uint8(part)
    pairs = (plain & 3).reshape(len(codes), 2, 4, 32)
    low = np.zeros((len(codes), 2, 32), np.uint8)
    for part in range(4):
        low |= pairs[:, :, part] << np.uint8(2 * part)
    six = (sc.astype(np.int16) + 32).astype(np.uint8)
    lower = (six[:, :8] & 15) | ((six[:, 8:] & 15) << 4)
    upper = np.zeros((len(codes), 4), np.uint8)
    for part in range(4):
        upper |= (six[:, 4 * part : 4 * part + 4] >> 4) << np.uint8(2 * part)
    return np.hstack([mask, low.reshape(len(codes), -1), lower, upper, raw(d)])


FORMATS = {
    one.name: one
    for one in (
        Format("Q4_0", 32, 32, -8, 7, False, 18, 1, _plain, _pack_legacy(8, False)),
        Format("Q4_1", 32, 32, 0, 15, True, 20, 1, _with_offset, _pack_legacy(0, False)),
        Format("Q5_0", 32, 32, -16, 15, False, 22, 1, _plain, _pack_legacy(16, True)),
        Format("Q5_1", 32, 32, 0, 31, True, 24, 1, _with_offset, _pack_legacy(0, True)),
        Format("Q8_0", 32, 32, -127, 127, False, 34, 1, _plain, _pack_q8_0),
        Format("Q3_K", SUPER, 16, -4, 3, False, 110, 32, _signed(32), _pack_q3_k),
        Format("Q4_K", SUPER, 32, 0, 15, True, 144, 63, _scales_and_offsets, _pack_q4_k),
        Format("Q5_K", SUPER, 32, 0, 31, True, 176, 63, _scales_and_offsets, _pack_q5_k),
        Format("Q6_K", SUPER, 16, -32, 31, False, 210, 128, _signed(128), _pack_q6_k),
    )
}
NARROW = {"Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What llama.cpp takes for rows that are no multiple of 256 (src/llama-quant.cpp)."""


def format_for(name: str, cols: int) -> Format | None:
    """The format, or the one in its place for rows that it does not fit; None for rows that none fits."""
    found = FORMATS[name]
    if cols % found.size:
        found = FORMATS[NARROW.get(name, name)]
    return None if cols % found.size else found
