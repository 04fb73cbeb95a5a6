"""Which weights are to be zero: by magnitude, by Wanda's or by Optimal Brain Surgeon's criterion, free or N in M.

Sources: SparseGPT (Frantar and Alistarh 2023, section 3.2: masks by blocks of columns, after the errors of earlier
blocks were fed back), Wanda (Sun et al. 2024, equation 1: |w| times the norm of the input), N:M (Mishra et al. 2021).
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from attar.methods.feedback import BLOCK
from attar.methods.grid import Problem, diagonal

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
CRITERIA = ("obs", "wanda", "magnitude")


def parse(pattern: str) -> tuple[int, int]:
    """(most that stay, of how many) of a pattern like "2:4", (1, 1) of "free"; raises ValueError."""
    if pattern == "free":
        return 1, 1
    found = re.fullmatch(r"(\d+):(\d+)", pattern)
    if not found or not 0 < int(found[1]) < int(found[2]):
        raise ValueError(f"pattern: it must be 'free' or N:M with N below M. Received {pattern!r}. Use '2:4'.")
    return int(found[1]), int(found[2])


def by_runs(hessian: F64, run: int) -> NDArray[np.int64]:
    """The order [groups, cols] by falling diagonal in which runs of so many neighbouring columns stay together.

    A last, shorter run stays last.
    """
    values = diagonal(hessian)
    groups, cols = values.shape
    whole = cols // run * run
    runs = np.argsort(-values[:, :whole].reshape(groups, -1, run).sum(2), axis=1, kind="stable")
    order = (runs[:, :, None] * run + np.arange(run)).reshape(groups, -1)
    rest = np.broadcast_to(np.arange(whole, cols), (groups, cols - whole))
    return np.concatenate([order, rest], axis=1)


def saliency(problem: Problem, values: F32, criterion: str) -> F32:
    """What zeroing each value would cost [groups, cols, rows]; values in units of the steps.

    obs: nats, if later columns make up for it; wanda: nats, if nothing does, compared over the whole layer (the paper
    compares within a row, having no sensitivities of rows); magnitude: the weight's, squared.
    """
    if criterion == "obs":
        return np.asarray(np.square(values) * problem.pivots[:, :, None] * problem.stiffness[:, None, :])
    if criterion == "wanda":
        variance = problem.hessian if problem.rows is None else np.diagonal(problem.hessian, axis1=1, axis2=2)
        return np.asarray(np.square(values) * variance[:, :, None] * problem.stiffness[:, None, :])
    return np.asarray(np.square(values * problem.steps()))


def share_below(problem: Problem, nats: float) -> float:
    """The share of weights whose zeroing would cost less than this many nats each, by the OBS criterion."""
    return float(np.mean(saliency(problem, problem.scaled, "obs") < nats))


def choose(problem: Problem, criterion: str, share: float, pattern: str = "free") -> Mask:
    """True where a zero shall be [groups, cols, rows], in the order of quantisation.

    obs chooses a block of columns at a time, from weights that earlier blocks' zeros have moved; how many of a block
    go, the saliency before the first zero says. A pattern other than free has a share of its own.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion: it must be one of {', '.join(CRITERIA)}. Received {criterion!r}.")
    still = saliency(problem, problem.scaled, criterion)
    keep, run = parse(pattern)
    if criterion != "obs" or problem.rows is None:
        return lowest(still, round(share * still.size)) if pattern == "free" else in_runs(still, keep, run)
    planned = lowest(still, round(share * still.size))
    mask = np.zeros(still.shape, np.bool_)
    work, cols = problem.scaled.copy(), still.shape[1]
    width = run * max(1, BLOCK // run)
    for start in range(0, cols, width):
        block = slice(start, min(start + width, cols))
        now = saliency(problem, work, criterion)[:, block]
        if pattern == "free":
            mask[:, block] = lowest(now, int(planned[:, block].sum()))
        else:
            mask[:, block] = in_runs(now, keep, run)
        _feed_back(work, mask, problem.rows, block)
    return mask


def _feed_back(work: F32, mask: Mask, rows: F32, block: slice) -> None:
    """Zero a block's masked weights, with their errors taken off everything behind them."""
    for j in range(block.start, block.stop):
        work[:, j] *= mask[:, j]
        work[:, j + 1 : block.stop] -= rows[:, j, j + 1 : block.stop, None] * work[:, j, None]
    work[:, block.stop :] -= rows[:, block, block.stop :].transpose(0, 2, 1) @ work[:, block]


def lowest(values: F32, count: int) -> Mask:
    """True at the `count` lowest of all values, the first among equals."""
    mask = np.zeros(values.size, np.bool_)
    mask[np.argsort(values, axis=None, kind="stable")[:count]] = True
    return mask.reshape(values.shape)


def in_runs(values: F32, keep: int, run: int) -> Mask:
    """True at all but the `keep` highest of every run of columns; a last, shorter run keeps so many too."""
    groups, cols, rows = values.shape
    padded = np.full((groups, -(-cols // run) * run, rows), -np.inf, np.float32)
    padded[:, :cols] = values
    padded = padded.reshape(groups, -1, run, rows)
    rank = np.argsort(np.argsort(-padded, axis=2, kind="stable"), axis=2, kind="stable")
    return np.ascontiguousarray((rank >= keep).reshape(groups, -1, rows)[:, :cols])
