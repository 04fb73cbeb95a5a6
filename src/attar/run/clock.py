"""How long a run may take: a budget in seconds, and whether what comes next still fits it."""

from __future__ import annotations

import re
from time import perf_counter

from attar.errors import UsageError

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float:
    """'90', '90s', '10m' or '1.5h' in seconds; raises UsageError.

    >>> seconds_of("1.5h")
    5400.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if found is None or not float(found[1]):
        raise UsageError(f"time budget: it must be a time above zero. Received {text!r}. Write it as 90s, 10m or 1.5h.")
    return float(found[1]) * UNITS[found[2]]


class Clock:
    """The time of one run; without a budget there is always enough."""

    def __init__(self, budget: float | None = None) -> None:
        self.budget = budget
        self._started = perf_counter()

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return perf_counter() - self._started

    def over(self, next_seconds: float = 0.0) -> bool:
        """Whether something that takes so long would end behind the budget."""
        return self.budget is not None and self.elapsed() + next_seconds > self.budget
