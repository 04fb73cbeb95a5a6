"""Opening a page in a real browser: offline, from file://, with everything that it complains about."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route


def chromium() -> str:
    """Path of the system's browser."""
    named = os.environ.get("ATTAR_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.fail("no browser: install chromium (apt-get install chromium), or name one in ATTAR_CHROMIUM")
    return found


@dataclass
class Visit:
    """An open page, what it complained about, and what it asked for besides itself."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def visit(
    browser: Browser, file: Path, *, width: int = 1180, scheme: str = "light", script: bool = True, live: bool = True
) -> Visit:
    """Open the file with every other request refused and recorded, and wait until its charts are drawn."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
    )
    seen = Visit(context.new_page())
    page, address = seen.page, file.as_uri()

    def refuse(route: Route) -> None:
        if route.request.url == address:
            route.continue_()
            return
        if not route.request.url.startswith("data:"):
            seen.requests.append(route.request.url)
        route.abort()

    context.set_default_timeout(15_000)
    context.route("**/*", refuse)
    page.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.goto(address)
    if script and live:
        charts = page.locator("figure.chart").count()
        page.wait_for_function("n => document.querySelectorAll('figure[data-live]').length === n", arg=charts)
    return seen


def luminance(page: Page, selector: str, attribute: str) -> float:
    """Relative luminance of a computed colour (WCAG 2.2), 0 black to 1 white."""
    script = "(e, a) => getComputedStyle(e)[a].match(/[0-9.]+/g).slice(0, 3).map(Number)"
    parts = page.locator(selector).first.evaluate(script, attribute)
    linear = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
