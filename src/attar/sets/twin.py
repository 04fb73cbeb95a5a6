"""The numpy twin of native/sites.hpp: the same signatures, the same bytes, vectorised over the arrays of a set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.coding.layout import Malformed

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
STATES, BITS, LOW = 64, 12, 1 << 16
PAIRS = ((0, 2), (1, 2), (3, 1), (0, 1))


class SiteModel:
    """See native/sites.hpp; the arrays have been checked by attar.sets.model."""

    def __init__(self, *arrays: Any) -> None:
        self.tap, self.error, self.zone, self.weight, self.spread = arrays[:5]
        regime, mean, energy, side, self.table = arrays[5:]
        first, second = (_ladder(regime[:, k], 0, 256) for k in (0, 1))
        self.regime = 4 * first, second
        self.mean, self.energy, self.side = _ladder(mean, 0, 1021), _ladder(energy, 0, 2048), _ladder(side, -255, 511)

    def work(self, site: int, planes: U8, errors: U8) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Predictions and contexts [n] of one site; planes and errors [sites, n] are known up to it."""
        zone, taps = self.zone[site], [_plane(planes, k) for k in self.tap[site]]
        regime = self.regime[0][taps[0]] + self.regime[1][taps[1]]
        weight = self.weight[zone][:, regime].astype(np.int64)
        total = sum((w * tap for w, tap in zip(weight, taps, strict=False)), weight[-1] * 8)
        quarter = np.clip((_wrapped(total) + 8) >> 4, 0, 1020)
        guess = (quarter + 2) >> 2
        spread = self.spread[zone].tolist()
        known = [_plane(errors, k) for k in self.error[site]] + [np.abs(taps[a] - taps[b]) for a, b in PAIRS]
        total = sum((w * one for w, one in zip(spread, known, strict=False)), np.full(planes.shape[1], spread[-1] * 4))
        level = self.energy[np.clip(_wrapped(total) >> 2, 0, 2047)]
        _, means, sides, _ = self.table.shape
        first, second = (self.side[tap - guess + 255] for tap in taps[:2])
        return guess, ((level * means + self.mean[quarter]) * sides + first) * sides + second


def _ladder(thresholds: NDArray[Any], low: int, size: int) -> NDArray[np.int64]:
    """The level of each value low .. low + size - 1: how many thresholds it reaches."""
    values = np.arange(low, low + size)
    return np.asarray((values[:, None] >= thresholds.astype(np.int64)).sum(1), np.int64)


def _plane(planes: U8, index: int) -> NDArray[np.int64]:
    return planes[index].astype(np.int64) if index >= 0 else np.zeros(planes.shape[1], np.int64)


def _wrapped(total: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums are 16-bit numbers."""
    return (total + 32768 & 65535) - 32768


def _size(residual: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(residual < 128, residual, 256 - residual)


def scan_sites(model: SiteModel, planes: U8, residuals: U8, contexts: U16) -> None:
    """Fills residuals and contexts [sites, n]."""
    errors = np.zeros_like(planes)
    for site in range(len(planes)):
        guess, contexts[site] = model.work(site, planes, errors)
        residual = planes[site] - guess & 255
        residuals[site], errors[site] = residual, _size(residual)


def encode_sites(residuals: U8, tables: U8, frequencies: U16) -> bytes:
    """Residuals with the table of each, [sites, n], to bytes."""
    n = residuals.shape[1]
    share = frequencies.astype(np.uint64)
    start = np.cumsum(share, 1) - share
    if tables.size and int(tables.max()) >= len(frequencies):
        raise Malformed("a symbol has probability zero")
    state, words = np.full(min(n, STATES), LOW, np.uint64), []
    for symbols, table in zip(residuals[::-1], tables[::-1], strict=True):
        for at in range((n - 1) // STATES * STATES, -1, -STATES):
            key = table[at : at + STATES], symbols[at : at + STATES]
            f, x = share[key], state[: key[0].size]
            if not f.all():
                raise Malformed("a symbol has probability zero")
            full = x >= f << np.uint64(20)
            words.append((x[full] & np.uint64(0xFFFF))[::-1])
            x = np.where(full, x >> np.uint64(16), x)
            state[: x.size] = (x // f << np.uint64(BITS)) + x % f + start[key]
    behind = np.concatenate(words)[::-1] if words else state[:0]
    return state.astype("<u4").tobytes() + behind.astype("<u2").tobytes()


def decode_sites(model: SiteModel, data: U8, frequencies: U16, out: U8) -> None:
    """Fills out [n, sites]; raises Malformed."""
    n, sites = out.shape
    lanes = min(n, STATES)
    if data.size < 4 * lanes or data.size % 2:
        raise Malformed("the states must be there, and whole words")
    state = data[: 4 * lanes].view("<u4").astype(np.uint64)
    words = np.append(data[4 * lanes :].view("<u2").astype(np.uint64), np.zeros(STATES, np.uint64))
    last, at = words.size - STATES, 0
    share = frequencies.astype(np.uint64)
    start = np.cumsum(share, 1) - share
    symbol_of = np.stack([np.repeat(np.arange(256), row) for row in frequencies])
    planes, errors = np.zeros((sites, n), np.uint8), np.zeros((sites, n), np.uint8)
    for site in range(sites):
        guess, context = model.work(site, planes, errors)
        table = model.table.reshape(-1)[context]
        residual = np.empty(n, np.int64)
        for i in range(0, n, STATES):
            part = table[i : i + STATES]
            x = state[: part.size]
            slot = x & np.uint64(4095)
            residual[i : i + STATES] = symbol = symbol_of[part, slot.astype(np.intp)]
            x = share[part, symbol] * (x >> np.uint64(BITS)) + slot - start[part, symbol]
            low = x < LOW
            fresh = words[at + np.cumsum(low) - low]
            state[: part.size] = np.where(low, x << np.uint64(16) | fresh, x)
            at += int(low.sum())
            if at > last:
                raise Malformed("the coded bytes must not end before the last array")
        planes[site], errors[site] = guess + residual & 255, _size(residual)
    if at != last or not (state == LOW).all():
        raise Malformed("the coded bytes must end with the last array")
    out[:] = planes.T
