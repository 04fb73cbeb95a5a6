"""A data set's inspection as one self-contained page: what is there, what is wrong, and the examples concerned."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import jinja2
from markupsafe import Markup

from attar.report.picture import picture
from attar.types import Array, Json

TEMPLATES = Path(__file__).parent / "templates"


def render(facts: Mapping[str, Json], drawings: Sequence[Sequence[tuple[str, Array]]]) -> str:
    """The page of an inspection's facts; `drawings` are, for each fault, captions and images uint8 of examples.

    No script and no address of another place is in it; a Content-Security-Policy forbids both.
    """
    style = (TEMPLATES / "page.css").read_text("utf-8") + (TEMPLATES / "data.css").read_text("utf-8")
    allowed = b64encode(sha256(style.encode("utf-8")).digest()).decode("ascii")
    rows = facts["contents"]
    page = (
        environment()
        .get_template("data.html")
        .render(
            facts=facts,
            columns=list(dict.fromkeys(name for row in rows for name in row)),
            faults=[
                {**fault, "pictures": [(caption, picture(image)) for caption, image in drawn]}
                for fault, drawn in zip(facts["faults"], drawings, strict=True)
            ],
            style=Markup(style),  # a file of this package
            policy=f"default-src 'none'; style-src 'sha256-{allowed}'; img-src data:; base-uri 'none'",
        )
    )
    return str(page).encode("utf-8", errors="replace").decode("utf-8")


def environment() -> jinja2.Environment:
    """Jinja with autoescape: names come from strangers' files."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    made = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters["cell"] = cell
    return made


def cell(value: Json) -> str:
    """A value in the table of what is there."""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
