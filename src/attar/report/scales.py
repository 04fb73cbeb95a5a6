"""Axes that the two ways to draw share: from values to 0..1, and the ticks between."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """A range and a form: "linear", "log", or "symlog" (linear within `constant` of zero, logarithmic beyond)."""

    low: float
    high: float
    form: str = "linear"
    constant: float = 1.0

    def place(self, value: float) -> float:
        """0 at `low`, 1 at `high`."""
        low, high = self._bent(self.low), self._bent(self.high)
        return (self._bent(value) - low) / (high - low)

    def _bent(self, value: float) -> float:
        """The value on the axis' own scale."""
        if self.form == "log":
            return math.log10(value)
        if self.form == "symlog":
            return math.copysign(math.log1p(abs(value) / self.constant), value)
        return value

    def ticks(self) -> list[float]:
        """About six values: 1, 2, 2.5, 5 times a power of ten."""
        if self.form == "log":
            return _log_ticks(self.low, self.high)
        if self.form == "symlog":
            wide = [sign * step for step in _log_ticks(self.constant, max(self.high, -self.low)) for sign in (-1, 1)]
            return sorted(tick for tick in {0.0, *wide} if self.low <= tick <= self.high)
        return _even_ticks(self.low, self.high, nice_step((self.high - self.low) / 5))


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * (1 - 1e-9))


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 per decade, or only powers of ten where that would be many; even steps where the range is narrow."""
    if high < 4 * low:
        return _even_ticks(low, high, nice_step((high - low) / 8))
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0,)):
        ticks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(ticks) <= 7:
            break
    return ticks[:: -(-len(ticks) // 7)]


def _even_ticks(low: float, high: float, step: float) -> list[float]:
    """Multiples of the step within the range."""
    first = math.ceil(low / step - 1e-9)
    return [float(f"{step * k:.12g}") for k in range(first, math.floor(high / step + 1e-9) + 1)]


def size_axis(sizes: Iterable[float]) -> Axis:
    """Logarithmic, with room on both sides."""
    known = [size for size in sizes if size > 0] or [1.0, 10.0]
    low, high = min(known), max(known)
    margin = max((high / low) ** 0.06, 1.08)
    return Axis(low / margin, high * margin, "log")


def drop_axis(values: Sequence[float], limit: float | None) -> Axis:
    """Linear, or symlog where some drop is so large that the allowed one would vanish at the bottom."""
    shown = [*values, 0.0, *([limit] if limit is not None else [])]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    if limit and max(high, -low) > 8 * abs(limit):
        room = 1.25
        return Axis(low * room if low < 0 else -abs(limit) / 4, max(high * room, abs(limit)), "symlog", abs(limit))
    return Axis(low - 0.06 * span, high + 0.08 * span)


def bar_axis(values: Sequence[float]) -> Axis:
    """From zero, for bars."""
    return Axis(0.0, max([*values, 0.0]) * 1.04 or 1.0)


def nats_axis(values: Sequence[float]) -> Axis:
    """Logarithmic, for sensitivities."""
    known = [value for value in values if value > 0] or [1.0]
    low, high = min(known), max(known)
    margin = max((high / low) ** 0.05, 1.5)
    return Axis(low / margin, high * margin, "log")
