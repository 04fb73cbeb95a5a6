"""Parameters from a recipe's settings, checked against what their dataclass says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from attar import parameters, registry
from attar.errors import UsageError
from attar.recipe import Recipe

T = TypeVar("T")
Settings = Mapping[str, Mapping[str, Any]]
STAGES = ("data", "calibration", "recovery", "augment", "removal", "scaling", "text", "stream")
DATA, CALIBRATION, RECOVERY, AUGMENT, REMOVAL, SCALING, TEXT, STREAM = STAGES
"""The tables of settings that are a stage's and no method's: they hold for the whole model."""
SHOWN = 8


def params_of(name: str, settings: Settings | None) -> Any:
    """The method's `Params`; raises UsageError for an unknown method or parameter and for a value out of range."""
    return checked(registry.get("method", name).Params, name, settings)


def check_rules(recipe: Recipe, layers: Sequence[str]) -> None:
    """That methods, settings and patterns of a recipe are what they can be; raises UsageError."""
    check_tables(recipe)
    for pattern in [*recipe.exclude, *recipe.layers]:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise UsageError(
                f"recipe: a pattern must fit a layer. Received {pattern!r}, and the layers are "
                f"{', '.join(layers[:SHOWN])}{', ...' if len(layers) > SHOWN else ''}. Correct it: * is any text."
            )


def check_tables(recipe: Recipe) -> None:
    """That methods and settings of a recipe are what they can be; raises UsageError."""
    _check_tables("", recipe.methods, recipe.settings, STAGES)
    for pattern, rule in recipe.layers.items():
        _check_tables(f"layers.{pattern}.", rule.methods or (), rule.settings, ())


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
    return parameters.checked(cls, f"settings.{name}", (settings or {}).get(name, {}))
