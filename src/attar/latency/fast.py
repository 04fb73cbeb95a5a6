"""The artefact of a latency goal, as it is handed back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attar.exports.timing import Latency
from attar.types import Certificate, Json


@dataclass(frozen=True)
class FastFile:
    """Its bytes, its certificate in its runtime, how long it takes, and what was asked for."""

    data: bytes = field(repr=False)
    certificate: Certificate
    latency: Latency
    milliseconds: float
    """The latency's ratio on the scale of the float model's time."""
    predicted: float | None
    budget_ms: float | None
    record: Mapping[str, Json] = field(repr=False)

    @property
    def in_time(self) -> bool:
        """Whether it takes no longer than asked for."""
        return self.budget_ms is None or self.milliseconds <= self.budget_ms
