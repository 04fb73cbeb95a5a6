"""The entropy model that the quantiser's rate term and the coder share: rank-1 scale classes.

A code matrix q[rows, cols] is seldom stationary: some rows (outputs) and some columns (inputs) carry more than others.
The expected magnitude is modelled as a product of a row scale and a column scale, both stored in half octaves, and the
product picks one of `CLASSES` conditional tables. Everything a decoder needs is integer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attar.types import Array

CLASSES = 16
LOWEST = -40
"""Level given to an empty row or column, and the floor of all levels."""


def levels(codes: Array) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Row levels [rows] and column levels [cols] of an integer matrix: E|q[r, c]| ~ 2 ** ((row[r] + col[c]) / 2)."""
    magnitude = np.abs(codes)
    row_mean = magnitude.mean(1, dtype=np.float64)
    column_mean = magnitude.mean(0, dtype=np.float64)
    total = max(float(row_mean.mean()), 1e-12) if row_mean.size else 1.0
    return half_octaves(row_mean / total), half_octaves(column_mean)


def half_octaves(scale: NDArray[np.float64]) -> NDArray[np.int8]:
    """round(2 log2 scale), floored at LOWEST."""
    with np.errstate(divide="ignore"):
        level = np.rint(2 * np.log2(scale))
    return np.asarray(np.clip(level, LOWEST, 80), np.int8)


def classes(row_level: NDArray[np.int8], column_level: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Class [rows, cols] in 0 .. CLASSES-1 of every position; the largest magnitudes are in the last class."""
    if not row_level.size or not column_level.size:
        return np.zeros((row_level.size, column_level.size), np.uint8)
    top = int(row_level.max()) + int(column_level.max())
    total = row_level.astype(np.int16)[:, None] + column_level.astype(np.int16)[None, :]
    return np.asarray(np.clip(total - top + CLASSES - 1, 0, CLASSES - 1), np.uint8)


def bits_table(codes: Array, class_of: NDArray[np.uint8], radius: int) -> NDArray[np.float32]:
    """Cost in bits [CLASSES, 2 * radius + 1] of each code -radius .. radius in each class, from counts.

    Codes beyond the radius count as the outermost. Counts of a class are smoothed with those of all classes
    (weight of 4 observations), so that no code is free and none is impossible.
    """
    width = 2 * radius + 1
    symbol = np.clip(codes, -radius, radius).astype(np.int64) + radius
    index = class_of.astype(np.int64) * width + symbol
    counts = np.bincount(index.ravel(), minlength=CLASSES * width).reshape(CLASSES, width).astype(np.float64)
    overall = counts.sum(0) + 0.5 * np.exp2(-np.abs(np.arange(-radius, radius + 1)) / 2)
    prior = overall / overall.sum()
    smoothed = counts + 4 * prior
    cost = -np.log2(smoothed / smoothed.sum(1, keepdims=True))
    return np.asarray(cost, dtype=np.float32)


def ideal_bits(codes: Array, class_of: NDArray[np.uint8] | None) -> float:
    """Bits of an ideal coder: the empirical entropy within each class, and its tables.

    A table entry in use takes about 5 bits, and as many more as say how far it is from the one before.
    """
    values, index = np.unique(codes, return_inverse=True)
    width = max(len(values), 1)
    entry = 5 + np.log2(np.diff(values.astype(np.float64), prepend=values[:1].astype(np.float64) - 1))
    if class_of is not None:
        index = class_of.astype(np.int64).ravel() * width + index.ravel()
    tables = 1 if class_of is None else CLASSES
    counts = np.bincount(index.ravel(), minlength=tables * width).astype(np.float64)
    table = counts.reshape(-1, width)
    total = table.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.where(table > 0, -table * np.log2(table / total), 0.0)
    return float(bits.sum() + ((table > 0) @ entry).sum() * (width > 1))
