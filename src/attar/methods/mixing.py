"""Random numbers that are a part of the format: the same on every machine for ever, whatever numpy's generators do.

Source: splitmix64 (Steele, Lea and Flood 2014, figure 10), its finaliser taken of a counter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)


def mixed(seed: int, start: int, count: int) -> NDArray[np.uint64]:
    """The outputs number start .. start + count - 1 of splitmix64 from a seed, 64 bits each."""
    with np.errstate(over="ignore"):
        z = np.arange(start + 1, start + count + 1, dtype=np.uint64) * GOLDEN + np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * FIRST
        z = (z ^ (z >> np.uint64(27))) * SECOND
        return np.asarray(z ^ (z >> np.uint64(31)))


def signs(count: int, seed: int) -> NDArray[np.int8]:
    """+1 or -1 each, by the lowest bit."""
    return (1 - 2 * (mixed(seed, 0, count) & np.uint64(1)).astype(np.int8)).astype(np.int8)
