"""The page in a real browser: offline from file://, no errors, live charts, sorting, light, dark, phone and print."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from attar.report import render
from browser.visits import luminance, visit
from report import ledgers

VARIANTS = {
    "certified": ledgers.sample,
    "not-certified": ledgers.not_certified,
    "interrupted": ledgers.interrupted,
    "many-layers": ledgers.many_layers,
    "hostile": ledgers.hostile,
}
MARKS = ".live svg :is(.mark-symbol, .mark-rect, .mark-rule) :is(path, line)"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every variant as a file."""
    folder = tmp_path_factory.mktemp("report")
    files = {name: folder / f"{name}.html" for name in VARIANTS}
    for name, file in files.items():
        file.write_text(render(VARIANTS[name]()), "utf-8")
    return files


@pytest.mark.parametrize("name", VARIANTS)
def test_offline_without_errors_and_with_marks_in_every_chart(
    name: str, browser: Browser, pages: dict[str, Path]
) -> None:
    seen = visit(browser, pages[name])
    assert (seen.requests, seen.complaints) == ([], [])
    figures = seen.page.locator("figure.chart")
    assert figures.count() >= 2
    for place in range(figures.count()):
        assert figures.nth(place).locator(MARKS).count() >= 1
        assert figures.nth(place).locator(".still").count() == 0
    seen.page.context.close()


def test_marks_are_as_many_as_rows(browser: Browser, pages: dict[str, Path]) -> None:
    seen = visit(browser, pages["certified"])
    frontier = seen.page.locator("#chart-frontier .live svg")
    assert frontier.locator(".mark-line.role-mark > path").count() == 2
    # Eight measurements, the ring around the chosen one, discs where the slider stands (in both splits);
    # an interval each, the zero line and the allowed drop.
    assert frontier.locator(".mark-symbol.role-mark > path").count() == 8 + 1 + 2
    assert frontier.locator(".mark-rule.role-mark > line").count() == 8 + 2
    assert "0.5 points allowed" in (frontier.text_content() or "")
    assert seen.page.get_by_role("img", name="Drop against file size of 8 measurements").count() == 1
    assert seen.page.locator("#chart-share .mark-rect > path").count() == 4
    seen.page.context.close()
    seen = visit(browser, pages["many-layers"])
    for name in ("bits_per_weight", "zeros", "share"):
        assert seen.page.locator(f"#chart-{name} .mark-rect > path").count() == 120
    assert seen.page.locator("#chart-sensitivity .mark-symbol > path").count() == 120
    seen.page.context.close()


def test_labels_are_the_ticks_own_values(browser: Browser, tmp_path: Path) -> None:
    """Vega's own formats round to the distance of ticks that it thinks of, and write 0.25 as 0.3 and 10 as 1e+1."""
    events = ledgers.sample()
    next(event for event in events if event["event"] == "candidate" and event["index"] == 1)["upper"] = 0.75
    ledgers.event(events, "result")["layers"][0]["bits_per_weight"] = 11.2
    file = tmp_path / "report.html"
    file.write_text(render(events), "utf-8")
    page = visit(browser, file).page
    labels = "#chart-{} .live .role-axis-label text"
    assert {"−0.25", "0", "0.25", "0.5", "0.75"} <= set(page.locator(labels.format("frontier")).all_text_contents())
    bits = page.locator(labels.format("bits_per_weight")).all_text_contents()
    assert [text for text in bits if text[0].isdigit()] == ["0", "2.5", "5", "7.5", "10"]
    titles = page.locator("#chart-frontier .live .role-axis-title text").all_text_contents()
    assert titles == ["file size, and how many times smaller", "drop, points"]
    page.context.close()


def column(page: Page, table: str, number: int) -> list[str]:
    """A column's values, as they are sorted."""
    cells = page.locator(f"#{table} tbody tr td:nth-child({number})")
    return [cell or "" for cell in cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)")]


def test_a_click_on_a_heading_sorts(browser: Browser, pages: dict[str, Path]) -> None:
    page = visit(browser, pages["certified"]).page
    assert page.locator(".hint").first.inner_text() == "Click on a heading to sort."
    before = column(page, "layer-table", 2)
    assert before == ["conv1", "conv2", "fc1", "fc2"]
    share = page.get_by_role("button", name="Share", exact=True)
    share.click()
    assert column(page, "layer-table", 2) == ["fc1", "conv2", "fc2", "conv1"]
    assert page.locator("#layer-table th[aria-sort=descending]").inner_text() == "Share"
    share.click()
    assert column(page, "layer-table", 2) == ["conv1", "fc2", "conv2", "fc1"]
    page.locator("#layer-table").get_by_role("button", name="Layer").press("Enter")
    assert column(page, "layer-table", 2) == before
    page.locator("#tried-table").get_by_role("button", name="Size").click()
    sizes = [int(float(size)) for size in column(page, "tried-table", 3)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == 118340
    page.context.close()


def test_hovering_a_point_tells_about_it(browser: Browser, pages: dict[str, Path]) -> None:
    seen = visit(browser, pages["certified"])
    seen.page.locator("#chart-frontier .mark-symbol > path").first.hover(force=True)
    tooltip = seen.page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "−0.07 points" in tooltip.inner_text() and "kB" in tooltip.inner_text()
    assert seen.complaints == []
    seen.page.context.close()


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_is_wider_than_a_phone(name: str, browser: Browser, pages: dict[str, Path]) -> None:
    page = visit(browser, pages[name], width=360).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for caption in page.locator("caption > span").all():
        box = caption.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 360
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(scheme: str, browser: Browser, pages: dict[str, Path]) -> None:
    page = visit(browser, pages["certified"], scheme=scheme).page
    paper = luminance(page, "body", "backgroundColor")
    assert (paper > 0.8) == (scheme == "light")
    for selector, attribute in (
        ("h1", "color"),
        (".lead", "color"),
        (".badge", "color"),
        (".lost .tag", "color"),
        (".callout h2", "color"),
        ("#chart-zeros .live text", "fill"),
    ):
        light, dark = sorted((paper, luminance(page, selector, attribute)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, selector
    page.context.close()


def test_print_is_light_and_shows_whole_tables(browser: Browser, pages: dict[str, Path]) -> None:
    page = visit(browser, pages["many-layers"], scheme="dark").page
    box = page.locator("#layers .scroll.tall")
    assert box.evaluate("box => box.clientHeight < box.scrollHeight")
    page.emulate_media(media="print", color_scheme="dark")
    assert box.evaluate("box => getComputedStyle(box).maxHeight") == "none"
    assert luminance(page, "h1", "color") < 0.1
    assert len(page.pdf(format="A4")) > 20_000
    page.context.close()


def test_charts_are_drawn_anew_for_paper(browser: Browser, pages: dict[str, Path]) -> None:
    page = visit(browser, pages["certified"]).page
    width = "document.querySelector('#chart-{} .live svg').getAttribute('width')"
    before = page.evaluate(width.format("frontier"))
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(width.format("frontier")) == "650" and page.evaluate(width.format("zeros")) == "320"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(width.format("frontier")) == before != "650"
    page.context.close()


def test_regions_that_scroll_have_names(browser: Browser, pages: dict[str, Path]) -> None:
    page = visit(browser, pages["certified"]).page
    for name in ("Table of candidates", "Table of layers", "Table of what was left as it was"):
        assert page.get_by_role("region", name=name).count() == 1
    page.context.close()


def test_without_scripts_the_drawings_stay(browser: Browser, pages: dict[str, Path]) -> None:
    page = visit(browser, pages["certified"], script=False).page
    for name in ("frontier", "bits_per_weight", "zeros", "share", "sensitivity"):
        still = page.locator(f"#chart-{name} .still")
        assert still.is_visible() and still.locator("rect, circle").count() >= 4
    titles = page.locator("#chart-frontier .still text").all_text_contents()
    assert "file size" in titles and "drop, points" in titles
    assert not page.locator(".hint").first.is_visible()
    page.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1180, "light"), (1180, "dark"), (390, "light")])
def test_screenshots(width: int, scheme: str, browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """Kept where ATTAR_SCREENSHOTS names a folder; a page of one colour would be a small picture."""
    folder = Path(os.environ.get("ATTAR_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page = visit(browser, pages["certified"], width=width, scheme=scheme).page
    picture = page.screenshot(path=folder / f"report-{scheme}-{width}.png", full_page=True)
    assert len(picture) > 80_000
    page.context.close()
