"""Links of the documentation lead to a file, and to a heading under every rule that makes anchors of headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    wrong = [target for target in _targets(page) if not _found(page, target)]
    assert not wrong, f"{page.relative_to(ROOT)}: {', '.join(wrong)}"


def test_the_check_can_fail(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text(
        "# What it `takes`\n\n```sh\n# No heading\n```\n\n## A - B\n\n## A [link](x.md)\n", encoding="utf-8"
    )
    page.write_text("# Page\n", encoding="utf-8")
    for target in ("other.md", "other.md#what-it-takes", "other.md#a-link", "#page"):
        assert _found(page, target), target
    for target in ("absent.md", "other.md#no-heading", "other.md#a-b", "other.md#a---b", "#absent"):
        assert not _found(page, target), target


def test_navigation_has_every_page() -> None:
    named = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES[1:])


def _targets(page: Path) -> list[str]:
    """Targets of a page's links and pictures within the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", _without_blocks(page))
    return [target for target in found if not re.match(r"https?://", target)]


def _found(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    file = page.parent / name if name else page
    return file.exists() and (not anchor or anchor in _anchors(file))


def _anchors(page: Path) -> set[str]:
    """Anchors that a page has both on GitHub and where Markdown's table of contents makes them.

    GitHub puts a hyphen for each space, the other one for each run of spaces and hyphens; of a heading that stands
    twice both link the first.
    """
    titles = re.findall(r"^#+ (.+?)\s*$", _without_blocks(page), re.MULTILINE)
    words = [re.sub(r"[^\w\s-]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title)).strip().lower() for title in titles]
    return {re.sub(r"\s", "-", text) for text in words} & {re.sub(r"[-\s]+", "-", text) for text in words}


def _without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
