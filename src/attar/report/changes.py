"""What the page says of slices, of answers that turned into others, and of confidences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attar.report.ledger import mapping, mappings, number
from attar.report.words import Metric, percent, whole
from attar.types import Json

KINDS = {
    "class": ("Class", "classes"),
    "answer": ("Answer of the original", "answers of the original"),
    "quarter": ("Label from", "quarters of the labels"),
}


def changes(result: Mapping[str, Json], metric: Metric) -> dict[str, Any] | None:
    """The section's values; None where the ledger tells of none of it."""
    slices, shifts = mapping(result.get("slices")), mapping(result.get("shifts"))
    found = {**_slices(slices, metric), **_shifts(shifts), "reliable": _reliable(mapping(result.get("reliability")))}
    return found if found["slices"] or found["shifts"] or found["reliable"] else None


def _slices(told: Mapping[str, Json], metric: Metric) -> dict[str, Any]:
    """Rows with the places of their intervals on a common scale, and what is worst in words."""
    keys = ("n", "before", "after", "drop", "lower", "upper")
    rows: list[dict[str, Any]] = [
        {"name": str(one.get("name")), **{k: number(one.get(k)) for k in keys}} for one in mappings(told.get("rows"))
    ]
    rows = [row for row in rows if None not in (row["drop"], row["lower"], row["upper"])]
    kind, kinds = KINDS.get(str(told.get("by")), ("Slice", "slices"))
    values = [0.0, *(row[key] for row in rows for key in ("lower", "upper"))]
    low, span = min(values), (max(values) - min(values)) or 1.0
    for row in rows:
        row |= {end: round(4 + 92 * (row[key] - low) / span, 1)
                for end, key in (("left", "lower"), ("at", "drop"), ("right", "upper"))}  # fmt: skip
    of, confidence = number(told.get("of")) or len(rows), percent(told.get("confidence"), 0)
    told_of = f"The {len(rows)} with the largest {metric.change} of {whole(of)} {kinds}" if of > len(rows) else (
        f"All {len(rows)} {kinds}"
    )  # fmt: skip
    return {
        "slices": rows, "kind": kind, "kinds": kinds, "zero": round(4 + 92 * (0 - low) / span, 1),
        "told": f"{told_of}; each end of the intervals holds for all {kinds} at once, with {confidence} confidence",
        "worst": _worst(rows, kind, metric),
    }  # fmt: skip


def _worst(rows: list[dict[str, Any]], kind: str, metric: Metric) -> str:
    """The slice with the largest drop, and how sure that is."""
    if not rows:
        return ""
    row = max(rows, key=lambda one: one["drop"])
    name = f"class {row['name']}" if kind == "Class" and row["name"].isdecimal() else f"“{row['name']}”"
    if row["drop"] <= 0:
        return f"None has a {metric.change}: the largest is {metric.drop(row['drop'])}, for {name}."
    text = f"The largest {metric.change} is {metric.drop(row['drop'])}, for {name}; it may be up to "
    text += f"{metric.drop(row['upper'])}."
    return text if row["lower"] > 0 else f"{text} It may also be chance: the interval holds zero."


def _shifts(told: Mapping[str, Json]) -> dict[str, Any]:
    """Pairs of answers with their counts."""
    rows: list[dict[str, Any]] = [
        {"before": str(one.get("before")), "after": str(one.get("after")),
         **{key: number(one.get(key)) for key in ("n", "lost", "gained")}}
        for one in mappings(told.get("rows"))
    ]  # fmt: skip
    for row in rows:
        known = [row[key] for key in ("n", "lost", "gained")]
        row["neither"] = None if None in known else known[0] - known[1] - known[2]
    changed, of = number(told.get("changed")), number(told.get("of"))
    share = f" ({percent(changed / of)})" if changed is not None and of else ""
    return {
        "shifts": rows, "pairs": number(told.get("pairs")) or len(rows),
        "sided": any(row["lost"] is not None for row in rows),
        "moved": f"{whole(changed)} of {whole(of)} examples{share} are answered otherwise than before.",
    }  # fmt: skip


def _reliable(told: Mapping[str, Json]) -> list[tuple[str, str, str]]:
    """Before and after: mean confidence and calibration error."""
    points = Metric(unit="points")
    found = [(name, mapping(told.get(key))) for name, key in (("the original", "before"), ("the compressed", "after"))]
    return [(name, points.value(row.get("confidence")), points.drop(row.get("error"))) for name, row in found if row]
