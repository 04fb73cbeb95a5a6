"""One candidate of a latency goal, by its name: a number, that of its stage, half more where it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attar.exports.timing import Latency
from attar.latency.made import Fast

FLOAT, WHOLE, BOLDER, TRAINED = -1.0, 0.0, 0.25, 0.5
"""Names: the model as it came, integers with all channels, the same with fewer nodes in float for the drop, and what is
added for a trained one."""
SIZED = 1e6
"""From where on names are those of candidates with coarser codes."""


@dataclass(frozen=True)
class Candidate:
    """One candidate: its file and artefact, and how long the artefact takes (milliseconds on the float model's scale).

    predicted is the planner's; share that of the multiply-adds that went; channels before and after by group.
    """

    key: float
    archive: bytes = field(repr=False)
    fast: Fast = field(repr=False)
    latency: Latency
    milliseconds: float
    predicted: float | None
    channels: Mapping[str, tuple[int, int]]
    share: float

    @property
    def trained(self) -> bool:
        """Whether it was trained after channels went."""
        return is_trained(self.key)


def is_trained(key: float) -> bool:
    """Whether a name is that of a trained candidate."""
    return 0 <= key < SIZED and key % 1 == TRAINED
