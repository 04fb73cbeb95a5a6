"""Certification of several candidates: a fixed sequence, safest first, ended by the first that fails.

The certify split is looked at only after the search has ended, by a fixed sequence of candidates that the search alone
chose (Bauer 1991; Angelopoulos et al. 2022, section 2.3): each is tested at the full confidence level, and the first
that fails ends the sequence, so that looking at several does not spoil the level.

A sequence that begins with what is quite safe takes the most evaluations where they tell the least. So there is a
second one of safer candidates to fall back on, where the first of the first fails, at a level of its own: the error is
split between the two (Bonferroni; the fallback procedure of Wiens 2003 hands no more on), SPARED of it for the second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from attar.evaluate.budget import Budget
from attar.types import Certificate, Score

SPARED = 0.05
"""Share of the error, 1 - confidence, that a sequence to fall back on has."""
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


def level(confidence: float, *, spare: bool) -> float:
    """The confidence of each bound where there are two sequences: in the one to fall back on, or in the other.

    >>> round(level(0.95, spare=False), 4), round(level(0.95, spare=True), 4)
    (0.9525, 0.9975)
    """
    return 1 - (1 - confidence) * (SPARED if spare else 1 - SPARED)


def certify_in_order(
    loop: Tested[C_co],
    slopes: Sequence[float],
    interrupted: Stop = lambda: False,
    spare: Sequence[float] = (),
) -> Outcome[C_co]:
    """Test candidates, safest first, on the certify split; hand back the last before the first failure.

    spare: safer ones to fall back on where the first fails. An interrupted run tests the first alone, or no further
    ones: time ends the sequence, not what was seen. Each costs less than the one before. Where the first fails already,
    and the first to fall back on, the safest is handed back with its verdict.
    """
    best, passed = _last_that_passed(loop, slopes, interrupted)
    if not passed and spare:
        best, _ = _last_that_passed(loop, spare, interrupted)
    return Outcome(best.candidate, best.certificate, best.before, best.after, loop.count)


def _last_that_passed(
    loop: Tested[C_co], slopes: Sequence[float], interrupted: Stop
) -> tuple[Outcome[C_co], bool]:  # fmt: skip
    """The last that passed of one sequence, or its first, and whether that did."""
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
            return best, False
    assert best is not None
    return best, True
