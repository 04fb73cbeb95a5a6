"""The loops of feedback.py for any quantiser: what a weight becomes is decided by a function, column by column.

Source: GPTQ (Frantar et al. 2023, section 3.3); several columns at once: GPTVQ (van Baalen et al. 2024, section 3.2).
Layout as in feedback.py: [groups, cols, rows].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from attar.methods.feedback import BLOCK

F32 = NDArray[np.float32]
Decide = Callable[[F32, int], F32]
"""(values [groups, width, rows], first column) -> what they are stored as, of the same shape."""


def fed_back(weight: F32, rows: F32 | None, decide: Decide, width: int = 1) -> F32:
    """What every weight is stored as [groups, cols, rows], each error taken off the columns that follow.

    rows are those of feedback.feedback_rows, or None where H is diagonal; width columns are decided at once and must
    divide the number of columns.
    """
    work = np.array(weight, order="C")
    stored = np.empty_like(work)
    cols = weight.shape[1]
    block = width * max(1, BLOCK // width)
    for start in range(0, cols, block):
        stop = min(start + block, cols)
        for first in range(start, stop, width):
            stored[:, first : first + width] = decide(work[:, first : first + width], first)
            if rows is None:
                continue
            for j in range(first, first + width):
                # From here on a column of work holds its error.
                work[:, j] -= stored[:, j]
                work[:, j + 1 : stop] -= rows[:, j, j + 1 : stop, None] * work[:, j, None]
        if rows is not None and stop < cols:
            work[:, stop:] -= rows[:, start:stop, stop:].transpose(0, 2, 1) @ work[:, start:stop]
    return stored


def swept(weight: F32, stored: F32, hessian: F32, decide: Decide) -> F32:
    """One sweep of coordinate descent: every column decided anew with all others as they are.

    decide sees the value that would be best, and stores it at a cost that grows with the distance from it.
    """
    stored = stored.copy()
    error = np.ascontiguousarray(weight - stored)
    cols = weight.shape[1]
    for start in range(0, cols, BLOCK):
        stop = min(start + BLOCK, cols)
        pull = hessian[:, start:stop] @ error
        for j in range(start, stop):
            curve = np.maximum(hessian[:, j, j, None], np.float32(1e-20))
            old = stored[:, j].copy()
            best = np.asarray((old + pull[:, j - start] / curve)[:, None], np.float32)
            stored[:, j] = decide(best, j)[:, 0]
            moved = old - stored[:, j]
            error[:, j] += moved
            pull[:, j + 1 - start :] += hessian[:, j, j + 1 : stop, None] * moved[:, None]
    return stored
