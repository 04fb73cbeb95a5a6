"""Which bytes of an image are known when one is coded: row by row, in a row pixel by pixel, in a pixel by channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
TAPS = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-2, 1), (-1, 2), (-2, -1))
"""(row, column) distances in the same channel; the first four are what regimes, sides and pairs are about."""
ERRORS = ((0, -1), (0, -2), (-1, 0), (-1, -1), (-1, 1), (-2, 0))
BEFORE = ((0, 0), (0, -1), (-1, 0))
"""Distances in each channel before."""


@dataclass(frozen=True)
class Geometry:
    """tap [sites, taps] and error [sites, errors]: what a site is predicted from, -1 for none; channel [sites]."""

    tap: I32
    error: I32
    channel: I32

    @property
    def sites(self) -> int:
        """Bytes of one image."""
        return len(self.tap)


def geometry(height: int, width: int, channels: int) -> Geometry:
    """The sites of images [height, width, channels], in C order."""
    y, x, c = (axis.reshape(-1) for axis in np.indices((height, width, channels), np.int32))

    def at(dy: I32 | int, column: I32, channel: I32) -> I32:
        row = y + dy
        inside = (row >= 0) & (column >= 0) & (column < width) & (channel >= 0)
        return np.where(inside, (row * width + column) * channels + channel, -1).astype(np.int32)

    taps = [at(dy, x + dx, c) for dy, dx in TAPS]
    for shift in (0, 1):
        # The mirror image: in this row where it is known already, else in the row above.
        column = width - 1 - x + shift
        taps.append(at(np.where(column < x - 1, 0, -1).astype(np.int32), column, c))
    errors = [at(dy, x + dx, c) for dy, dx in ERRORS]
    for back in range(1, channels):
        taps += [at(dy, x + dx, c - back) for dy, dx in BEFORE]
        errors.append(at(0, x, c - back))
    return Geometry(np.stack(taps, 1), np.stack(errors, 1), c)
