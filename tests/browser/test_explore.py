"""The frontier in a real browser: slider, keys and points say what they do, and the commands are those that work."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from attar.report import page as page_module
from attar.report import render, render_comparison
from browser.visits import visit
from report import ledgers

SMALL, WHOLE = "47.2", "118"


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("explored") / "report.html"
    file.write_text(render(ledgers.explored()), "utf-8")
    return file


def field(page: Page, name: str) -> str:
    return page.locator(f"[data-field={name}]").inner_text().replace("\u202f", " ")


def test_the_slider_starts_at_the_file_that_was_written(browser: Browser, explored: Path) -> None:
    seen = visit(browser, explored)
    page = seen.page
    assert page.locator("#budget").input_value() == "2"
    assert (field(page, "size"), field(page, "bound"), field(page, "measured")) == (
        "54.1 kB", "0.38 points", "measured 0.18",
    )  # fmt: skip
    assert page.locator(".written").is_visible()
    assert field(page, "command") == "attar pick 'runs/lenet 5' --max-drop 0.5 -o 'runs/lenet 5-0.5'"
    assert (seen.requests, seen.complaints) == ([], [])
    page.context.close()


def test_keys_move_along_the_frontier_and_everything_follows(browser: Browser, explored: Path) -> None:
    page = visit(browser, explored).page
    slider = page.get_by_role("slider", name="Budget")
    slider.focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("End")
    assert field(page, "size") == "118 kB" and not page.locator(".written").is_visible()
    assert slider.get_attribute("aria-valuetext").replace("\u202f", " ").startswith("118 kB, drop −0.07")  # type: ignore[union-attr]
    assert page.locator("#choices tbody tr").nth(1).locator("td").first.inner_text() == "codebook"
    assert "attar compress" in field(page, "command") and "--max-drop 0.14" in field(page, "command")
    page.keyboard.press("Home")
    assert field(page, "size") == "47.2 kB"
    page.keyboard.press("ArrowRight")
    assert field(page, "size") == "52.1 kB" and "no certificate" in field(page, "said")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert field(page, "size") == "56.9 kB" and "--max-drop 0.4 " in field(page, "command")
    shares = page.locator("#choices tbody tr td:nth-child(4) .number").all_inner_texts()
    assert [float(text.split("\u202f")[0]) for text in shares] == pytest.approx([0.6, 13.3, 73.2, 3.4], abs=0.15)
    lengths = page.locator("#choices tbody tr td:nth-child(4) .fill").evaluate_all(
        "all => all.map(e => e.getAttribute('width'))"
    )
    assert lengths[2] == "100%" and float(lengths[1].rstrip("%")) == pytest.approx(100 * 13.3 / 73.2, abs=1)
    page.context.close()


def test_clicking_and_dragging_points_chooses_them(browser: Browser, explored: Path) -> None:
    page = visit(browser, explored).page
    spots = page.evaluate("""() => {
        const figure = document.getElementById("chart-frontier");
        const stops = JSON.parse(document.querySelector("script.stops").textContent);
        figure.scrollIntoView({ block: "center", behavior: "instant" });
        return stops.map((stop) => figure.spots(stop)[0]);
    }""")
    page.mouse.click(*spots[0])
    assert field(page, "size").startswith(SMALL) and page.locator("#budget").input_value() == "0"
    page.mouse.move(*spots[0])
    page.mouse.down()
    page.mouse.move(spots[-1][0], spots[0][1], steps=6)
    page.mouse.up()
    assert field(page, "size").startswith(WHOLE)
    discs = page.locator("#chart-frontier .mark-symbol path[fill='var(--rose)']")
    discs.first.wait_for(state="attached")
    assert discs.count() == 1
    far = page.locator("#chart-frontier figcaption").bounding_box()
    assert far is not None
    page.mouse.click(far["x"] + 5, far["y"] + 5)
    assert field(page, "size").startswith(WHOLE)
    page.context.close()


def test_copy_puts_the_command_into_the_clipboard(browser: Browser, explored: Path) -> None:
    page = visit(browser, explored).page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("status").filter(has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == field(page, "command")
    page.context.close()


def test_still_drawings_can_be_explored_too(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without vl-convert there is no live chart; the slider and the points of the drawing work all the same."""
    monkeypatch.setattr(page_module, "vega_bundle", lambda: "")
    file = tmp_path / "still.html"
    file.write_text(render(ledgers.explored()), "utf-8")
    seen = visit(browser, file, live=False)
    dot = seen.page.locator("circle[data-name='1']").first
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    assert box is not None
    seen.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert field(seen.page, "size").startswith(SMALL)
    assert seen.page.locator("circle.picked").count() == 1 and seen.complaints == []
    seen.page.context.close()


def test_without_scripts_every_candidate_is_in_a_table(browser: Browser, explored: Path) -> None:
    page = visit(browser, explored, script=False).page
    assert not page.locator("#budget").is_visible() and not page.get_by_role("button", name="Copy").is_visible()
    assert field(page, "size") == "54.1 kB" and page.locator("#choices tbody tr").count() == 4
    page.get_by_text("Every candidate, layer by layer").click()
    table = page.locator("#choices-table")
    assert table.is_visible() and table.locator("thead th").count() == 7
    assert "attar pick 'runs/lenet 5' --max-drop 0.4" in page.locator(".commands").inner_text()
    page.context.close()


def test_on_paper_there_are_no_controls_and_nothing_is_folded(browser: Browser, explored: Path) -> None:
    page = visit(browser, explored).page
    page.emulate_media(media="print")
    assert not page.locator("#budget").is_visible() and not page.locator("button.copy").is_visible()
    assert page.locator("#choices-table tbody tr").first.is_visible()
    assert page.locator("[aria-label='All settings']").is_visible()
    page.context.close()


def test_two_runs_on_one_page(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "compare.html"
    file.write_text(render_comparison(("before", ledgers.explored()), ("after", ledgers.not_certified())), "utf-8")
    seen = visit(browser, file)
    assert (seen.requests, seen.complaints) == ([], [])
    symbols = seen.page.locator("#chart-frontier .mark-symbol > path")
    assert symbols.count() == 6 + 7
    seen.page.get_by_role("button", name="bits / weight").first.click()
    first = seen.page.locator("#layer-table tbody tr").first
    assert first.locator("td").first.inner_text() == "conv1"
    seen.page.context.close()


CLOCK = """
window.drawnAt = [];
document.addEventListener("drawn", () => drawnAt.push(performance.now()), true);
"""
"""When, in milliseconds after the page was opened, each chart was drawn; the slider is ready before the first."""


@pytest.mark.slow
def test_a_hundred_layers_are_small_and_ready_in_a_second(browser: Browser, tmp_path: Path) -> None:
    """The slider answers and the frontier is live: the median of seven visits. The other charts follow meanwhile."""
    file = tmp_path / "many.html"
    file.write_text(render(ledgers.explored(ledgers.many_layers(100))), "utf-8")
    assert file.stat().st_size < 3_000_000
    taken = []
    for _ in range(7):
        page = browser.new_context(viewport={"width": 1180, "height": 900}).new_page()
        page.add_init_script(CLOCK)
        page.goto(file.as_uri())
        page.wait_for_function("() => drawnAt.length === 5")
        assert page.locator("#budget").is_visible()
        taken.append((page.evaluate("drawnAt[0]"), page.evaluate("drawnAt[4]")))
        page.locator("#budget").press("End")
        assert field(page, "name") == "0"
        page.context.close()
    frontier, charts = (sorted(times)[3] for times in zip(*taken, strict=True))
    print(f"frontier after {frontier:.0f} ms, all charts after {charts:.0f} ms, {file.stat().st_size:,} bytes")
    assert frontier < 1000
