"""The table of measured costs: asked once, kept on disk, and never trusted further than it can be read."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.latency.table import LARGEST_BYTES, VERSION, CostTable, file_of, read, write
from attar.plan.latency import Work
from attar.run.cache import cache_folder

PLACE = {"runtime": "onnxruntime 1.2.3", "cpu": "x", "threads": "1"}
WORK = Work("Conv", (("group", (1,)),), (1, 8, 8), (16, 16, 3, 3))
OTHER = Work("Gemm", (("transB", (1,)),), (1,), (10, 64))


def asked() -> tuple[list[str], CostTable]:
    calls: list[str] = []

    def measure(work: Work) -> float:
        calls.append(work.key)
        return 0.25 * len(calls)

    return calls, CostTable(measure, PLACE)


def test_a_work_is_measured_once_and_by_the_next_run_not_at_all(tmp_path: Path) -> None:
    calls, table = asked()
    table.path = tmp_path / "deep" / "costs.json"
    assert (table(WORK), table(OTHER), table(WORK)) == (0.25, 0.5, 0.25) and len(calls) == 2
    assert table.save() is None
    again = CostTable(lambda work: pytest.fail("measured again"), PLACE, table.path)
    assert again(WORK) == 0.25 and again.fresh == 0
    assert sorted(p.name for p in table.path.parent.iterdir()) == ["costs.json"]


def test_what_another_run_has_written_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    first, second = CostTable(lambda work: 1.0, PLACE, path), CostTable(lambda work: 2.0, PLACE, path)
    first(WORK)
    second(OTHER)
    assert first.save() is None and second.save() is None
    assert read(path, PLACE) == {WORK.key: 1.0, OTHER.key: 2.0}


@given(st.integers(0, 400), st.integers(0, 255))
def test_broken_files_are_as_none(tmp_path_factory, place: int, value: int) -> None:
    """Truncated anywhere, or with any byte changed: numbers at most, no error, and it can be written anew."""
    path = tmp_path_factory.mktemp("costs") / "costs.json"
    write(path, PLACE, {WORK.key: 0.5, OTHER.key: 1.5})
    whole = path.read_bytes()
    for broken in (whole[: place % len(whole)],
                   bytes([*whole[: place % len(whole)], value, *whole[place % len(whole) + 1 :]])):  # fmt: skip
        path.write_bytes(broken)
        found = read(path, PLACE)
        assert all(cost > 0 for cost in found.values())
        table = CostTable(lambda work: 3.0, PLACE, path)
        table(Work("MatMul", (), (1,), (4, 4)))
        assert table.save() is None and 3.0 in read(path, PLACE).values()


@pytest.mark.parametrize("content", [
    [], {}, {"version": 1}, {"version": 0, "place": PLACE, "milliseconds": {"a": 1.0}},
    {"version": 1, "place": {**PLACE, "cpu": "y"}, "milliseconds": {"a": 1.0}},
    {"version": 1, "place": PLACE, "milliseconds": [1.0]},
    {"version": 1, "place": PLACE, "milliseconds": {"a": "1", "b": -1, "c": True, "d": None, "e": 0}},
])  # fmt: skip
def test_other_contents_are_as_none(tmp_path: Path, content) -> None:
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(content))
    assert read(path, PLACE) == {}


def test_numbers_that_are_none_and_long_files(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    costs = {"a": float("nan"), "b": float("inf"), "c": 2}
    path.write_text(json.dumps({"version": VERSION, "place": PLACE, "milliseconds": costs}))
    assert read(path, PLACE) == {"c": 2.0}
    with path.open("ab") as file:
        file.truncate(LARGEST_BYTES + 1)
    assert read(path, PLACE) == {}
    path.write_text("[" * 100_000)
    assert read(path, PLACE) == {}
    assert read(tmp_path, PLACE) == {}


def test_where_nothing_can_be_written_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    table = CostTable(lambda work: 1.0, PLACE, tmp_path / "file" / "costs.json")
    assert table(WORK) == 1.0
    assert table.save() is not None
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "costs.json"
    write(path, PLACE, {WORK.key: 1.0})

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    table = CostTable(lambda work: 2.0, PLACE, path)
    table(OTHER)
    assert table.save() == "No space left on device"
    assert read(path, PLACE) == {WORK.key: 1.0} and len(list(tmp_path.iterdir())) == 1


def test_the_file_is_of_one_machine(tmp_path: Path) -> None:
    one, other = file_of(PLACE, tmp_path), file_of({**PLACE, "threads": "2"}, tmp_path)
    assert one != other and one.parent == other.parent == tmp_path / "costs"
    assert one == file_of(dict(reversed(PLACE.items())), tmp_path)


def test_the_folder_is_the_users(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "attar"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder().is_relative_to(tmp_path / "home")
