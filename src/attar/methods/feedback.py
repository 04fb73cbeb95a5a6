"""Error feedback through the Cholesky factor of the inverse Hessian, with a rate term in every rounding decision.

Source: Optimal Brain Surgeon (Hassibi and Stork 1993) in the column-by-column form of GPTQ (Frantar et al. 2023,
section 3.3, lazy batches); the rate term is entropy-constrained quantisation (Chou, Lookabaugh and Gray 1989).

Layout: everything is transposed and stacked by group, [groups, cols, rows], so that one column of the canonical matrix
(the unit of a step) is contiguous. Hessians and factors are [groups, cols, cols].
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

BLOCK = 64
"""Columns between two BLAS updates of everything behind them."""
TOGETHER = 1 << 16
"""Weights whose codes are decided at once where nothing is fed back: what that takes stays in the cache."""

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Codes = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Rate:
    """What a code costs, in the unit of the distortion: price[class * width + code + radius], width = 2 radius + 1.

    offset [groups, cols, rows] is class * width + radius of each position. Beyond the radius a code costs the
    outermost price and `slope` more for each octave (it is escaped).
    """

    price: F32
    offset: NDArray[np.int32]
    radius: int
    slope: float

    @property
    def arguments(self) -> tuple[F32, NDArray[np.int32], int, float]:
        """As the native kernel takes it."""
        return self.price, self.offset, self.radius, self.slope

    def at(self, rows: NDArray[np.int64]) -> Rate:
        """The rate of some rows."""
        return replace(self, offset=np.ascontiguousarray(self.offset[:, :, rows]))

    def of(self, codes: F32, column: int | slice) -> F32:
        """The price of codes in one column [groups, rows], or in a range of them."""
        inside = np.clip(codes, -self.radius, self.radius)
        price = self.price[self.offset[:, column] + inside.astype(np.int32)]
        if np.abs(codes).max(initial=0) > self.radius:
            octaves = np.frexp(np.abs(codes) / np.float32(self.radius))[1].astype(np.float32)
            beyond = np.where(np.abs(codes) > self.radius, octaves, np.float32(0))
            price = np.asarray(price + np.float32(self.slope) * beyond, np.float32)
        return price


@cache
def kernel() -> Any:
    """The native kernel, or None where it was not built or ATTAR_NATIVE=0 asks for numpy; both make the same codes."""
    if os.environ.get("ATTAR_NATIVE") == "0":
        return None
    try:
        from attar import _native
    except ImportError:
        return None
    return _native


def upper_factor(hessian: F64) -> F64:
    """R upper triangular with H = R R^T; raises LinAlgError where H is not positive definite.

    The cost of an error e in column j, when the later columns make up for it in the best way, is 1/2 (e R_jj)^2.
    """
    # Laid out anew, for whoever solves with it would copy it beside this one.
    return np.ascontiguousarray(np.linalg.cholesky(hessian[:, ::-1, ::-1])[:, ::-1, ::-1])


def feedback_rows(factor: F64) -> F32:
    """V with V_jt = U_jt / U_jj, U = R^-1: what column j's error takes away from each column t > j."""
    columns = factor.shape[-1]
    if columns <= 32:
        inverse = np.linalg.inv(factor)
    else:
        # In place of a unit matrix that LAPACK need not copy: for thousands of columns each copy counts.
        solved = [
            solve_triangular(one, np.eye(columns, order="F"), check_finite=False, overwrite_b=True) for one in factor
        ]  # fmt: skip
        inverse = np.stack(solved) if len(solved) > 1 else solved.pop()[None]
    inverse /= np.diagonal(inverse, axis1=1, axis2=2)[:, :, None].copy()
    return np.ascontiguousarray(inverse, np.float32)


def quantise(weight: F32, rows: F32, stiffness: F32, rate: Rate | None) -> Codes:
    """Codes of weights in units of their step, column by column with feedback.

    stiffness [groups, cols, rows]: the cost of a squared error of one step, with feedback (R_jj^2 / 2 times the
    row's sensitivity). Without a rate every weight goes to its nearest code.
    """
    work = np.array(weight, order="C")
    codes = np.empty(weight.shape, np.int32)
    columns = weight.shape[1]
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        if rate is not None and kernel() is not None:
            kernel().quantise_block(work, codes, rows, stiffness, *rate.arguments, start, stop)
        else:
            _quantise_block(work, codes, rows, stiffness, rate, range(start, stop))
        if stop < columns:
            work[:, stop:] -= rows[:, start:stop, stop:].transpose(0, 2, 1) @ work[:, start:stop]
    return codes


def _quantise_block(work: F32, codes: Codes, rows: F32, stiffness: F32, rate: Rate | None, block: range) -> None:
    """The numpy twin of the native kernel: codes of a block of columns; work holds their errors afterwards."""
    for j in block:
        x = work[:, j]
        q = decide(x, stiffness[:, j], rate, j)
        codes[:, j] = q
        x -= q
        work[:, j + 1 : block.stop] -= rows[:, j, j + 1 : block.stop, None] * x[:, None]


def descend(weight: F32, codes: Codes, hessian: F32, stiffness: F32, rate: Rate) -> Codes:
    """One sweep of exact coordinate descent over the columns on stiffness * e H e^T + price; never makes it worse.

    hessian in units of the steps; stiffness [groups, rows] is half of the row's sensitivity.
    """
    codes = codes.copy()
    error = np.ascontiguousarray(weight - codes.astype(np.float32))
    columns = weight.shape[1]
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        pull = np.ascontiguousarray(hessian[:, start:stop] @ error)
        if kernel() is not None:
            kernel().descend_block(pull, error, codes, hessian, stiffness, *rate.arguments, start, stop)
        else:
            _descend_block(pull, error, codes, hessian, stiffness, rate, range(start, stop))
    return codes


def _descend_block(pull: F32, error: F32, codes: Codes, hessian: F32, stiffness: F32, rate: Rate, block: range) -> None:
    """The numpy twin of the native kernel: one block of a sweep."""
    for j in block:
        curve = np.maximum(hessian[:, j, j, None], np.float32(1e-20))
        old = codes[:, j].astype(np.float32)
        best = np.asarray(old + pull[:, j - block.start] / curve, np.float32)
        q = decide(best, stiffness * curve, rate, j, old)
        moved = old - q
        codes[:, j] = q
        error[:, j] += moved
        pull[:, j + 1 - block.start :] += hessian[:, j, j + 1 : block.stop, None] * moved[:, None]


def independent(weight: F32, stiffness: F32, rate: Rate | None) -> Codes:
    """Codes where H is diagonal and nothing can be fed back: all decisions at once."""
    codes = np.empty(weight.shape, np.int32)
    step = max(1, TOGETHER // max(weight[:, :1].size, 1))
    for start in range(0, weight.shape[1], step):
        part = slice(start, start + step)
        codes[:, part] = decide(weight[:, part], stiffness[:, part], rate, part)
    return codes


def decide(x: F32, stiffness: F32, rate: Rate | None, column: int | slice, old: F32 | None = None) -> F32:
    """The code of least cost among the nearest, the next toward zero, zero, and the present one."""
    nearest = np.rint(x)
    if rate is None:
        return nearest
    candidates = [nearest - np.sign(nearest), np.zeros_like(x)]
    if old is not None:
        candidates.append(old)
    best = nearest
    least = stiffness * np.square(x - nearest) + rate.of(nearest, column)
    for q in candidates:
        cost = stiffness * np.square(x - q) + rate.of(q, column)
        better = cost < least
        best = np.where(better, q, best)
        least = np.where(better, cost, least)
    return best
