"""What can be done with recipes besides running them: check, show in full, compare, describe as a JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import Field, asdict, fields
from pathlib import Path
from typing import Any

from attar import parameters, registry
from attar import recipe as recipes
from attar.copies.prepare import DataSettings
from attar.errors import UsageError
from attar.evaluate.metrics import resolve_metric
from attar.recipe import LayerRule, Recipe
from attar.recover.augment import changes_of
from attar.recover.settings import RecoverySettings
from attar.search.params import AUGMENT, CALIBRATION, DATA, RECOVERY, REMOVAL, SCALING, check_tables
from attar.selection.base import CalibrationSettings
from attar.structure.scaling import ScalingSettings
from attar.structure.select import RemovalSettings
from attar.types import Json
from attar.user_code import is_spec

STAGES: Mapping[str, type] = {
    DATA: DataSettings, CALIBRATION: CalibrationSettings, RECOVERY: RecoverySettings, REMOVAL: RemovalSettings,
    SCALING: ScalingSettings,
}  # fmt: skip
"""The parameters of each stage; those of augment depend on what recovery names."""
Parts = tuple[str, ...]
KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", tuple: "array"}


def validate(path: Path) -> Recipe:
    """A recipe whose every field and parameter is one that a run would take; raises UsageError.

    Patterns of layers, and the data, are looked at when a model is there: `attar compress --recipe R --dry-run`.
    """
    recipe = recipes.read(path)
    check_tables(recipe)
    for name, settings in STAGES.items():
        parameters.checked(settings, f"settings.{name}", recipe.settings.get(name, {}))
    recovery = parameters.checked(RecoverySettings, f"settings.{RECOVERY}", recipe.settings.get(RECOVERY, {}))
    changes_of(recovery.augment, recipe.settings.get(AUGMENT, {}))
    if not is_spec(recipe.metric):
        resolve_metric(recipe.metric)
    return recipe


def of(path: Path | None, preset: str | None) -> Recipe:
    """A recipe file, or a preset, or the file over the preset, checked; raises UsageError."""
    if path is None and preset is None:
        raise UsageError("recipe show: a recipe is needed. Received none. Name a file, or a preset with --preset.")
    fields = {} if path is None else validate(path).model_dump(exclude_none=True, exclude_unset=True)
    return recipes.make(**{**fields, **({} if preset is None else {"preset": preset})})


def in_full(recipe: Recipe) -> dict[str, Json]:
    """Every value that a run with it would take, by its name in TOML: fields, parameters of its methods and stages."""
    return {recipes.dotted(parts): value for parts, value in _values(recipe).items()}


def _values(recipe: Recipe) -> dict[Parts, Json]:
    """The same by the parts of the name."""
    found: dict[Parts, Json] = {
        (name,): value for name, value in recipe.model_dump().items() if name not in ("settings", "layers")
    }
    tables = {name: registry.get("method", name).Params for name in recipe.methods} | dict(STAGES)
    for name, settings in tables.items():
        values = asdict(parameters.checked(settings, f"settings.{name}", recipe.settings.get(name, {})))
        found |= {("settings", name, key): _plain(value) for key, value in values.items()}
    rest = {name: table for name, table in recipe.settings.items() if name not in tables}
    rules = {name: rule.model_dump(exclude_none=True) for name, rule in recipe.layers.items()}
    return {**found, **dict(_flat(("settings",), rest)), **dict(_flat(("layers",), rules))}


def differences(first: Recipe, second: Recipe) -> list[tuple[str, Json, Json]]:
    """(name, value in the first, in the second) of all that differs, defaults included; None where there is none."""
    one, two = in_full(first), in_full(second)
    return [(name, one.get(name), two.get(name)) for name in {**one, **two} if one.get(name) != two.get(name)]


def shown(recipe: Recipe) -> str:
    """The recipe in full as TOML, each value with what it means; those that are not the defaults are marked."""
    told = {(name,): str(field.description) for name, field in Recipe.model_fields.items()}
    plain, lines = _values(Recipe()), []
    for parts, value in _values(recipe).items():
        if value is None:
            continue
        mark = "" if value == plain.get(parts) else " (set)"
        comment = _comment(told.get(parts) or _help(parts), mark)
        lines.append(f"{recipes.dotted(parts)} = {recipes.toml_value(value)}{comment}")
    return "\n".join(lines) + "\n"


def _comment(text: str, mark: str) -> str:
    """A comment behind a value."""
    return f"  # {text}{mark}" if text or mark else ""


def _help(parts: Parts) -> str:
    """What a parameter of a table means; nothing for one that a user named."""
    if len(parts) != 3 or parts[0] != "settings":
        return ""
    known = dict(STAGES)
    if parts[1] in registry.REGISTRY["method"]:
        known[parts[1]] = registry.get("method", parts[1]).Params
    found = [field for field in fields(known[parts[1]]) if field.name == parts[2]] if parts[1] in known else []
    return str(found[0].metadata.get("help", "")) if found else ""


def _flat(place: Parts, table: Mapping[str, Any]) -> Iterator[tuple[Parts, Json]]:
    """Values of tables in tables, by the parts of their names."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat((*place, name), value)
        else:
            yield (*place, name), _plain(value)


def _plain(value: Any) -> Json:
    """A value as JSON takes it."""
    return list(value) if isinstance(value, tuple) else value


def schema() -> dict[str, Json]:
    """The recipe as a JSON schema (2020-12), with the parameters of every method and stage."""
    found: dict[str, Json] = Recipe.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    tables = {name: registry.get("method", name).Params for name in registry.names("method")} | dict(STAGES)
    settings: dict[str, Json] = {
        "type": "object", "additionalProperties": False,
        "properties": {**{name: _table(cls) for name, cls in tables.items()}, AUGMENT: {"type": "object"}},
    }  # fmt: skip
    found["properties"]["settings"] |= settings
    found["$defs"][LayerRule.__name__]["properties"]["settings"] |= settings
    return found


def _table(cls: type) -> dict[str, Json]:
    """The schema of a dataclass of parameters."""
    return {
        "type": "object", "additionalProperties": False,
        "properties": {field.name: _parameter(field) for field in fields(cls)},
    }  # fmt: skip


def _parameter(field: Field[Any]) -> dict[str, Json]:
    """The schema of one parameter: type of the default, bounds, choices."""
    told = field.metadata
    found: dict[str, Json] = {"type": KINDS[type(field.default)], "default": _plain(field.default)}
    found |= {"description": told["help"]} if "help" in told else {}
    found |= {"minimum": told["low"], "maximum": told["high"]} if "low" in told else {}
    if "choices" in told:
        choices = {"enum": list(told["choices"])}
        found |= {"items": choices} if isinstance(field.default, tuple) else choices
    return found


def schema_text() -> str:
    """The schema as a file."""
    return json.dumps(schema(), indent=1)
