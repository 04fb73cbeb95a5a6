"""A model for a set of images: least squares for what is predicted, counts for what is left.

The predictor of a pixel is chosen by two neighbours, so that it is piecewise linear; its error is coded by a table for
its context (Wu and Memon's CALIC, 1997, with levels of the expected error and of the neighbours). Contexts whose counts
are alike share a table: k-means with the length of the code as distance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attar.sets.geometry import Geometry
from attar.sets.model import (
    BIAS,
    MOST_TABLES,
    REGIMES,
    SLOTS,
    SPREAD_BIAS,
    SYMBOLS,
    Model,
    sites_kernel,
)  # fmt: skip
from attar.sets.twin import PAIRS

F32 = NDArray[np.float32]
F64 = NDArray[np.floating]
U8 = NDArray[np.uint8]
MEAN = (1, 3, 6, 12, 24, 48, 100, 200, 300, 400, 500, 600, 700, 800, 860, 920, 960, 980, 1000, 1012)
"""In quarters: fine at both ends of the range, where errors have one sign."""
ENERGY = tuple(sorted({round(16 * 2 ** ((k - 13) / 3)) for k in range(1, 36)}))
SIDE = (-40, -15, -5, 5, 15, 40)
EACH, MANY = 20000, 1000
"""Images that give every site a predictor of its own; samples of a predictor that give it a regime's own weights."""
TOGETHER = 1024
"""Images that are scanned at once where their contexts are of no use."""
SAMPLE = 30000
"""Images that predictors are fitted to, at most."""
PIXELS = 1 << 14
"""Bytes for each table."""
ROUNDS = 6
RIDGE, DRAWN = 300.0, 3.0
"""Of least squares; samples that what regimes have in common counts as."""


def predictors(planes: U8, place: Geometry) -> Model:
    """Predictors and levels for planes [sites, n]; the tables are one for all."""
    planes = planes[:, :: -(-planes.shape[1] // SAMPLE)]
    n = planes.shape[1]
    zone = np.arange(place.sites, dtype=np.int32) if n >= EACH else place.channel
    regimes = REGIMES if n * place.sites / (int(zone.max()) + 1) >= MANY else 1
    regime = _thresholds(planes)
    weight = _weights(planes, place, zone, regimes, regime)
    empty = np.zeros((int(zone.max()) + 1, place.error.shape[1] + len(PAIRS) + 1), np.int16)
    table = np.zeros((len(ENERGY) + 1, len(MEAN) + 1, len(SIDE) + 1, len(SIDE) + 1), np.uint8)
    frequency = np.full((1, SYMBOLS), SLOTS // SYMBOLS, np.uint16)
    mean, energy, side = (np.array(x, np.int16) for x in (MEAN, ENERGY, SIDE))
    first = Model(weight, empty, regime, mean, energy, side, table, frequency)
    residuals = np.empty_like(planes)
    for start in range(0, n, TOGETHER):
        some = slice(start, start + TOGETHER)
        residuals[:, some], _ = scan(first, planes[:, some], place)
    return replace(first, spread=_spreads(planes, residuals, place, zone))


def scan(model: Model, planes: U8, place: Geometry) -> tuple[U8, NDArray[np.uint16]]:
    """Residuals and contexts [sites, n]."""
    residuals, contexts = np.empty(planes.shape, np.uint8), np.empty(planes.shape, np.uint16)
    sites_kernel().scan_sites(model.native(place), np.ascontiguousarray(planes), residuals, contexts)
    return residuals, contexts


def _thresholds(planes: U8) -> U8:
    """Zero, and thirds of what is not zero: [3, 2]."""
    # Row by row: numpy counts in eight bytes for each of one.
    counts = sum((np.bincount(row, minlength=256) for row in planes), np.zeros(256, np.int64))[1:]
    share = np.cumsum(counts) / max(int(counts.sum()), 1)
    thirds = 1 + np.searchsorted(share, (1 / 3, 2 / 3))
    steps = np.maximum.accumulate(np.array([1, max(thirds[0], 2), max(thirds[1], 3)]))
    return np.repeat(np.minimum(steps, 255)[:, None], 2, 1).astype(np.uint8)


def _rows(planes: U8, index: NDArray[np.int32]) -> F32:
    """The planes of these sites as floats [taps, n]; zeros for -1."""
    found = planes[np.maximum(index, 0)].astype(np.float32)
    found[index < 0] = 0
    return found


def _weights(planes: U8, place: Geometry, zone: NDArray[np.int32], regimes: int, regime: U8) -> NDArray[np.int16]:
    """Least squares by zone and regime, drawn to the zone's own; [zones, taps + 1, regimes] in 1/64."""
    zones, size = int(zone.max()) + 1, place.tap.shape[1] + 1
    gram, goal = np.zeros((zones, regimes, size, size)), np.zeros((zones, regimes, size))
    n = planes.shape[1]
    for site in range(place.sites):
        rows = np.concatenate((_rows(planes, place.tap[site]), np.full((1, n), BIAS, np.float32)))
        truth = planes[site].astype(np.float32)
        of = _regime(rows, regime) if regimes > 1 else np.zeros(n, np.int64)
        for one in np.unique(of).tolist():
            part = rows[:, of == one]
            gram[zone[site], one] += part @ part.T
            goal[zone[site], one] += part @ truth[of == one]
    ridge = RIDGE * np.eye(size)
    mean, drawn = _shared(gram, goal, zone, place, ridge)
    gram += DRAWN * mean + ridge
    found = np.linalg.solve(gram, (goal + ((DRAWN * mean + ridge) @ drawn[..., None])[..., 0])[..., None])[..., 0]
    return np.ascontiguousarray(_rounded(found, gram).transpose(0, 2, 1))


def _shared(gram: F64, goal: F64, zone: NDArray[np.int32], place: Geometry, ridge: F64) -> tuple[F64, F64]:
    """What regimes have in common over the zones of a channel: mean Gram matrix and weights, [zones, regimes, ...]."""
    channel = np.zeros(len(gram), np.int64)
    channel[zone] = place.channel
    grams = np.stack([gram[channel == c].sum(0) for c in range(int(channel.max()) + 1)])
    goals = np.stack([goal[channel == c].sum(0) for c in range(len(grams))])
    whole = np.linalg.solve(grams.sum(1) + ridge, goals.sum(1)[..., None])[:, None, :, 0]
    weights = np.linalg.solve(grams + ridge, (goals + (ridge @ whole[..., None])[..., 0])[..., None])[..., 0]
    number = np.maximum(grams[..., -1, -1] / BIAS**2, 1)[..., None, None]
    return (grams / number)[channel], weights[channel]


def _rounded(found: F64, gram: F64) -> NDArray[np.int16]:
    """To 64ths one tap after the other, the later ones making up for it (Frantar and others' GPTQ, 2022)."""
    feedback = np.linalg.cholesky(np.linalg.inv(gram)).swapaxes(-1, -2)
    for k in range(found.shape[-1]):
        short = (found[..., k] - np.rint(64 * found[..., k]) / 64) / feedback[..., k, k]
        found[..., k + 1 :] -= short[..., None] * feedback[..., k, k + 1 :]
    return _sixty_fourths(found)


def _regime(rows: F32, regime: U8) -> NDArray[np.int64]:
    first, second = (np.searchsorted(regime[:, k], rows[k], side="right") for k in (0, 1))
    return np.asarray(4 * first + second, np.int64)


def _sixty_fourths(values: F64) -> NDArray[np.int16]:
    return np.clip(np.rint(64 * values), -32768, 32767).astype(np.int16)


def _spreads(planes: U8, residuals: U8, place: Geometry, zone: NDArray[np.int32]) -> NDArray[np.int16]:
    """Least squares for the size of the error, by zone: [zones, errors + pairs + 1] in 1/64."""
    errors = np.minimum(residuals, 0 - residuals)
    zones, size = int(zone.max()) + 1, place.error.shape[1] + len(PAIRS) + 1
    gram, goal = np.zeros((zones, size, size)), np.zeros((zones, size))
    for site in range(place.sites):
        taps = _rows(planes, place.tap[site, :4])
        pairs = np.stack([np.abs(taps[a] - taps[b]) for a, b in PAIRS])
        bias = np.full((1, planes.shape[1]), SPREAD_BIAS, np.float32)
        rows = np.concatenate((_rows(errors, place.error[site]), pairs, bias))
        gram[zone[site]] += rows @ rows.T
        goal[zone[site]] += rows @ errors[site].astype(np.float32)
    found = np.linalg.solve(gram + 30.0 * np.eye(size), goal[..., None])[..., 0]
    return _sixty_fourths(found)


def counted(model: Model, parts: Iterable[U8], place: Geometry) -> NDArray[np.int64]:
    """How often each residual occurs in each context: [contexts, 256]."""
    size = int(np.prod(model.contexts))
    counts = np.zeros(size * SYMBOLS, np.int64)
    for planes in parts:
        residuals, contexts = scan(model, planes, place)
        counts += np.bincount((contexts.astype(np.int64) << 8 | residuals).reshape(-1), minlength=counts.size)
    return counts.reshape(size, SYMBOLS)


def with_tables(model: Model, counts: NDArray[np.int64]) -> Model:
    """The model with tables for these counts."""
    number = int(np.clip(counts.sum() // PIXELS, 1, MOST_TABLES))
    used = np.flatnonzero(counts.sum(1))
    if not used.size:
        return model
    of, merged = _clustered(counts[used].astype(np.float32), number)
    spread = merged @ np.minimum(np.arange(SYMBOLS), SYMBOLS - np.arange(SYMBOLS)) / merged.sum(1)
    rank = np.argsort(np.argsort(spread, kind="stable"), kind="stable")
    table = np.zeros(len(counts), np.uint8)
    # A context that does not occur takes the table of the one before, which costs least to write.
    table[used] = rank[of]
    seen = np.zeros(len(counts), np.int64)
    seen[used] = np.arange(used.size) + 1
    before = np.maximum.accumulate(seen)
    table = np.where(before > 0, table[used[np.maximum(before - 1, 0)]], 0).astype(np.uint8)
    frequency = normalised(merged[np.argsort(rank, kind="stable")])
    return replace(model, table=table.reshape(model.contexts), frequency=frequency)


def _clustered(counts: F32, number: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """k-means by code length: the table of each row, and the sums of the tables that are used."""
    first = np.argsort(-counts.sum(1), kind="stable")[:number]
    sums = counts[first].astype(np.float64)
    of = np.zeros(len(counts), np.int64)
    for _ in range(ROUNDS):
        smooth = sums + 0.05
        bits = -np.log2(smooth / smooth.sum(1, keepdims=True)).astype(np.float32)
        of = (counts @ bits.T).argmin(1)
        sums = np.zeros_like(sums)
        np.add.at(sums, of, counts)
    kept, of = np.unique(of, return_inverse=True)
    return of, sums[kept]


def normalised(counts: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Shares of 4,096 slots, at least one for each symbol that occurs: [tables, 256]."""
    total = counts.sum(1, keepdims=True)
    found = np.where(counts > 0, np.maximum(np.floor(counts * SLOTS / total + 0.5), 1), 0).astype(np.int64)
    while (left := SLOTS - found.sum(1)).any():
        # What is missing or too much goes to the largest, half of it at most at a time.
        largest = found.argmax(1)
        room = found[np.arange(len(found)), largest] // 2
        found[np.arange(len(found)), largest] += np.clip(left, -room, None)
    return found.astype(np.uint16)
