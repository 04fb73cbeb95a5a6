"""Two runs on one page: what is said of both, what differs, and that it asks for nothing either."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from attar import cli
from attar.errors import FormatError, OutputError
from attar.report import render_comparison, write_comparison
from attar.report.compare import differences
from report import ledgers
from report.test_page import FETCHING, JSON, VARIANTS, Outline, squeezed


def compared(first: ledgers.Events, second: ledgers.Events) -> str:
    return render_comparison(("one", first), ("two", second))


def halved() -> ledgers.Events:
    """The same run with another seed, half the file and one layer by another name."""
    events = ledgers.explored()
    ledgers.event(events, "run")["recipe"] = {"budget": {"max_drop": 1.0, "confidence": 0.95}, "seed": 3}
    ledgers.event(events, "run")["machine"]["cores"] = 64
    result = ledgers.event(events, "result")
    result.update(bytes_after=27038, ratio=63.8)
    result["layers"][0].update(name="stem", bits_per_weight=2.0)
    for layer in result["layers"]:
        layer["bytes"] = layer["bytes"] // 2
    return events


def test_the_headline_says_which_is_smaller() -> None:
    heading = squeezed(Outline(compared(ledgers.explored(), halved())).text["h1"][0])
    assert heading == "two is 2.00× smaller than one; its accuracy drop is at most 0.38 points, against 0.38 points."
    assert "equally small" in Outline(compared(ledgers.sample(), ledgers.explored())).text["h1"][0]
    assert Outline(compared(ledgers.interrupted(), ledgers.sample())).text["h1"] == ["one and two"]


def test_what_differs_is_listed_and_nothing_else() -> None:
    text = compared(ledgers.explored(), halved())
    recipe = re.search(r'id="recipe-table".*?</table>', text, re.DOTALL)
    around = re.search(r'id="environment-table".*?</table>', text, re.DOTALL)
    assert recipe and around
    assert re.findall(r'class="name">(.*?)<', recipe[0]) == ["budget.max_drop", "methods", "seed", "search.evaluations"]
    assert re.findall(r'class="name">(.*?)<', around[0]) == ["machine.cores"]
    same = compared(ledgers.sample(), ledgers.sample())
    assert "every setting is the same" in same and "the same versions" in same


def test_layers_of_both_stand_in_one_row() -> None:
    text = compared(ledgers.explored(), halved())
    table = re.search(r'id="layer-table".*?</table>', text, re.DOTALL)
    assert table
    rows = re.findall(r"<tr>(<td class=\"name\".*?)</tr>", table[0], re.DOTALL)
    assert [re.search(r'data-value="(.*?)"', row)[1] for row in rows] == ["conv1", "conv2", "fc1", "fc2", "stem"]  # type: ignore[index]
    assert "−3,610" in rows[1] and rows[4].count("–") == 4


def test_runs_that_measure_different_things_have_no_common_chart() -> None:
    text = compared(ledgers.explored(), ledgers.rising_loss())
    assert "cannot be compared" in text and 'id="chart-frontier"' not in text


@pytest.mark.parametrize("first", VARIANTS)
def test_any_two_runs_nest_and_fetch_nothing(first: str) -> None:
    for second in ("explored", "hostile", "interrupted"):
        text = compared(VARIANTS[first](), VARIANTS[second]())
        outline = Outline(text)
        for _, attributes in outline.tags:
            assert all(attributes[name].startswith("data:") for name in FETCHING & attributes.keys())
            assert "style" not in attributes and not any(name.startswith("on") for name in attributes)
        assert "<img src=x" not in text.split("<script>")[0]
        assert len(outline.all("table")) >= len([f for f in outline.all("figure") if f.get("class") == "chart"])


@given(JSON, JSON)
def test_differences_of_anything_are_those_that_differ(first: object, second: object) -> None:
    assert differences(first, first) == []
    rows = differences({"a": first, "b": 1}, {"a": second, "b": 1})
    assert all(name == "a" or name.startswith("a.") for name, _, _ in rows)
    if not isinstance(first, dict) and not isinstance(second, dict):
        assert bool(rows) == (first != second)


@given(st.dictionaries(st.text(max_size=5), st.integers(), max_size=4))
def test_a_missing_mapping_lacks_every_setting(settings: dict[str, int]) -> None:
    assert len(differences(settings, None)) == len([name for name in settings if name])


def written(folder: Path, events: ledgers.Events) -> Path:
    folder.mkdir(parents=True)
    (folder / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), "utf-8")
    return folder


def test_folders_and_ledgers_are_named_by_their_folders(tmp_path: Path) -> None:
    first, second = written(tmp_path / "wide", ledgers.explored()), written(tmp_path / "narrow", halved())
    out = tmp_path / "compare.html"
    done = CliRunner().invoke(cli.app, ["report", str(first), str(second / "ledger.jsonl"), "-o", str(out)])
    assert done.exit_code == 0 and done.stdout.strip() == str(out)
    assert Outline(out.read_text("utf-8")).text["title"] == ["wide and narrow | attar"]
    twin = written(tmp_path / "other" / "wide", halved())
    write_comparison(first, twin, out, force=True)
    assert Outline(out.read_text("utf-8")).text["title"] == ["A: wide and B: wide | attar"]


def test_what_is_no_run_or_is_there_already_is_refused(tmp_path: Path) -> None:
    first = written(tmp_path / "run", ledgers.sample())
    out = tmp_path / "page.html"
    out.write_text("mine")
    with pytest.raises(OutputError, match="must not exist"):
        write_comparison(first, first, out)
    (tmp_path / "other.jsonl").write_text("{}\n")
    with pytest.raises(FormatError, match="must tell of a run"):
        write_comparison(first, tmp_path / "other.jsonl", out, force=True)
    assert out.read_text() == "mine"
    three = CliRunner().invoke(cli.app, ["report", str(first), str(first), str(first), "-o", str(tmp_path / "x.html")])
    assert three.exit_code == 2 and not (tmp_path / "x.html").exists()


def test_what_is_not_a_number_is_like_itself() -> None:
    assert differences({"a": float("nan")}, {"a": float("nan")}) == []
    assert [name for name, *_ in differences({"a": float("nan")}, {"a": 1})] == ["a"]
