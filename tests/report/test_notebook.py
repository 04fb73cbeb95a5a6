"""What a notebook shows of a finished run."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

import attar
from attar.report.notebook import card
from fakes import trained


@pytest.mark.usefixtures("numpy_adapter")
def test_a_result_in_a_notebook() -> None:
    net, data = trained()
    result = attar.compress(net, data, max_drop=3)
    html = result._repr_html_()
    page = ElementTree.fromstring(f"<div>{html}</div>")
    cells = [cell.text or "" for cell in page.iter("td")]
    assert f"{result.bytes_before:,} \u2192 {result.bytes_after:,} bytes" in cells[0]
    assert "points" in cells[2] and cells[3].startswith("\u2714 certified")
    tried = [event for event in result.events if event["event"] == "candidate"]
    circles = list(page.iter("circle"))
    assert len(circles) == len(tried)
    assert all(0 <= float(dot.attrib["cx"]) <= 320 and 0 <= float(dot.attrib["cy"]) <= 120 for dot in circles)
    assert "script" not in html and "http" not in html


@pytest.mark.usefixtures("numpy_adapter")
def test_names_are_escaped_and_one_candidate_has_no_chart() -> None:
    net, data = trained()
    result = attar.compress(net, data, max_drop=3)
    odd = replace(result.certificate, metric="<b>&", verdict="not certified")
    html = card(odd, 100, 0, "", result.events[:1])
    assert "&lt;b&gt;&amp;" in html and "<b>" not in html and "\u2718 not certified" in html and "<svg" not in html
