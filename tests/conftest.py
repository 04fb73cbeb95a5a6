"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from attar import registry
from attar.exports import timing
from attar.search import sensitivity
from commands import ROUGH

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# How long an example takes says nothing on a busy machine: no test is timed.
settings.register_profile("attar", deadline=None)
settings.load_profile("attar")
FINE = sensitivity.MOST


@pytest.fixture(scope="session", autouse=True)
def brief_runs() -> Iterator[None]:
    """Rows are weighed on fewer perturbed examples, and small models are timed for a quarter of the time.

    These are most of a small run's time: half a million examples a layer, and thousands of rounds of calls that take
    microseconds (hundreds are left). Nothing else of a run differs; a command in a process of its own, as those of
    README.md, has all of it. `fine_sensitivities` is for tests of the numbers themselves.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensitivity, "MOST", ROUGH)
        patch.setattr(timing, "LEAST_SECONDS", timing.LEAST_SECONDS / 4)
        yield


@pytest.fixture
def fine_sensitivities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows weighed as in every run outside of the tests."""
    monkeypatch.setattr(sensitivity, "MOST", FINE)


@pytest.fixture
def numpy_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers the numpy network of tests/fakes.py: a new framework is one line."""
    monkeypatch.setitem(registry.REGISTRY["adapter"], "numpy", "fakes:NumpyNet")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a module's tests of pages; while it is there its thread has an event loop, as no other may."""
    from playwright.sync_api import sync_playwright

    from browser.visits import chromium

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
