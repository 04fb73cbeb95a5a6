"""How far a run has come: the best so far, what is left, and the displays that show it."""

from __future__ import annotations

import os
import pty
import re
import select
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attar
from attar.live import Bars
from attar.run import notebook
from attar.run.course import Course, clock_text
from attar.run.ledger import Ledger
from attar.run.progress import Silent
from fakes import trained
from report import ledgers


class Clock:
    """Time that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def candidate(nbytes: int, drop: float, upper: float, split: str = "select") -> dict[str, Any]:
    return {
        "event": "candidate",
        "bytes": nbytes,
        "ratio": 10.0,
        "drop": drop,
        "upper": upper,
        "split": split,
        "seconds": 2.0,
    }


def test_what_a_split_allows_of_a_relative_drop_is_that_splits_own() -> None:
    course = Course(Clock())
    course.event({"event": "landed", "limit": 6.0})
    course.event({**candidate(600, 4.4, 5.2, "certify"), "limit": 6.7})
    course.event({**candidate(550, 5.5, 6.2, "certify"), "limit": 6.7})
    course.event({**candidate(500, 6.5, 7.2, "certify"), "limit": 6.7})
    assert course.best_line().startswith("550 bytes")


def test_the_best_is_the_smallest_within_the_drop_and_certified_ones_come_first() -> None:
    course = Course(Clock())
    course.event({"event": "run", "recipe": {"evaluations": 6}, "budget": {"max_drop": 0.5}})
    best = []
    for event in (
        candidate(900, 0.9, 1.2), candidate(950, 0.8, 1.1), candidate(1000, 0.4, 0.7), candidate(1100, 0.1, 0.4),
        candidate(990, 0.2, 0.6, "certify"), candidate(1200, 0.1, 0.3, "certify"),
        candidate(1050, 0.2, 0.45, "certify"),
    ):  # fmt: skip
        course.event(event)
        assert course.best is not None
        best.append(course.best["bytes"])
    assert best == [900, 950, 1000, 1000, 1000, 1200, 1050]
    assert course.best_line() == "1,050 bytes (10.0x), drop +0.2, at most +0.45"


def test_what_is_left_is_told_from_the_evaluations_so_far_and_the_budget() -> None:
    clock = Clock()
    course = Course(clock)
    assert course.left() is None
    course.stage("statistics", 10)
    clock.now += 4
    course.step(2)
    assert course.left() == pytest.approx(16)
    course.event({"event": "run", "recipe": {"evaluations": 5}, "budget": {}})
    clock.now += 6
    course.event(candidate(10, 0.1, 0.2))
    clock.now += 4
    course.event(candidate(10, 0.1, 0.2))
    assert course.left() == pytest.approx(3 * (6 / 2))
    course.time_budget = 20.0
    assert course.left() == pytest.approx(6)
    course.event({"event": "result"})
    assert course.left() is None


def test_the_line_holds_all_that_the_ledger_told() -> None:
    course = Course(Clock())
    for event in ledgers.explored():
        course.event(event)
    best = "best so far 54,076 bytes (31.9x), drop +0.18 points, at most +0.384"
    assert course.line() == f"0:00 · {best} · evaluation 8 of at most 8 · 4 layers"


@given(st.lists(st.sampled_from([*ledgers.timed(), {"event": "candidate"}, {"event": "run"}, {}]), max_size=12))
def test_any_order_of_events_has_a_line(events: list[dict[str, Any]]) -> None:
    course = Course(Clock())
    for event in events:
        course.event(event)
        assert "\n" not in course.line()


@given(st.floats(0, 1e6))
def test_clock_text_tells_the_time(seconds: float) -> None:
    parts = [int(part) for part in clock_text(seconds).split(":")]
    assert sum(part * 60**power for power, part in enumerate(reversed(parts))) == round(seconds)


def test_without_a_terminal_lines_say_what_is_best(capfd: pytest.CaptureFixture[str]) -> None:
    with Bars() as bars:
        bars.stage("statistics", 2)
        bars.step()
        for event in ledgers.explored():
            bars.event(event)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].endswith("s] statistics") and len(lines) == 1 + 8
    assert lines[-1].endswith("best of 8: 54,076 bytes (31.9x), drop +0.18 points, at most +0.384")


VIEW = """
import sys, time
sys.path[:0] = {paths}
from attar.live import Bars
from report import ledgers
with Bars() as bars:
    bars.stage("encoding \\x1b[31m", 4)
    for event in ledgers.explored():
        bars.event(event)
        bars.step(0 if event["event"] != "candidate" else 1)
    bars.note("a note")
    time.sleep(0.4)
"""


def test_on_a_terminal_a_bar_and_a_line_are_drawn(tmp_path: Path) -> None:
    """In a pseudo-terminal of 120 columns; the view is gone at the end, and the note stays."""
    paths = [str(Path(__file__).parents[1]), *sys.path]
    script = tmp_path / "view.py"
    script.write_text(VIEW.format(paths=paths))
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="120", LINES="30")
        os.execv(sys.executable, [sys.executable, str(script)])
    seen, until = b"", time.monotonic() + 30
    while time.monotonic() < until and select.select([terminal], [], [], 10)[0]:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        seen += part
    assert os.waitpid(child, 0)[1] == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode("utf-8"))
    assert "best so far 54,076 bytes (31.9x)" in text and "of at most 8" in text and "note: a note" in text
    assert "\\x1b[31m" in text and "\x1b[31mencoding" not in seen.decode() and "━" in text


@pytest.mark.usefixtures("numpy_adapter")
def test_each_event_of_the_ledger_is_handed_over() -> None:
    net, data = trained()
    told: list[Any] = []
    result = attar.compress(net, data, max_drop=3, on_event=told.append)
    assert told == list(result.events) and told[0]["event"] == "run" and told[-1]["event"] == "result"


def test_a_watcher_that_fails_is_dropped_and_the_run_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def fail(event: Any) -> None:
        calls.append(1)
        event.clear()
        raise ValueError("no such server")

    told: list[Any] = []
    ledger = Ledger(None, [fail, told.append])
    ledger.add("run")
    ledger.add("result")
    assert len(calls) == 1 and [event["event"] for event in told] == ["run", "result"]
    assert [event["event"] for event in ledger.events] == ["run", "result"]
    assert "ValueError: no such server" in caplog.text


def test_a_watcher_may_end_the_run_by_an_interrupt() -> None:
    def stop(event: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Ledger(None, [stop]).add("run")


class Shown:
    """What a notebook displays, in the place of IPython's."""

    def __init__(self) -> None:
        self.pages: list[str] = []

    def display(self, page: str, display_id: bool) -> Shown:
        assert display_id
        self.update(page)
        return self

    def update(self, page: str) -> None:
        self.pages.append(page)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """A running kernel's cell."""
    shown = Shown()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=shown.display))  # type: ignore[arg-type]
    return shown


@pytest.mark.usefixtures("numpy_adapter")
def test_in_a_notebook_progress_is_drawn_without_being_asked_for(cell: Shown) -> None:
    net, data = trained()
    attar.compress(net, data, max_drop=3)
    last = ElementTree.fromstring(f"<div>{cell.pages[-1]}</div>")
    text = " ".join("".join(last.itertext()).split())
    assert "best so far" in text and "layers" in text
    bar = last.find(".//progress")
    assert bar is not None and bar.attrib["value"] == bar.attrib["max"] and bar.attrib["aria-label"]
    assert any("statistics" in page for page in cell.pages)
    assert not any("<script" in page for page in cell.pages)


def test_what_is_shown_in_a_notebook_is_escaped(cell: Shown) -> None:
    shown = notebook.suited()
    shown.stage("<b>&", 3)
    shown.note("<script>")
    ElementTree.fromstring(f"<div>{cell.pages[-1]}</div>")
    assert "<b>" not in cell.pages[-1] and "&lt;script&gt;" in cell.pages[-1]


def test_elsewhere_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))  # type: ignore[arg-type]
    assert isinstance(notebook.suited(), Silent)
    monkeypatch.delitem(sys.modules, "IPython")
    assert isinstance(notebook.suited(), Silent)


def test_weights_alone_are_watched_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "weights.npz", first=rng.normal(size=(100, 80)))
    told: list[Any] = []
    result = attar.compress(tmp_path / "weights.npz", bits=4, on_event=told.append)
    assert [event["event"] for event in told] == [event["event"] for event in result.events]
