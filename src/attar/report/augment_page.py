"""What augmentation does, as one self-contained page: originals, and beside each what every change makes of it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from attar.report.data_page import TEMPLATES, environment
from attar.report.data_page import cell as as_text
from attar.report.picture import picture
from attar.types import Array, Json

WIDTH, HEIGHT = 120, 44
"""Of a waveform, in units of its picture."""
LONGEST = 600
"""Characters of a text that are shown."""
PROSE = 40
"""Characters of a cell from which on its column is wide enough to be read."""
MOST_COLUMNS = 14
"""Columns of a table that are shown; those that differ come first."""
Segment = tuple[str, str]


def render(facts: Mapping[str, Json], rows: Sequence[tuple[str, Any, Mapping[str, Any]]]) -> str:
    """The page: `rows` are captions, originals, and by name of the change what became of them.

    No script and no address of another place is in it; a Content-Security-Policy forbids both.
    """
    style = "".join((TEMPLATES / name).read_text("utf-8") for name in ("page.css", "data.css", "augment.css"))
    allowed = b64encode(sha256(style.encode("utf-8")).digest()).decode("ascii")
    form = {"images": _picture, "audio": _waveform}.get(facts["kind"])
    page = (
        environment()
        .get_template("augment.html")
        .render(
            facts=facts,
            names=list(rows[0][2]),
            settings={name: _settings(values) for name, values in facts["changes"].items()},
            grid=[(caption, [form(x) for x in (first, *others.values())]) for caption, first, others in rows]
            if form
            else [],
            cards=[] if form else [_card(*row) for row in rows],
            size=(WIDTH, HEIGHT),
            style=Markup(style),  # a file of this package
            policy=f"default-src 'none'; style-src 'sha256-{allowed}'; img-src data:; base-uri 'none'",
        )
    )
    return str(page).encode("utf-8", errors="replace").decode("utf-8")


def _settings(values: Mapping[str, Json]) -> str:
    """Parameters in words."""
    return ", ".join(f"{name} {as_text(value)}" for name, value in values.items())


def _picture(planes: Array) -> str | None:
    """A data URI."""
    return picture(planes[0])


def _waveform(sound: Array) -> str:
    """The path around a sound [1, channels, samples]: least and most of each column, at the scale of its dtype."""
    samples = sound[0].astype(np.float64).mean(0)
    full = 32768.0 if sound.dtype == np.int16 else max(1.0, float(np.abs(samples).max(initial=0.0)))
    edges = np.linspace(0, len(samples), WIDTH + 1).astype(int)
    columns = [samples[a : max(b, a + 1)] for a, b in pairwise(edges.tolist()) if a < len(samples)]
    middle = HEIGHT / 2
    upper = [(at, middle - middle * min(float(c.max()) / full, 1.0) - 0.4) for at, c in enumerate(columns)]
    lower = [(at, middle - middle * max(float(c.min()) / full, -1.0) + 0.4) for at, c in enumerate(columns)]
    return "M" + "L".join(f"{x} {y:.1f}" for x, y in [*upper, *reversed(lower)]) + "Z"


def _card(caption: str, first: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    """One text or row: a line for the original and one for each change, in segments (how, text)."""
    if isinstance(first, str):
        lines = [("original", [[("", _cut(first))]])]
        lines += [(name, [_differences(_cut(first), _cut(other))]) for name, other in others.items()]
        return {"caption": caption, "columns": [], "lines": lines, "prose": [], "more": 0}
    differ = [n for n in first if any(not _same(first[n], other[n]) for other in others.values())]
    names = [n for n in first if n in set((differ + [n for n in first if n not in differ])[:MOST_COLUMNS])]
    lines = [("original", [[("", _cell(first[name]))] for name in names])]
    lines += [(way, [_changed(first[name], other[name]) for name in names]) for way, other in others.items()]
    prose = [at for at, name in enumerate(names) if len(_cell(first[name])) > PROSE]
    return {"caption": caption, "columns": names, "lines": lines, "prose": prose, "more": len(first) - len(names)}


def _changed(before: Any, after: Any) -> list[Segment]:
    """A cell: text by its words, all else as a whole."""
    if _same(before, after):
        return [("", _cell(after))]
    if isinstance(before, str) and isinstance(after, str):
        return _differences(_cut(before), _cut(after))
    return [("added", _cell(after) or "missing")]


def _same(one: Any, other: Any) -> bool:
    """Equal, or both missing."""
    return bool(one is other or one == other or (one != one and other != other))


def _cell(value: Any) -> str:
    """A cell in words; missing ones are empty."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value != value:
        return ""
    return as_text(value) if isinstance(value, bool | float) else _cut(str(value))


def _cut(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _differences(before: str, after: str) -> list[Segment]:
    """The later text in segments: as it was, added, and what was removed."""
    one, other = (re.findall(r"\s+|\S+", text) for text in (before, after))
    found: list[Segment] = []
    for what, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if what == "equal":
            found.append(("", "".join(other[c:d])))
            continue
        found += [("removed", "".join(one[a:b]))] if b > a else []
        found += [("added", "".join(other[c:d]))] if d > c else []
    return found
