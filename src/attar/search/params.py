"""Parameters from a recipe's settings, checked against what their dataclass says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from attar import registry
from attar.errors import UsageError
from attar.recipe import Recipe

T = TypeVar("T")
Settings = Mapping[str, Mapping[str, Any]]
STAGES = ("data", "calibration", "recovery", "removal", "scaling")
DATA, CALIBRATION, RECOVERY, REMOVAL, SCALING = STAGES
"""The tables of settings that are a stage's and no method's: they hold for the whole model."""
SHOWN = 8


def params_of(name: str, settings: Settings | None) -> Any:
    """The method's `Params`; raises UsageError for an unknown method or parameter and for a value out of range."""
    return checked(registry.get("method", name).Params, name, settings)


def check_rules(recipe: Recipe, layers: Sequence[str]) -> None:
    """That methods, settings and patterns of a recipe are what they can be; raises UsageError."""
    _check_tables("", recipe.methods, recipe.settings, STAGES)
    for pattern, rule in recipe.layers.items():
        _check_tables(f"layers.{pattern}.", rule.methods or (), rule.settings, ())
    for pattern in [*recipe.exclude, *recipe.layers]:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise UsageError(
                f"recipe: a pattern must fit a layer. Received {pattern!r}, and the layers are "
                f"{', '.join(layers[:SHOWN])}{', ...' if len(layers) > SHOWN else ''}. Correct it: * is any text."
            )


def _check_tables(place: str, methods: Sequence[str], settings: Settings, stages: Sequence[str]) -> None:
    """That methods are known, and tables theirs or a stage's."""
    known = [*registry.names("method"), *stages]
    for name in dict.fromkeys([*methods, *settings]):
        if name in settings and name not in known:
            raise UsageError(
                f"{place}settings: each table must be one of {', '.join(known)}. Received {name!r}. Correct the recipe."
            )
        if name not in stages:
            params_of(name, settings)


def checked(cls: type[T], name: str, settings: Settings | None) -> T:
    """A dataclass of parameters from the table of its name; raises UsageError for what its fields do not allow."""
    given = (settings or {}).get(name, {})
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    for key, value in given.items():
        if key not in known:
            raise UsageError(
                f"settings.{name}: a parameter must be one of {', '.join(known) or 'none'}. Received {key!r}. "
                "Correct the recipe."
            )
        rule = _broken(known[key], value)
        if rule:
            raise UsageError(f"settings.{name}.{key}: it must be {rule}. Received {value!r}. Correct the recipe.")
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
