"""One recipe: everything that decides a run's result, checked by pydantic, read and written as TOML."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from attar.errors import UsageError

Preset = Literal["quick", "balanced", "smallest", "fastest", "data-free"]
PRESETS = get_args(Preset)
"""Recipes that come with attar, in presets/: what else is given wins over them."""
METHODS = ("uniform", "lowrank", "keep")
"""The methods that compete in a search where a recipe does not say which."""
TRAINED = ("uniform", "keep")
"""The same where candidates are trained: of three networks two ended smaller so, certified (docs/benchmarks)."""


class LayerRule(BaseModel):
    """What holds for layers of a pattern, instead of what holds for all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    methods: list[str] | None = Field(None, min_length=1, description="methods that compete for these layers")
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict, description="parameters by method")


class Recipe(BaseModel):
    """What to do; field descriptions are the help texts of the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Preset | None = Field(
        None, description="quick, balanced, smallest, fastest or data-free: settings for what is not given otherwise"
    )
    model: str | None = Field(None, description="the model file")
    factory: str | None = Field(
        None, description="package.module:function that makes the PyTorch module of a state dict"
    )
    data: str | None = Field(
        None, description=".npz, folder of idx files, folder of images by class, or package.module:function"
    )
    calibrate: str | None = Field(None, description="a set of its own for statistics (labels are never looked at)")
    select: str | None = Field(None, description="a set of its own for the search")
    certify: str | None = Field(None, description="a set of its own for the certificate")
    train: str | None = Field(None, description="a set for recovery: candidates are trained on it; labels help")
    metric: str = Field("accuracy", description="what must not drop")
    output_name: str | None = Field(
        None, description="the model's output that the metric looks at, by name or place from 0 (default: the first)"
    )
    max_drop: float | None = Field(None, description="allowed drop in the metric's unit; accuracy: percentage points")
    max_relative_drop: float | None = Field(
        None, description="allowed drop relative to the original's value, e.g. 0.02"
    )
    bits: float | None = Field(
        None,
        gt=0,
        le=16,
        description="bits per weight: at most, of weights without a network; aimed at, of a streamed folder",
    )
    max_error: float | None = Field(
        None, gt=0, lt=1, description="relative error of every matrix at most, e.g. 0.01, in place of bits"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the one-sided bound")
    guarantee: Literal["bound", "estimate"] = Field(
        "bound", description="what must be within the drop: bound or point estimate"
    )
    sensitivity: Literal["output-kl", "fisher"] = Field(
        "output-kl", description="how rows are weighed: measured without gradients, or gradients where there are any"
    )
    goal: str = Field("size", description="what is made least: size, latency, or latency,size")
    latency_budget: str | None = Field(None, description="most time of a call, e.g. 3ms; for a latency goal")
    threads: int = Field(1, ge=1, le=1024, description="threads of the runtime, for a latency goal")
    batch: int = Field(1, ge=1, le=65536, description="examples in a call, for a latency goal")
    scale: float | None = Field(None, description="factor for the inputs (uint8 without it: 1/255)")
    mean: list[float] | None = Field(None, description="subtracted from the scaled inputs, per channel")
    std: list[float] | None = Field(None, description="divides the scaled inputs, per channel")
    calibration_examples: int = Field(4000, ge=1, description="most examples used for statistics")
    select_examples: int = Field(10000, ge=1, description="most examples used by the search")
    seed: int = Field(0, ge=0, description="of every random choice")
    evaluations: int = Field(8, ge=2, le=64, description="full evaluations that the search may spend")
    early_stop: bool = Field(
        True, description="evaluations on the select split end when they have said enough, where the metric allows it"
    )
    time_budget: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="seconds that a run should take: the best so far is handed back"
    )
    tune: str | None = Field(None, description="trials (20) or time (5m) for parameters of methods that are not given")
    coder: Literal["auto", "fast", "dense"] = Field(
        "auto", description="fast decodes at once, dense is smaller; auto: dense where that decodes within a second"
    )
    methods: list[str] = Field(
        list(METHODS), min_length=1, description="methods that compete; uniform and keep with train"
    )
    remove: float = Field(
        0.0, ge=0, lt=1, description="share of the multiply-adds that goes as whole channels, before compression"
    )
    exclude: list[str] = Field(
        default_factory=list,
        description="patterns of layers that keep their weights, e.g. head.*; not with remove",
    )
    layers: dict[str, LayerRule] = Field(
        default_factory=dict, description="methods and settings for layers by pattern; the first that fits holds"
    )
    settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="parameters by method, of data, calibration, recovery, augment, removal, scaling, text and stream",
    )

    @model_validator(mode="before")
    @classmethod
    def _competing(cls, given: Any) -> Any:
        """The default of methods goes by whether there is a training set."""
        if isinstance(given, Mapping) and given.get("train") is not None and given.get("methods") is None:
            return {**given, "methods": list(TRAINED)}
        return given

    @field_validator("*")
    @classmethod
    def _encodable(cls, value: Any) -> Any:
        """Paths whose bytes are not UTF-8 cannot be written down: said before a run rather than after it."""
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("must be text that UTF-8 can hold") from None
        return value

    @field_validator("tune", mode="before")
    @classmethod
    def _effort(cls, value: Any) -> Any:
        """A number of trials, or a time with its unit."""
        if value is None or isinstance(value, bool):
            return value
        effort(str(value))
        return str(value)

    @field_validator("goal")
    @classmethod
    def _known(cls, value: str) -> str:
        """One goal, or both in one order."""
        parts = sorted(part.strip() for part in value.split(","))
        if parts not in (["size"], ["latency"], ["latency", "size"]):
            raise ValueError("must be size, latency, or latency,size")
        return ",".join(parts)

    @field_validator("latency_budget")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        """A time with its unit."""
        if value is not None:
            milliseconds(value)
        return value

    @model_validator(mode="after")
    def _timed(self) -> Recipe:
        """A time is asked for where it is the goal."""
        if self.latency_budget is not None and self.goal == "size":
            raise ValueError("latency_budget is for a latency goal: add --goal latency")
        if self.output_name is not None and self.goal != "size":
            raise ValueError("output_name is for the goal size: a latency goal goes by the first output")
        if self.tune is not None and self.goal != "size":
            raise ValueError("tune is for the goal size: leave --tune or --goal out")
        return self

    @field_validator("max_drop", "max_relative_drop")
    @classmethod
    def _not_negative(cls, value: float | None) -> float | None:
        """A budget is a number from zero up."""
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ValueError("must be zero or more")
        return value


UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def methods_of(recipe: Recipe, otherwise: Sequence[str]) -> Sequence[str]:
    """The methods that a recipe names; others where it says no more than the default."""
    return otherwise if recipe.methods == list(METHODS) else recipe.methods


def milliseconds(text: str) -> float:
    """A time such as 3ms, 0.5 ms, 800us or 1s; raises ValueError for anything else, zero and less.

    >>> milliseconds("800us")
    0.8
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s)\s*", text, re.ASCII)
    value = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not (value > 0 and math.isfinite(value)):
        raise ValueError("must be a time above zero with its unit: us, ms or s, such as 3ms")
    return value


def effort(text: str) -> tuple[int | None, float | None]:
    """What may be spent on trials: how many, or seconds; raises ValueError for anything else, and for none.

    >>> effort("20"), effort("5m")
    ((20, None), (None, 300.0))
    """
    found = re.fullmatch(r"\s*(?:(\d+)|(\d+(?:\.\d+)?)\s*([smh]))\s*", text, re.ASCII)
    if found is None or not float(found[1] or found[2]):
        raise ValueError("must be a number of trials, or a time with its unit, such as 20 or 5m")
    return (int(found[1]), None) if found[1] else (None, float(found[2]) * {"s": 1, "m": 60, "h": 3600}[found[3]])


def make(**fields: Any) -> Recipe:
    """A checked recipe, with its preset under what is given; raises UsageError naming field, rule, value and remedy."""
    try:
        return Recipe(**over_preset(fields))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "recipe"
        rule = str(first["msg"]).removeprefix("Value error, ")
        known = ", ".join(Recipe.model_fields)
        remedy = f"Known fields: {known}." if first["type"] == "extra_forbidden" else "Correct it and run again."
        raise UsageError(f"recipe {name!r}: {rule}. Received {first['input']!r}. {remedy}") from None


def over_preset(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a preset, if one is named, with those given over them, and so for each parameter of a table.

    A wish that is given for weights alone, bits or an error, is instead of the preset's.
    """
    name = fields.get("preset")
    if name not in PRESETS:
        return dict(fields)
    below = tomllib.loads((Path(__file__).parent / "presets" / f"{name}.toml").read_text(encoding="utf-8"))
    if fields.get("max_error") is not None:
        below.pop("bits", None)
    given = fields.get("settings", {})
    if not (isinstance(given, Mapping) and all(isinstance(table, Mapping) for table in given.values())):
        return {**below, **fields}
    tables = below.pop("settings", {})
    tables = {**given, **{table: {**values, **given.get(table, {})} for table, values in tables.items()}}
    return {**below, **fields, **({"settings": tables} if tables else {})}


def with_setting(
    settings: Mapping[str, Mapping[str, Any]], table: str, name: str, value: Any
) -> dict[str, Mapping[str, Any]]:
    """A recipe's settings with one of them changed."""
    return {**settings, table: {**settings.get(table, {}), name: value}}


def read(path: Path) -> Recipe:
    """The recipe of a TOML, JSON or YAML file, by its ending; raises UsageError."""
    reader = READERS.get(path.suffix.lower(), tomllib.loads)
    kind = "JSON" if reader is json.loads else "YAML" if reader is _yaml else "TOML"
    try:
        fields = reader(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # those of the readers are ValueErrors
        said = " ".join(str(error).split())
        raise UsageError(f"recipe {str(path)!r}: it must be a readable {kind} file. Received: {said}.") from None
    if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields):
        raise UsageError(f"recipe {str(path)!r}: it must hold fields by name. Received {type(fields).__name__}.")
    return make(**fields)


def _yaml(text: str) -> Any:
    """YAML of plain values: no tags, nothing is constructed; raises UsageError without PyYAML, ValueError."""
    try:
        import yaml
    except ImportError:
        raise UsageError("recipe: YAML needs PyYAML. It is not installed. Run: pip install 'attar[yaml]'.") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


READERS: Mapping[str, Callable[[str], Any]] = {".json": json.loads, ".yaml": _yaml, ".yml": _yaml}
"""By ending; everything else is TOML."""


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML; fields left at None are left out."""
    values = recipe.model_dump(exclude_none=True)
    tables = {name: values.pop(name) for name in ("settings", "layers")}
    lines = [f"{name} = {toml_value(value)}" for name, value in values.items()]
    for name, table in tables.items():
        for key, inner in table.items():
            lines += _table_lines(f"{name}.{_key(key)}", inner)
    return "\n".join(lines) + "\n"


def _table_lines(header: str, table: Mapping[str, Any]) -> list[str]:
    """A table's plain values under its header, then the tables in it; one of tables alone has no header."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = ["", f"[{header}]", *(f"{key} = {toml_value(value)}" for key, value in plain.items())]
    if not plain and table:
        lines = []
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _table_lines(f"{header}.{_key(key)}", value)
    return lines


def dotted(parts: Sequence[str]) -> str:
    """A dotted key as TOML."""
    return ".".join(map(_key, parts))


def _key(name: str) -> str:
    """A key as TOML: bare where it can be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def toml_value(value: Any) -> str:
    """A value as TOML: JSON's notation, but that TOML wants the delete character escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
