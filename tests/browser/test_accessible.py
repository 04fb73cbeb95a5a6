"""axe-core finds nothing to complain about: light, dark, on a phone, on paper; and colours have contrast everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import axe_core_python
import pytest
from playwright.sync_api import Browser

from attar.report import render, render_comparison, shell
from browser.visits import visit
from report import ledgers

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text("utf-8")
MODES = {"light": ("light", "screen", 1180), "dark": ("dark", "screen", 1180), "phone": ("light", "screen", 360),
         "paper": ("light", "print", 1180)}  # fmt: skip
"""Colour scheme, medium, width."""
PAGES = {
    "explored": lambda: render(ledgers.explored()),
    "compared": lambda: render_comparison(("one", ledgers.explored()), ("two", ledgers.not_certified())),
    "timed": lambda: render(ledgers.timed()),
    "spoken": lambda: render(ledgers.spoken()),
    "interrupted": lambda: render(ledgers.interrupted()),
    "many": lambda: render(ledgers.explored(ledgers.many_layers(100))),
}


def violations(browser: Browser, file: Path, modes: Iterable[str]) -> list[str]:
    """What axe-core says is wrong: mode, rule, the first element that it names."""
    page = visit(browser, file).page
    page.evaluate(AXE)
    found = []
    for mode in modes:
        scheme, medium, width = MODES[mode]
        page.emulate_media(media=medium, color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("width => window.innerWidth === width", arg=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        rules = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
        found += [f"{mode}: {rule['id']}: {rule['nodes'][0]['html'][:200]}" for rule in rules]
    page.context.close()
    return found


def test_axe_finds_no_violation_on_a_wide_screen_and_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(PAGES["explored"](), "utf-8")
    assert violations(browser, file, ["light", "phone"]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_violation_in_any_mode(name: str, browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(PAGES[name](), "utf-8")
    assert violations(browser, file, MODES) == []


def test_axe_would_find_one(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(re.sub(r'<html lang="en">', "<html>", render(ledgers.interrupted(2))), "utf-8")
    assert violations(browser, file, ["light"]) == ["light: html-has-lang: <html>"]


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of #rrggbb."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1])
def test_every_colour_of_text_has_contrast_on_every_ground(scheme: int) -> None:
    """axe cannot tell where a background is a gradient, as behind tables that scroll: so the palette itself."""
    style = (shell.TEMPLATES / "page.css").read_text("utf-8")
    palette = dict(re.findall(r"--(\w+): (#\w{6});", re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]))
    least = {"ink": 4.5, "soft": 4.5, "rose": 4.5, "good": 4.5, "limit": 4.5, "bad": 4.5, "select": 3, "edge": 3}
    for name, ratio in least.items():
        for ground in ("paper", "card", "wash"):
            light, dark = sorted((luminance(palette[name]), luminance(palette[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= ratio, (name, ground)
