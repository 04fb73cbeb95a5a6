"""What a streamed run hands back: the file stays on the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attar.evaluate.certificate import holds
from attar.recipe import Recipe
from attar.types import Certificate, Json, Score


@dataclass(frozen=True)
class Streamed:
    """As `attar.api.Result`, but for the bytes and the model, which are larger than memory."""

    path: Path
    certificate: Certificate
    before: Score = field(repr=False)
    after: Score = field(repr=False)
    bytes_before: int
    bytes_after: int
    bits: float
    """Of the file, for each weight of a layer."""
    recipe: Recipe
    points: bool
    events: Sequence[Mapping[str, Json]] = field(repr=False)
    fast: None = None
    calibration: None = None

    @property
    def warnings(self) -> Sequence[str]:
        """What a reader of the certificate should know: splits, outputs and labels that are not what they seem."""
        from attar.report.ledger import gather

        return gather(self.events).warnings

    @property
    def ratio(self) -> float:
        """How many times smaller the .attar file is than the folder's files."""
        return self.bytes_before / self.bytes_after

    @property
    def certified(self) -> bool:
        """Whether the bound is within the budget."""
        return self.certificate.verdict == "certified"

    @property
    def within(self) -> bool:
        """Whether what the recipe's guarantee asks for holds: the bound, or the point estimate."""
        return holds(self.certificate, self.recipe.guarantee)
