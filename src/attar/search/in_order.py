"""Certification of several candidates: a fixed sequence, safest first, ended by the first that fails.

The certify split is looked at only after the search has ended, by a fixed sequence of candidates that the search alone
chose (Bauer 1991; Angelopoulos et al. 2022, section 2.3): each is tested at the full confidence level, and the first
that fails ends the sequence, so that looking at several does not spoil the level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from attar.evaluate.budget import Budget
from attar.types import Certificate, Score

C_co = TypeVar("C_co", covariant=True)
Stop = Callable[[], bool]
"""Whether a run is to end with what it has."""


class Tested(Protocol[C_co]):
    """What candidates, named by a slope, are tested with."""

    @property
    def budget(self) -> Budget:
        """The drop allowed."""
        ...

    @property
    def before(self) -> Mapping[str, Score]:
        """The original's scores by split."""
        ...

    @property
    def count(self) -> int:
        """Full evaluations so far."""
        ...

    def evaluate(self, slope: float, split: str) -> tuple[C_co, Certificate, Score, float]:
        """One evaluation of a candidate on one split, whole or given up: itself, its verdict, its score, its KL."""
        ...

    def cost(self, slope: float) -> float:
        """What is to be small: bytes, milliseconds."""
        ...


@dataclass(frozen=True)
class Outcome(Generic[C_co]):
    """What a search ended with: the candidate to hand back, its certificate, and what it was compared with."""

    candidate: C_co
    certificate: Certificate
    before: Score
    after: Score
    evaluations: int


def front(loop: Tested[C_co], safest: float, expected: Mapping[float, float]) -> list[float]:
    """The safest slope, then those expected to show the least on new examples; each costs less.

    A trained candidate is never the first: the best of a few on the select split looks better there than it is, and
    where the first fails nothing is certified.
    """
    order = [safest]
    for slope in sorted(expected, key=lambda slope: expected[slope]):
        if loop.cost(slope) < loop.cost(order[-1]):
            order.append(slope)
    return order


def certify_in_order(
    loop: Tested[C_co], slopes: list[float], interrupted: Callable[[], bool] = lambda: False
) -> Outcome[C_co]:
    """Test candidates, safest first, on the certify split; hand back the last before the first failure.

    An interrupted run tests the first alone, or no further ones: time ends the sequence, not what was seen.
    Each costs less than the one before. Where the first fails already, it is handed back with its verdict.
    """
    best: Outcome[C_co] | None = None
    bound = loop.budget.guarantee == "bound"
    for slope in slopes:
        if best is not None and interrupted():
            break
        candidate, verdict, after, _ = loop.evaluate(slope, "certify")
        passed = verdict.verdict == "certified" if bound else verdict.drop <= verdict.max_drop
        if best is not None and not passed:
            break
        best = Outcome(candidate, verdict, loop.before["certify"], after, loop.count)
        if not passed:
            break
    assert best is not None
    return Outcome(best.candidate, best.certificate, best.before, best.after, loop.count)
