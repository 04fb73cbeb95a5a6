"""Error feedback among rows: outputs whose errors go together at the model's output make up for one another.

With G the second moment of the gradients behind a layer's rows and H that of its inputs, an error E costs
tr(G E H E^T) / 2 (Kronecker-factored curvature, Martens and Grosse 2015). Rows are rounded in blocks, each by columns
as feedback.py does it, and what a block got wrong is taken off the rows that follow, through the Cholesky factor of
the inverse of G: for a product of two factors the two feedbacks are exact beside one another (as in YAQA, Tseng et al.
2025). Rows of a block are taken as not coupled, so that a vector of them is decided at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attar.methods import feedback

BLOCK = 16
"""Rows that are rounded at once."""
SWEPT = 64
"""Rows of a sweep between two products with G and H."""
LEAST = 1e-17
"""A row's own coupling in units of its step, squared, at least."""

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """How rows go together, in the order in which they are rounded.

    order [rows]; matrix [rows, rows], G in that order; ahead [rows, rows]: what an error in a row takes away from the
    rows of later blocks; pivots [rows], in the layer's own order: what is left of G_rr when later blocks make up.
    """

    order: NDArray[np.int64]
    matrix: F64
    ahead: F64
    pivots: F64

    def blocks(self) -> list[slice]:
        """Places in the order."""
        return [slice(start, start + BLOCK) for start in range(0, len(self.order), BLOCK)]

    def scaled(self, row_step: F32) -> Rows:
        """The same for errors in units of steps [rows]."""
        step = row_step[self.order].astype(np.float64)
        matrix, ahead = self.matrix * step[:, None] * step, self.ahead * step[:, None] / step
        diagonal = np.einsum("rr->r", matrix)
        np.maximum(diagonal, LEAST, out=diagonal)  # of next to no weights: a descent divides by it in single floats
        return replace(self, matrix=matrix, ahead=ahead, pivots=self.pivots * np.square(row_step, dtype=np.float64))


def rows_of(coupling: F32, sensitivity: F64) -> Rows:
    """G = C_rt sqrt(s_r s_t) with its factors; rows by falling sensitivity."""
    order = np.argsort(-sensitivity, kind="stable")
    root = np.sqrt(np.maximum(sensitivity, 1e-12 * float(sensitivity.max(initial=0)) + 1e-300))
    factor = feedback.upper_factor(coupling[order][:, order].astype(np.float64)[None])[0]
    inverse = np.linalg.inv(factor)
    ahead, pivots = np.zeros_like(factor), np.empty(len(order))
    for start in range(0, len(order), BLOCK):
        own, later = slice(start, start + BLOCK), slice(start + BLOCK, None)
        ahead[own, later] = np.linalg.solve(inverse[own, own], inverse[own, later])
        pivots[own] = np.square(factor[own, own]).sum(1)
    scale = root[order]
    matrix = np.asarray(coupling[order][:, order] * scale[:, None] * scale, np.float64)
    own_order = np.empty_like(pivots)
    own_order[order] = pivots * np.square(scale)
    return Rows(order, matrix, ahead * scale[:, None] / scale, own_order)


def quantise(weight: F32, columns: F32, pivots: F32, rate: feedback.Rate, rows: Rows) -> feedback.Codes:
    """Codes [1, cols, rows] of weights in units of their step; see feedback.quantise. rows are in these units, halved.

    pivots [1, cols] are the columns': the cost of a squared error of one step for a row of unit stiffness.
    """
    target = np.ascontiguousarray(weight[0].T[rows.order])
    codes = np.empty(weight.shape, np.int32)
    ahead = rows.ahead.astype(np.float32)
    for block in rows.blocks():
        at = rows.order[block]
        stiffness = pivots[:, :, None] * rows.pivots[at].astype(np.float32)
        own = np.ascontiguousarray(target[block].T[None])
        made = feedback.quantise(own, columns, np.ascontiguousarray(stiffness), rate.at(at))
        codes[:, :, at] = made
        target[block.stop :] -= ahead[block, block.stop :].T @ (target[block] - made[0].T.astype(np.float32))
    return codes


def descend(weight: F32, codes: feedback.Codes, hessian: F32, rate: feedback.Rate, rows: Rows) -> feedback.Codes:
    """One sweep of exact coordinate descent on tr(G E H E^T) + price, row after row; never makes it worse.

    What other rows' errors pull at is taken anew, G E H by BLAS, for each SWEPT rows; among these it is carried along.
    """
    own = np.ascontiguousarray(codes[0].T[rows.order])
    error = np.ascontiguousarray(weight[0].T[rows.order] - own.astype(np.float32))
    offset = np.ascontiguousarray(rate.offset[0].T[rows.order])
    matrix = rows.matrix.astype(np.float32)
    for start in range(0, len(own), SWEPT):
        part = slice(start, start + SWEPT)
        pull = np.ascontiguousarray((matrix[part] @ error) @ hessian[0])
        among = np.ascontiguousarray(matrix[part, part])
        price = replace(rate, offset=offset[part])
        if feedback.kernel() is not None:
            feedback.kernel().descend_rows(pull, error[part], own[part], among, hessian[0], *price.arguments)
        else:
            _descend_rows(pull, error[part], own[part], among, hessian[0], price)
    found = np.empty_like(codes)
    found[0, :, rows.order] = own
    return found


def _descend_rows(pull: F32, error: F32, codes: feedback.Codes, among: F32, hessian: F32, rate: feedback.Rate) -> None:
    """The numpy twin of the native kernel; all are [rows, cols], among is [rows, rows]."""
    for row in range(len(codes)):
        stiffness = among[row, row] * np.maximum(np.diagonal(hessian), np.float32(1e-20))
        carried = np.zeros(codes.shape[1], np.float32)
        own = replace(rate, offset=rate.offset[row][None, :, None])
        for j in range(codes.shape[1]):
            old = codes[row, j].astype(np.float32).reshape(1, 1)
            best = old + (pull[row, j] + among[row, row] * carried[j]) / stiffness[j]
            moved = (old - feedback.decide(best, stiffness[j], own, j, old))[0, 0]
            codes[row, j] -= np.int32(moved)
            error[row, j] += moved
            carried += moved * hessian[j]
        pull[row + 1 :] += among[row + 1 :, row, None] * carried
