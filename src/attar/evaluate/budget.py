"""How much worse a compressed model may be, as the user says it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from attar.errors import UsageError


@dataclass(frozen=True, slots=True)
class Budget:
    """The drop allowed: absolute, in the metric's unit (accuracy: points), or a share of the original's value.

    With both, the smaller holds. guarantee "bound": the one-sided bound on the drop must be within it at `confidence`;
    "estimate": the observed drop. Raises UsageError.
    """

    max_drop: float | None = None
    max_relative_drop: float | None = None
    confidence: float = 0.95
    guarantee: Literal["bound", "estimate"] = "bound"

    def __post_init__(self) -> None:
        if self.max_drop is None and self.max_relative_drop is None:
            raise UsageError(
                "budget: a drop is needed. Received none. Give max_drop (--max-drop 0.5) or max_relative_drop "
                "(--max-relative-drop 1%)."
            )
        for name in ("max_drop", "max_relative_drop"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value >= 0):
                raise UsageError(f"budget {name!r}: it must be a number, zero or more. Received {value!r}.")
        if not (_is_number(self.confidence) and 0.5 < self.confidence < 1):
            raise UsageError(
                f"budget 'confidence': it must be above 0.5 and below 1. Received {self.confidence!r}. Use 0.95."
            )
        if self.guarantee not in ("bound", "estimate"):
            raise UsageError(f"budget 'guarantee': it must be 'bound' or 'estimate'. Received {self.guarantee!r}.")

    def limit(self, before: float) -> float:
        """The drop allowed in the metric's unit, given the original's value; raises UsageError.

        >>> Budget(max_relative_drop=0.01).limit(90.0)
        0.9
        """
        limits = [] if self.max_drop is None else [float(self.max_drop)]
        if self.max_relative_drop is not None:
            if before == 0 or not math.isfinite(before):
                raise UsageError(
                    f"budget 'max_relative_drop': the original's value must not be zero. "
                    f"Received {before}. Use max_drop."
                )
            limits.append(float(self.max_relative_drop) * abs(before))
        return min(limits)


def _is_number(value: object) -> bool:
    """A finite number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
