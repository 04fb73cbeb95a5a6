"""Recipes: checked, written and read back as they were."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar import recipe
from attar.errors import UsageError


@given(
    st.builds(
        recipe.Recipe,
        model=st.none() | st.text(),
        data=st.none() | st.text(),
        max_drop=st.none() | st.floats(0, 1e6),
        mean=st.none() | st.lists(st.floats(-1, 1), max_size=3),
        seed=st.integers(0, 10**9),
        settings=st.dictionaries(
            st.text("abc-", min_size=1, max_size=4),
            st.dictionaries(st.text("xyz", min_size=1, max_size=3), st.integers() | st.booleans(), max_size=2),
            max_size=2,
        ),
    )
)
def test_round_trip(one: recipe.Recipe) -> None:
    import tomllib

    again = recipe.make(**tomllib.loads(recipe.to_toml(one)))
    assert recipe.to_toml(again) == recipe.to_toml(one)


def test_low_rank_competes_where_nothing_is_trained() -> None:
    assert recipe.make().methods == ["uniform", "lowrank", "keep"]
    assert recipe.make(train="train.npz").methods == ["uniform", "keep"]
    assert recipe.make(train="train.npz", preset="balanced").methods == ["uniform", "keep"]
    assert recipe.make(train="train.npz", methods=["lowrank", "keep"]).methods == ["lowrank", "keep"]
    again = recipe.make(**recipe.make(train="train.npz").model_dump(exclude_none=True))
    assert again.methods == ["uniform", "keep"]


def test_tables_within_tables_survive(tmp_path: Path) -> None:
    given = {"augment": {"shift": {"reach": 0.1, "fill": "black"}, "flip": {}}, "recovery": {"augment": ["shift"]}}
    one = recipe.make(max_drop=1, settings=given, layers={"a.*": {"settings": {"uniform": {"step": 1.2}}}})
    (tmp_path / "r.toml").write_text(recipe.to_toml(one), encoding="utf-8")
    assert recipe.read(tmp_path / "r.toml") == one


def test_every_character_of_a_path_survives(tmp_path: Path) -> None:
    path = "".join(map(chr, [*range(0x250), 0x7F, 0x2028, 0xFEFF, 0x1F600]))
    (tmp_path / "r.toml").write_bytes(recipe.to_toml(recipe.Recipe(data=path)).encode())
    assert recipe.read(tmp_path / "r.toml").data == path


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_drop": -1}, "max_drop.*zero or more.*-1"),
        ({"max_drop": float("nan")}, "max_drop"),
        ({"guarantee": "hope"}, "guarantee.*'bound' or 'estimate'.*'hope'"),
        ({"confidence": 1.5}, "confidence.*less than 1.*1.5"),
        ({"evaluation": 3}, "evaluation.*Known fields: preset, model"),
        ({"evaluations": 1}, "evaluations"),
        ({"data": "caf\udce9.npz"}, "data.*UTF-8"),
    ],
)
def test_mistakes_name_field_rule_value_and_remedy(fields: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        recipe.make(**fields)


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"\xff\x00 = [")
    with pytest.raises(UsageError, match="TOML"):
        recipe.read(tmp_path / "r.toml")
    with pytest.raises(UsageError, match="No such file"):
        recipe.read(tmp_path / "missing.toml")
