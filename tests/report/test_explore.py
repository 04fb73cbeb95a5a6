"""The stops of the slider: their order, their words, and commands that `attar pick` takes as they are."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import attar
from attar import cli
from attar.report.explore import budgets_of, short_between, stops, with_option
from attar.report.facts import along, layer_rows, tried
from attar.report.ledger import gather
from attar.report.words import Metric
from fakes import trained
from report import ledgers

POINTS = Metric("accuracy", "points", True)


def made(events: ledgers.Events) -> list[dict[str, Any]]:
    ledger = gather(events)
    return stops(ledger, tried(ledger), layer_rows(ledger), POINTS)


def test_one_stop_for_each_candidate_from_the_smallest_to_the_largest() -> None:
    found = made(ledgers.explored())
    assert [stop["name"] for stop in found] == ["1", "4", "5", "3", "2", "0"]
    assert [stop["x"] for stop in found] == sorted(stop["x"] for stop in found)
    assert [stop["name"] for stop in found if stop["chosen"]] == ["5"]
    assert found[2]["judged"] == "10,000 examples, certify split" and found[0]["judged"].endswith("select split")


def test_layers_are_those_of_the_candidate() -> None:
    small, large = made(ledgers.explored())[0], made(ledgers.explored())[-1]
    assert [row[0] for row in small["layers"]] == ["uniform"] * 4
    assert large["layers"][1][0] == "codebook" and large["methods"] == "3 uniform, 1 codebook"
    bits = [float(row[1]) for row in large["layers"]]
    assert bits == pytest.approx([8 * 672 / 500, 8 * 15798 / 25000, 8 * 86661 / 400000, 8 * 4049 / 5000], rel=0.01)
    assert max(row[4] for row in large["layers"]) == 100


def test_without_choices_only_the_file_that_was_written_has_layers() -> None:
    found = made(ledgers.sample())
    assert [bool(stop["layers"]) for stop in found] == [stop["chosen"] for stop in found]
    assert not any(stop["layers"] for stop in made(ledgers.interrupted()))


def test_what_was_kept_is_picked_and_what_was_not_is_searched_anew() -> None:
    by_name = {stop["name"]: stop for stop in made(ledgers.explored())}
    assert shlex.split(by_name["5"]["command"]) == [
        "attar", "pick", "runs/lenet 5", "--max-drop", "0.5", "-o", "runs/lenet 5-0.5",
    ]  # fmt: skip
    assert "--max-drop 0.4 " in by_name["3"]["command"]
    assert by_name["1"]["command"].startswith("attar compress lenet5.onnx --data fashion --seed 0 --max-drop 1.1")
    assert "no certificate" in by_name["1"]["said"]


def test_what_a_smaller_file_beats_is_not_offered() -> None:
    events = ledgers.explored()
    for one in ledgers.event(events, "result")["picks"]:
        one["upper"] = {56933: 0.5, 54076: 0.45}.get(one["bytes"], 0.62)
    found = {stop["name"]: stop for stop in made(events)}
    assert found["3"]["command"] == "" and "No budget picks it" in found["3"]["said"]


def test_a_timed_run_is_laid_out_by_time() -> None:
    events = ledgers.timed()
    assert along(tried(gather(events))) == "milliseconds"
    found = made(events)
    assert [stop["x"] for stop in found] == sorted(stop["x"] for stop in found)
    assert all(stop["time"].endswith("ms") for stop in found)
    command = shlex.split(found[0]["command"])
    assert command[-2] == "--latency-budget" and float(command[-1].removesuffix("ms")) >= found[0]["x"]


def test_without_a_command_or_folder_the_stop_says_so() -> None:
    events = ledgers.explored()
    ledgers.event(events, "result").update(folder=None, reproduce={"command": "attar 'unclosed"})
    assert {stop["command"] for stop in made(events)} == {""}
    assert all("names no command" in stop["said"] for stop in made(events))


@given(
    st.lists(
        st.tuples(st.integers(1, 10**6), st.just(0.0) | st.floats(1e-9, 60)), max_size=8, unique_by=lambda pair: pair[0]
    )
)
def test_every_budget_makes_pick_take_that_very_candidate(pairs: list[tuple[int, float]]) -> None:
    """The rule of `attar.picking.pick`: the smallest whose bound is within the drop."""
    found = budgets_of([{"bytes": n, "upper": upper} for n, upper in pairs])
    order = sorted(pairs)
    assert list(found) == [float(n) for n, _ in order]
    for n, budget in found.items():
        if budget is not None:
            assert next(nbytes for nbytes, upper in order if upper <= float(budget)) == n
        else:
            upper = dict(pairs)[int(n)]
            assert any(other <= upper for nbytes, other in order if nbytes < n)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_short_numbers_lie_where_they_should(low: float, high: float) -> None:
    text = short_between(low, high)
    assert (text is None) == (low >= high)
    assert text is None or low <= float(text) < high


def test_an_option_is_set_once() -> None:
    words = ["attar", "compress", "m", "--max-relative-drop", "0.02", "--max-drop", "1"]
    assert with_option(words, "--max-drop", "2", instead=("--max-relative-drop",)) == [
        "attar", "compress", "m", "--max-drop", "2",
    ]  # fmt: skip


def test_the_page_s_command_is_one_that_the_command_line_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed by the real command, which hands to `pick` what the page promised."""
    from attar import picking

    asked: list[tuple[Any, ...]] = []

    @dataclass
    class Nothing:
        choices: tuple[()] = ()
        chosen: None = None
        bytes_before: int = 1
        within: bool = True
        files: tuple[()] = ()

    monkeypatch.setattr(picking, "pick", lambda *args, **more: asked.append((*args, more)) or Nothing())
    command = next(stop["command"] for stop in made(ledgers.explored()) if stop["chosen"])
    done = CliRunner().invoke(cli.app, [*shlex.split(command)[1:], "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["within"] is True
    run, drop, out, _ = asked[0]
    assert (str(run), drop, str(out)) == ("runs/lenet 5", 0.5, "runs/lenet 5-0.5")


@pytest.mark.usefixtures("numpy_adapter")
def test_the_commands_of_a_real_run_write_that_very_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger of a run, the page's commands, the real `attar pick`, the written file."""
    monkeypatch.chdir(tmp_path)
    net, data = trained()
    result = attar.compress(net, data, max_drop=3, out="a run")
    offered = [
        stop for stop in made([dict(event) for event in result.events]) if stop["command"].startswith("attar pick")
    ]
    assert offered
    for stop in offered:
        words = shlex.split(stop["command"])[1:]
        done = CliRunner().invoke(cli.app, [*words, "--json"])
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert told["chosen"]["bytes"] == stop["x"] and told["chosen"]["verdict"] == "certified"
        (archive,) = [Path(name) for name in told["files"] if name.endswith(".attar")]
        assert archive.stat().st_size == stop["x"]
