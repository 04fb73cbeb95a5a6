"""How far a run has come, in one place for every display: stage, candidates, the best so far, the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from attar.types import Json


@dataclass
class Course:
    """Fed with stages, steps and the ledger's events; asked for lines of text. Times are seconds since the start."""

    clock: Callable[[], float] = time.monotonic
    name: str = ""
    done: int = 0
    total: int = 0
    layers: int = 0
    evaluations: int = 0
    most: int | None = None
    limit: float | None = None
    unit: str = ""
    time_budget: float | None = None
    best: Mapping[str, Json] | None = None
    ended: bool = False
    _began: float = field(init=False)
    _stage_began: float = field(init=False)
    _first: float | None = None
    _latest: float | None = None

    def __post_init__(self) -> None:
        self._began = self._stage_began = self.clock()

    def stage(self, name: str, total: int) -> None:
        """A new stage of so many steps."""
        self.name, self.done, self.total, self._stage_began = name, 0, total, self.clock()

    def step(self, count: int = 1) -> None:
        """So many steps are done."""
        self.done += count

    def event(self, event: Mapping[str, Json]) -> None:
        """What the ledger has just been told."""
        kind = event.get("event")
        if kind == "run":
            recipe = event.get("recipe") or {}
            self.most, self.time_budget = recipe.get("evaluations", 8), recipe.get("time_budget")
            self.limit = (event.get("budget") or {}).get("max_drop")
            self.unit = (event.get("metric") or {}).get("unit") or ""
        elif kind == "layers":
            self.layers = len(event.get("layers") or ())
        elif kind == "landed":
            self.limit = event.get("limit", self.limit)
        elif kind == "candidate":
            self._candidate(event)
        elif kind == "result":
            self.ended = True

    def _candidate(self, event: Mapping[str, Json]) -> None:
        """One evaluation more, and perhaps a better candidate."""
        now = self.clock()
        self.evaluations, self._latest = self.evaluations + 1, now
        self._first = now - (event.get("seconds") or 0.0) if self._first is None else self._first
        if event.get("bytes") and self._rank(event) >= (self._rank(self.best) if self.best else (0, 0.0, 0.0)):
            self.best = event

    def _rank(self, event: Mapping[str, Json]) -> tuple[int, float, float]:
        """Greater is better: certified, then seen by the search alone, then beyond the drop; of these by bytes."""
        sure = event.get("split") == "certify"
        drop = event.get("upper") if sure else event.get("drop")
        limit = event.get("limit", self.limit)  # a share of the original's value, which is not the same on both splits
        within = drop is not None and (limit is None or drop <= limit)
        return (
            (3 if sure else 2) if within else 1,
            -(drop or 0.0) if not within else 0.0,
            -float(event.get("bytes") or 0),
        )

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self._began

    def left(self) -> float | None:
        """Seconds that are left at most: of the search once a candidate was evaluated, before that of the stage."""
        budget = None if self.time_budget is None else max(self.time_budget - self.elapsed, 0.0)
        if self.ended:
            return None
        if self._first is not None and self._latest is not None and self.most is not None:
            each = (self._latest - self._first) / self.evaluations
            since = self.clock() - self._latest
            left = max(each * (self.most - self.evaluations) - since, 0.0)
            return left if budget is None else min(left, budget)
        return budget if budget is not None else self.stage_left()

    def stage_left(self) -> float | None:
        """Seconds that are left of the stage; None before its first step."""
        if not 0 < self.done < self.total:
            return None
        return (self.clock() - self._stage_began) * (self.total - self.done) / self.done

    def best_line(self) -> str:
        """The best so far, or ""."""
        if self.best is None:
            return ""
        drop, upper, ratio = (self.best.get(key) for key in ("drop", "upper", "ratio"))
        text = f"{self.best.get('bytes'):,} bytes"
        text += f" ({ratio:.1f}x)" if ratio is not None else ""
        if self.best.get("milliseconds") is not None:
            text += f", {self.best['milliseconds']:.3g} ms"
        text += f", drop {drop:+.3g} {self.unit}".rstrip() if drop is not None else ""
        if self.best.get("split") != "certify":
            return f"{text} on the select split"
        return f"{text}, at most {upper:+.3g}" if upper is not None else text

    def line(self) -> str:
        """Everything but the stage, in one line: elapsed, what is left, the best so far, evaluations, layers."""
        parts = [clock_text(self.elapsed)]
        if (left := self.left()) is not None:
            parts.append(f"at most {clock_text(left)} left" if self.evaluations else f"{clock_text(left)} left")
        parts += [f"best so far {self.best_line()}"] if self.best else []
        parts += [f"evaluation {self.evaluations} of at most {self.most}"] if self.evaluations else []
        parts += [f"{self.layers} layer{'s' * (self.layers != 1)}"] if self.layers else []
        return " \N{MIDDLE DOT} ".join(parts)


def clock_text(seconds: float) -> str:
    """Minutes and seconds, or hours.

    >>> clock_text(75), clock_text(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
