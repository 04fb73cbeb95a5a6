"""The whole page: structure, escaping, missing events, and that it asks for nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import FormatError, OutputError, UsageError
from attar.report import page, render, write_report
from attar.report.shell import script_json
from report import ledgers

VOID = {"meta", "link", "img", "br", "wbr", "hr", "input"}
FETCHING = {"src", "href", "srcset", "action", "data", "poster", "xlink:href", "background", "formaction", "ping"}


class Outline(HTMLParser):
    """Tags, attributes, and text by element; raises where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
            self.text.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.text[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def still_page(events: ledgers.Events, monkeypatch: pytest.MonkeyPatch) -> str:
    """As without vl-convert: the same page, a thousandth of the size."""
    monkeypatch.setattr(page, "vega_bundle", lambda: "")
    return render(events)


VARIANTS = {
    "certified": ledgers.sample,
    "explored": ledgers.explored,
    "timed": ledgers.timed,
    "spoken": ledgers.spoken,
    "not certified": ledgers.not_certified,
    "not certifiable": ledgers.not_certifiable,
    "interrupted": ledgers.interrupted,
    "rising loss": ledgers.rising_loss,
    "many layers": ledgers.many_layers,
    "hostile": ledgers.hostile,
    "empty": list,
}


def test_the_outline_of_a_certified_run() -> None:
    outline = Outline(render(ledgers.sample()))
    headline = "31.9× smaller, and the accuracy drop is below 0.5 points with 95 % confidence."
    assert [squeezed(text) for text in outline.text["h1"]] == [headline]
    sections = ["certificate", "tried", "flips", "layers", "skipped", "files", "reproduce"]
    assert [section["id"] for section in outline.all("section") if "id" in section] == sections
    figures = ["chart-frontier", "chart-bits_per_weight", "chart-zeros", "chart-share", "chart-sensitivity"]
    assert [figure["id"] for figure in outline.all("figure") if "id" in figure] == figures
    rows = len([tag for tag, _ in outline.tags if tag == "tr"])
    assert rows == 2 * (1 + 4) + (1 + 8) + (1 + 4) + (1 + 1)
    assert len(outline.all("img")) == 12
    assert outline.all("html")[0]["lang"] == "en" and outline.all("title")


def test_the_numbers_of_a_certified_run() -> None:
    text = squeezed(" ".join(Outline(render(ledgers.sample())).text["main"]))
    for said in ("54.1 kB", "1.72 MB", "90.43 %", "86 that were right became wrong", "68 that were wrong", "9,846"):
        assert said in text
    assert "at most 0.38 points, with 95 % confidence (by Tango’s score interval" in text
    assert "attar compress lenet5.onnx --data" in text and "two values, fewer than" in text
    assert "near-duplicates" in text and "5 (chosen)" in text
    assert "1,724,984 to 54,076 bytes (3.1 %)" in text and "12 of the 154 examples" in text


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_nests_and_has_a_table_under_every_chart(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outline = Outline(still_page(VARIANTS[variant](), monkeypatch))
    charts = [figure for figure in outline.all("figure") if figure.get("class") == "chart"]
    specs = [script for script in outline.all("script") if script.get("class") == "spec"]
    assert len(charts) == len(specs)
    tables = {table.get("id") for table in outline.all("table")}
    if any(chart["id"] == "chart-frontier" for chart in charts):
        assert "tried-table" in tables
    if any(chart["id"] != "chart-frontier" for chart in charts):
        assert "layer-table" in tables
    assert len(outline.text["h1"]) == 1 and outline.text["h1"][0].strip()


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_in_the_page_can_be_fetched(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = still_page(VARIANTS[variant](), monkeypatch)
    outline = Outline(text)
    for tag, attributes in outline.tags:
        for name in FETCHING & attributes.keys():
            assert attributes[name].startswith("data:"), (tag, name)
        assert "style" not in attributes and not any(name.startswith("on") for name in attributes)
    assert not outline.all("iframe") and not outline.all("object") and not outline.all("base")
    styles = " ".join(outline.text["style"])
    assert "url(" not in styles and "@import" not in styles


def test_the_policy_allows_the_page_s_own_scripts_and_no_more() -> None:
    text = render(ledgers.sample())
    policy = next(meta["content"] for meta in Outline(text).all("meta") if "http-equiv" in meta)
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'" and directives["img-src"] == "data:"
    assert "unsafe" not in policy and "http" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = {f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts}
    assert hashes == set(directives["script-src"].split()) and len(hashes) == 2


def test_strangers_strings_stay_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = still_page(ledgers.hostile(), monkeypatch)
    assert "<img src=x" not in text and "{{7*7}}" in text
    assert "https://example.com" not in text
    outline = Outline(text)
    assert not outline.all("img")
    assert ledgers.HOSTILE in outline.text["h1"][0]
    for block in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL):
        assert not set(block) & {"<", ">", "&", "\u2028", "\u2029"}
        json.loads(block)
    bars = json.loads(re.findall(r'class="spec">(.*?)</script>', text, re.DOTALL)[1])
    names = bars["data"]["values"]
    assert names[0]["name"] == ledgers.HOSTILE + "0"


@given(st.text() | st.sampled_from(["</script>", "<!--", "\u2028", "]]>", "&lt;"]))
def test_script_json_round_trips_without_markup(text: str) -> None:
    encoded = script_json({text: [text]})
    assert json.loads(encoded) == {text: [text]}
    assert not re.search("[<>&\u2028\u2029]", encoded)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = sorted({key for event in ledgers.explored() for key in event} | {"unit", "certificate", "drop", "layers"})


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_any_value_at_any_place_still_renders(data: st.DataObject) -> None:
    events = ledgers.explored()
    for _ in range(3):
        event = data.draw(st.sampled_from(events))
        parts = [part for value in event.values() for part in (value if isinstance(value, list) else [value])]
        places = [event, *(part for part in parts if isinstance(part, dict))]
        place = data.draw(st.sampled_from(places))
        place[data.draw(st.sampled_from([*place, *KEYS]))] = data.draw(JSON)
    with pytest.MonkeyPatch.context() as patch:
        Outline(still_page(events, patch))


@pytest.mark.parametrize("kind", ["run", "layers", "sensitivity", "candidate", "result"])
def test_a_missing_event_still_renders(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Outline(still_page([event for event in ledgers.sample() if event["event"] != kind], monkeypatch))
    bare = [{"event": event["event"], "time": event["time"]} for event in ledgers.sample()]
    Outline(still_page(bare, monkeypatch))


def test_where_lower_is_better_the_page_speaks_of_a_rise(monkeypatch: pytest.MonkeyPatch) -> None:
    text = still_page(ledgers.rising_loss(), monkeypatch)
    assert "Rise, at most" in text and "Drop" not in text.replace("Drop against file size", "")
    assert "Drop, at most" in still_page(ledgers.sample(), monkeypatch)


def test_a_forwarded_page_is_headed_by_the_model_s_name_and_not_by_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    events = ledgers.sample()
    ledgers.event(events, "run")["model"] = "/srv/models/secret project/lenet5.onnx"
    outline = Outline(still_page(events, monkeypatch))
    assert outline.text["title"] == ["lenet5.onnx: certified | attar"]
    assert "lenet5.onnx" in outline.text["header"][0] and "secret" not in outline.text["header"][0]


def test_what_was_not_asked_for_is_not_a_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    events = ledgers.sample()
    ledgers.event(events, "run")["budget"] = {"max_drop": 1.0, "max_relative_drop": None, "confidence": 0.99}
    listed = [squeezed(text) for text in Outline(still_page(events, monkeypatch)).text["dl"]]
    conditions = next(text for text in listed if text.startswith("seed"))
    assert "None" not in conditions and "relative" not in conditions
    assert "allowed drop1 point" in conditions and "confidence99 %" in conditions


def test_columns_of_sides_only_where_there_are_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    events = ledgers.sample()
    assert "Gained" in still_page(events, monkeypatch)
    for event in events:
        event.update({key: None for key in ("lost", "gained") if key in event})
    assert "Gained" not in still_page(events, monkeypatch)


def test_flips_of_agreement_have_no_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    events = ledgers.sample()
    ledgers.event(events, "run")["metric"]["name"] = "agreement"
    outline = Outline(still_page(events, monkeypatch))
    assert "12 of the 154 examples of the certify split that are answered otherwise" in outline.text["main"][0]
    assert "changed" in outline.text["span"] and "lost" not in outline.text["span"]
    ledgers.event(events, "run")["metric"]["name"] = "top5"
    assert "of the 154 examples" not in still_page(events, monkeypatch)


def test_bare_class_numbers_are_called_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    events = ledgers.sample()
    ledgers.event(events, "result")["flips"][0].update(label="4", before="4", after="T-shirt/top 6")
    outline = Outline(still_page(events, monkeypatch))
    assert "class 4" in outline.text["span"] and "→ T-shirt/top 6" in outline.text["span"]
    assert any(picture["alt"].endswith(": class 4") for picture in outline.all("img"))


def test_how_to_use_the_file_is_quoted_for_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    events = ledgers.sample()
    ledgers.event(events, "result")["file"] = "a b's.attar"
    text = squeezed(Outline(still_page(events, monkeypatch)).text["main"][0])
    assert """attar.load("a b's.attar")""" in text and """attar expand 'a b'"'"'s.attar'""" in text


def test_the_legend_names_only_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "which decides" in still_page(ledgers.sample(), monkeypatch)
    text = still_page(ledgers.interrupted(), monkeypatch)
    assert "which steers the search" in text and "which decides" not in text and "that was written" not in text


def test_unknown_events_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    strange: list[Any] = [{"event": "sparkle", "time": 0}, {"no": "event"}, {"event": ["run"]}]
    assert still_page([*strange, *ledgers.sample()], monkeypatch) == still_page(ledgers.sample(), monkeypatch)


def test_the_page_says_so_when_charts_are_still(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "vl-convert-python was" not in render(ledgers.sample())
    text = still_page(ledgers.sample(), monkeypatch)
    assert "vl-convert-python was not installed" in text
    drawings = [svg for svg in Outline(text).all("svg") if svg.get("class") == "still"]
    assert len(drawings) == 6 and all(drawing["aria-label"] for drawing in drawings)
    assert len(text) < 100_000


def test_rendering_is_deterministic_and_quick_for_many_layers() -> None:
    events = ledgers.many_layers(200)
    first = render(events)
    start = time.perf_counter()
    assert render(events) == first
    assert time.perf_counter() - start < 5
    assert len(Outline(first).text["tr"]) == 2 * (1 + 200) + (1 + 8) + (1 + 200) + (1 + 1)


def test_write_report_replaces_only_when_forced(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    write_report(ledgers.SAMPLE, out)
    assert out.read_text("utf-8") == render(ledgers.sample())
    out.write_text("mine")
    with pytest.raises(OutputError, match="must not exist"):
        write_report(ledgers.SAMPLE, out)
    assert out.read_text() == "mine"
    write_report(ledgers.SAMPLE, out, force=True)
    assert out.read_text("utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [out]


def test_write_report_leaves_nothing_behind_where_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="writable"):
        write_report(ledgers.SAMPLE, tmp_path / "missing" / "report.html")
    with pytest.raises(OutputError, match="Name a file"):
        write_report(ledgers.SAMPLE, tmp_path, force=True)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_report(ledgers.SAMPLE, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_half_a_surrogate_pair_is_written_as_a_question_mark(tmp_path: Path) -> None:
    ledger, out = tmp_path / "ledger.jsonl", tmp_path / "report.html"
    ledger.write_text('{"event": "run", "model": "a\\ud800b"}\n', "utf-8")
    write_report(ledger, out)
    assert "a?b" in out.read_text("utf-8")
    # A folder whose name is not UTF-8 is a class with such a name.
    events = ledgers.sample()
    ledgers.event(events, "result")["flips"][0]["label"] = b"\xff caf\xc3\xa9".decode("utf-8", errors="surrogateescape")
    assert "? café" in render(events).encode().decode()


def test_a_ledger_may_end_in_half_a_line_but_not_hold_one(tmp_path: Path) -> None:
    lines = ledgers.SAMPLE.read_text("utf-8").splitlines(keepends=True)
    ledger, out = tmp_path / "ledger.jsonl", tmp_path / "report.html"
    ledger.write_text("".join(lines[:5]) + lines[5][:40], "utf-8")
    write_report(ledger, out)
    assert "The run ended after 2 candidates." in out.read_text("utf-8")
    ledger.write_text(lines[0] + lines[1][:40] + "\n" + lines[2], "utf-8")
    with pytest.raises(FormatError, match="line 2"):
        write_report(ledger, out, force=True)
    with pytest.raises(UsageError, match="readable"):
        write_report(tmp_path / "none.jsonl", out, force=True)


def test_a_file_that_tells_of_no_run_makes_no_page(tmp_path: Path) -> None:
    for text in ("", '{"a": 1}\n'):
        (tmp_path / "other.jsonl").write_text(text)
        with pytest.raises(FormatError, match="must tell of a run"):
            write_report(tmp_path / "other.jsonl", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_layers_whose_scales_were_moved_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    events = ledgers.sample()
    assert 'id="scaled"' not in still_page(events, monkeypatch)
    for layers, shown in ((["fc1", ledgers.HOSTILE], True), ("fc1", False), ([], False), (None, False)):
        text = still_page([*events, {"event": "scaling", "moves": "equalise", "layers": layers}], monkeypatch)
        assert ('id="scaled"' in text) == shown
        assert ledgers.HOSTILE not in text
        Outline(text)
    text = still_page([*events, {"event": "scaling", "moves": ["odd"], "layers": ["fc1", "fc2"]}], monkeypatch)
    assert "between layers, by factors" in text
    assert "fc1</span>, <span" in text
