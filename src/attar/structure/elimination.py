"""Importance by elimination: channels go one after the other, and what reads them makes up for each at once.

Optimal Brain Surgeon by structure (Hassibi & Stork 1993; Kurtic et al. 2023, "ZipLM: Inference-Aware Structured Pruning
of Language Models"): with weights W, row sensitivities s and second moment H, the columns S cost
1/2 sum_r s_r w_rS ((H^-1)_SS)^-1 w_rS^T after the best change of the other columns, which changes H^-1 and
A = W^T diag(s) W for what is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attar.structure.base import Index
from attar.structure.moments import Scores

PARTS = 64
"""Steps of an elimination: wider groups lose several channels at once."""


class Reader:
    """A layer (one group of it) that reads a group: its columns by channel [channels, k], A and H^-1 [cols, cols]."""

    def __init__(self, matrix: Scores, sensitivity: Scores, moment: Scores, columns: Index):
        self._columns = columns
        self._square = (matrix * sensitivity[:, None]).T @ matrix
        self._inverse = np.asarray(np.linalg.inv(moment), np.float64)

    def losses(self, channels: Index) -> Scores:
        """What each of these channels would cost if it went next."""
        own = self._columns[channels]
        blocks = own[:, :, None], own[:, None, :]
        solved = np.linalg.solve(self._inverse[blocks], self._square[blocks])
        return np.asarray(0.5 * np.einsum("ckk->c", solved))

    def eliminate(self, channels: Index) -> None:
        """Take channels out, and change the rest for the best."""
        gone = self._columns[channels].ravel()
        cross = np.linalg.solve(self._inverse[np.ix_(gone, gone)], self._inverse[gone])  # [gone, cols]
        moved = cross.T @ self._square[gone]
        self._square += cross.T @ self._square[np.ix_(gone, gone)] @ cross - moved - moved.T
        self._inverse -= self._inverse[:, gone] @ cross
        self._inverse[gone, :] = self._inverse[:, gone] = 0
        self._square[gone, :] = self._square[:, gone] = 0


def eliminated(readers: Sequence[Reader], channels: int) -> Scores:
    """What each channel costs when its turn comes [channels], never less than those before: the order they go in."""
    left, scores, level = np.arange(channels), np.zeros(channels), 0.0
    step = max(channels // PARTS, 1)
    while len(left):
        losses = np.sum([reader.losses(left) for reader in readers], axis=0)
        order = np.argsort(losses, kind="stable")[:step]
        for place in order:
            level = max(level, float(losses[place]))
            scores[left[place]] = level
        for reader in readers:
            reader.eliminate(left[order])
        left = np.delete(left, order)
    return scores
