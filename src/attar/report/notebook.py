"""A finished run as notebooks show it: a table, and size against drop for all that was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from attar.report.ledger import gather
from attar.types import Certificate, Json

WIDTH, HEIGHT, MARGIN = 320, 120, 14


def card(certificate: Certificate, before: int, after: int, unit: str, events: Sequence[Mapping[str, Json]]) -> str:
    """HTML without scripts, links or colours of its own but for the verdict's mark."""
    c = certificate
    digits = 2 if unit else 4
    mark = "\u2714" if c.verdict == "certified" else "\u2718"
    rows = {
        "size": f"{before:,} \u2192 {after:,} bytes ({before / max(after, 1):.1f}x smaller)",
        c.metric: f"{c.before:.{digits}f} \u2192 {c.after:.{digits}f} on {c.n:,} examples, from the decoded file",
        "drop": f"{c.drop:+.{digits}f}{unit}, {c.confidence:.0%} upper bound {c.upper:+.{digits}f}",
        "verdict": f"{mark} {c.verdict} (allowed {c.max_drop:g})",
        **{f"warning {number}": text for number, text in enumerate(gather(events).warnings, 1)},
    }
    cells = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f"<table>{cells}</table>{_tried(events)}"


def _tried(events: Sequence[Mapping[str, Json]]) -> str:
    """A small chart of the candidates; nothing where fewer than two were tried."""
    points = [
        (float(event["bytes"]), float(event["drop"]), str(event["split"]))
        for event in events
        if event.get("event") == "candidate" and event.get("drop") is not None
    ]
    if len(points) < 2:
        return ""
    sizes, drops = [x for x, _, _ in points], [y for _, y, _ in points]

    def place(value: float, low: float, high: float, length: int) -> float:
        return MARGIN + (value - low) / ((high - low) or 1.0) * (length - 2 * MARGIN)

    dots = "".join(
        f'<circle cx="{place(x, min(sizes), max(sizes), WIDTH):.1f}" '
        f'cy="{HEIGHT - place(y, min(drops), max(drops), HEIGHT):.1f}" r="4" '
        f'fill="{"currentColor" if split == "certify" else "none"}" stroke="currentColor">'
        f"<title>{x:,.0f} bytes, drop {y:+.3g} on {escape(split)}</title></circle>"
        for x, y, split in points
    )
    label = f"Size and drop of {len(points)} candidates; filled: on the certify split"
    return (
        f'<svg role="img" aria-label="{label}" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"<title>{label}</title>{dots}</svg>"
    )
