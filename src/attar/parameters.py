"""Parameters checked against what the fields of their dataclass say: type of the default, bounds, choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields
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
