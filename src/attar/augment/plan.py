"""What is to be done to a set: which changes with which parameters, how many copies, from which seed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from attar.errors import UsageError
from attar.parameters import checked


@dataclass(frozen=True)
class Plan:
    """`changes` are tables of parameters by name, checked when the kind of the set is known; none: the usual ones."""

    copies: int = field(default=1, metadata={"help": "changed copies of each example", "low": 1, "high": 1000})
    seed: int = field(default=0, metadata={"help": "of every random choice", "low": 0, "high": 2**63 - 1})
    leave: tuple[str, ...] = field(default=(), metadata={"help": "columns of tables that stay as they are"})
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


FIELDS = tuple(each.name for each in fields(Plan) if each.name != "changes")


def plan_of(given: Mapping[str, Any]) -> Plan:
    """A plan from a recipe's values: fields, and a table for each change; raises UsageError."""
    tables = {name: value for name, value in given.items() if isinstance(value, Mapping)}
    plain = {name: value for name, value in given.items() if name not in tables}
    for name in plain:
        if name not in FIELDS:
            raise UsageError(
                f"recipe: a field must be one of {', '.join(FIELDS)}, or the table of a change. Received {name!r}. "
                "Correct the recipe."
            )
    if not all(isinstance(name, str) for name in plain.get("leave", ())):
        raise UsageError(
            f"recipe.leave: it must be a list of columns. Received {plain['leave']!r}. Correct the recipe."
        )
    made = checked(Plan, "recipe", plain)
    return Plan(made.copies, made.seed, made.leave, tables)


def read_plan(path: Path) -> Plan:
    """The plan of a TOML file; raises UsageError."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"recipe {str(path)!r}: it must be a readable TOML file. Received: {error}.") from None
    return plan_of(given)


def with_fields(plan: Plan, **values: Any) -> Plan:
    """The plan with some fields changed, those that are None left out; raises UsageError."""
    given = {name: value for name, value in values.items() if value is not None}
    return replace(plan, **{name: getattr(checked(Plan, "augment", given), name) for name in given})
