"""Parameters by what the fields of their dataclass say: checked against type, bounds and choices, and tried in ranges.

A field's metadata: `help`, `low` and `high` (bounds inclusive) or `choices`. `tune`: (least, most), where what is worth
trying is less than what is allowed; False where nothing is, as of seeds, and of what a slope decides better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from typing import Any, TypeVar

from attar.errors import UsageError

T = TypeVar("T")


def checked(cls: type[T], place: str, given: Mapping[str, Any]) -> T:
    """The dataclass with the given values; raises UsageError, naming the place, for what its fields do not allow."""
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    for key, value in given.items():
        if key not in known:
            raise UsageError(
                f"{place}: a parameter must be one of {', '.join(known) or 'none'}. Received {key!r}. "
                "Correct the recipe."
            )
        rule = _broken(known[key], value)
        if rule:
            raise UsageError(f"{place}.{key}: it must be {rule}. Received {value!r}. Correct the recipe.")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})


def _broken(field: Field[Any], value: Any) -> str | None:
    """The rule that a value breaks, None where it breaks none: the default's type, bounds, choices."""
    choices = field.metadata.get("choices")
    if isinstance(field.default, tuple):
        fits = isinstance(value, list | tuple) and (choices is None or set(value) <= set(choices))
        return None if fits else f"a list of {', '.join(map(repr, choices or ()))}"
    kind = type(field.default)
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool):
        return f"a {kind.__name__}"
    if "low" in field.metadata and not field.metadata["low"] <= value <= field.metadata["high"]:
        return f"from {field.metadata['low']:g} to {field.metadata['high']:g}"
    if choices is not None and value not in choices:
        return f"one of {', '.join(map(repr, choices))}"
    return None


@dataclass(frozen=True, slots=True)
class Range:
    """What a parameter may be tried at: one of the choices, or a number from low to high of the default's type."""

    default: Any
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0

    @property
    def ratios(self) -> bool:
        """Whether it is ratios that matter, not differences: of what is above zero and goes over an octave or more."""
        return self.low > 0 and self.high >= 2 * self.low

    def tidy(self, value: Any) -> Any:
        """A value within the range as a recipe should hold it: floats of three digits."""
        if not isinstance(self.default, float):
            return value
        return min(max(float(f"{value:.3g}"), self.low), self.high)


def ranges(cls: type) -> dict[str, Range]:
    """What may be tried of a dataclass of parameters, by name."""
    found = {}
    for field in fields(cls):
        told, default = field.metadata, field.default
        low, high = told.get("tune") or (told.get("low"), told.get("high"))
        if told.get("tune") is False or isinstance(default, tuple):
            continue
        if isinstance(default, bool):
            found[field.name] = Range(default, (False, True))
        elif "choices" in told:
            found[field.name] = Range(default, tuple(told["choices"]))
        elif low is not None and high is not None:
            found[field.name] = Range(default, (), low, high)
    return found
