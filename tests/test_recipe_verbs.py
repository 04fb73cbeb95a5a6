"""Recipes checked, shown in full, compared and described; TOML, JSON and YAML alike."""

from __future__ import annotations

import json
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

import commands
from attar import recipe as recipes
from attar import registry
from attar.errors import UsageError
from attar.recipe import LayerRule, Recipe
from attar.recipe_verbs import STAGES, differences, in_full, schema, shown, validate

GIVEN = {
    "max_drop": 0.5, "methods": ["uniform", "codebook", "keep"], "exclude": ["head.*"], "seed": 3,
    "settings": {"uniform": {"sweeps": 1}, "recovery": {"augment": ["flip"]}, "augment": {"flip": {"share": 0.3}}},
    "layers": {"blocks.0.*": {"methods": ["uniform"], "settings": {"uniform": {"step": 1.2}}}},
}  # fmt: skip


def written(folder: Path, fields: dict[str, object], ending: str = "toml") -> Path:
    import yaml

    path = folder / f"r.{ending}"
    texts = {"json": json.dumps, "yaml": yaml.safe_dump, "yml": yaml.safe_dump}
    path.write_text(texts[ending](fields) if ending in texts else recipes.to_toml(recipes.make(**fields)))
    return path


@pytest.mark.parametrize("ending", ["toml", "json", "yaml", "yml"])
def test_any_of_the_three_kinds(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path, GIVEN, ending)
    assert validate(path) == recipes.make(**GIVEN)
    path.write_text("{ [ : ]")
    with pytest.raises(UsageError, match="readable " + ending.replace("yml", "yaml").upper()):
        recipes.read(path)


@pytest.mark.parametrize("text", ["[1]", "3", "null", '{"max_drop": "x"}'])
def test_json_that_is_no_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(UsageError):
        recipes.read(tmp_path / "r.json")


def test_yaml_constructs_nothing(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(f"model: !!python/object/apply:os.system ['touch {tmp_path}/made']")
    with pytest.raises(UsageError, match="YAML"):
        recipes.read(tmp_path / "r.yaml")
    assert not (tmp_path / "made").exists()


def test_what_is_shown_is_the_same_recipe(tmp_path: Path) -> None:
    for given in (GIVEN, {}):
        one = recipes.make(**given)
        text = shown(one)
        again = recipes.make(**tomllib.loads(text))
        assert in_full(again) == in_full(one) and not differences(one, again)
    text = shown(recipes.make(**GIVEN))
    assert "settings.uniform.sweeps = 1  # sweeps of coordinate descent (set)" in text
    assert "settings.uniform.step = 1.5  # step over the high-resolution optimum\n" in text
    assert 'layers."blocks.0.*".settings.uniform.step = 1.2' in text


def test_differences_name_values_and_defaults() -> None:
    one, two = recipes.make(max_drop=1), recipes.make(**{**GIVEN, "max_drop": 0.7})
    found = {name: pair for name, *pair in differences(one, two)}
    assert found["max_drop"] == [1, 0.7] and found["settings.uniform.sweeps"] == [2, 1]
    assert found['layers."blocks.0.*".methods'] == [None, ["uniform"]] and found["seed"] == [0, 3]
    assert not differences(one, recipes.make(max_drop=1, settings={"uniform": {"sweeps": 2}})), "a default is a value"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": {"uniform": {"step": 9}}}, "from 0.3 to 4"),
        ({"settings": {"recovery": {"epochs": 0}}}, "from 1 to"),
        ({"settings": {"recovery": {"augment": []}, "augment": {"flip": {}}}}, "does not name"),
        ({"settings": {"data": {"leaks": "no"}}}, "one of"),
        ({"settings": {"nothing": {}}}, "each table must be one of"),
        ({"methods": ["shrink"]}, "registered"),
        ({"metric": "speed"}, "metric"),
        ({"layers": {"a": {"settings": {"uniform": {"x": 1}}, "methods": ["uniform"]}}}, "parameter must be one of"),
        ({"seed": -1}, "greater than or equal to 0"),
    ],
)
def test_what_a_run_would_refuse_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        validate(written(tmp_path, {**GIVEN, **change}, "json"))


def test_the_schema_knows_every_field_and_parameter() -> None:
    found = schema()
    assert set(found["properties"]) == set(Recipe.model_fields)
    tables = found["properties"]["settings"]["properties"]
    assert tables == found["$defs"][LayerRule.__name__]["properties"]["settings"]["properties"]
    known = {name: registry.get("method", name).Params for name in registry.names("method")} | dict(STAGES)
    assert set(tables) == {*known, "augment"}
    for name, cls in known.items():
        assert set(tables[name]["properties"]) == {field.name for field in fields(cls)}
        for told in tables[name]["properties"].values():
            assert told.get("minimum", told["default"]) <= told["default"] <= told.get("maximum", told["default"])
            assert told["default"] in told.get("enum", [told["default"]])
    step = tables["uniform"]["properties"]["step"]
    assert step["type"] == "number" and step["minimum"] == 0.3 and step["maximum"] == 4
    assert json.loads(json.dumps(found)) == found


def test_the_commands(tmp_path: Path) -> None:
    def attar(*words: object) -> subprocess.CompletedProcess[str]:
        return commands.attar("recipe", *words, cwd=tmp_path)

    one = written(tmp_path, GIVEN)
    (tmp_path / "b.json").write_text(json.dumps({**GIVEN, "max_drop": 0.7}))
    assert "every field" in attar("validate", one).stdout
    assert attar("diff", one, "b.json").stdout == "max_drop: 0.5 -> 0.7\n"
    assert json.loads(attar("diff", one, "b.json", "--json").stdout) == [
        {"name": "max_drop", "first": 0.5, "second": 0.7}
    ]
    assert attar("diff", one, one).stdout == "no difference\n"
    assert tomllib.loads(attar("show", one).stdout)["max_drop"] == 0.5
    assert json.loads(attar("show", one, "--json").stdout)["settings.uniform.sweeps"] == 1
    assert json.loads(attar("schema").stdout)["title"] == "Recipe"
    (tmp_path / "b.json").write_text('{"max_drop": -1}')
    refused = attar("validate", "b.json")
    assert refused.returncode == 2 and "zero or more" in refused.stderr and "Traceback" not in refused.stderr
