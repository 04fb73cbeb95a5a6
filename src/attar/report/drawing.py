"""The same charts as still drawings: what a page shows without scripts, and where vl-convert is not installed.

Horizontal places are per cent of the drawing's width and vertical ones pixels, so that text keeps its size on a phone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from attar.report.charts import Spec, besides, drop_title
from attar.report.facts import LayerRow, Tried, along, shortened
from attar.report.latency import milliseconds
from attar.report.layer_charts import NAMED_LAYERS
from attar.report.scales import Axis, bar_axis, drop_axis, nats_axis, size_axis
from attar.report.words import Metric, percent, plain, signed, size
from attar.types import Json


@dataclass(frozen=True, slots=True)
class Mark:
    """shape "line" (x, y to x2, y2), "rect" (x, y, width x2, height y2), "dot" (x, y, radius y2) or "text" (x, y).

    text of a dot is the candidate that it stands for.
    """

    shape: str
    css: str
    x: float
    y: float
    x2: float = 0.0
    y2: float = 0.0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Marks on a canvas 100 per cent wide and `height` pixels high; `text` says what they show."""

    text: str
    height: int
    marks: list[Mark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Chart:
    """A Vega-Lite specification and the still drawing that stands in its place until, or unless, it is rendered."""

    name: str
    title: str
    spec: Spec
    still: Drawing


AXES = {"bytes": "file size", "milliseconds": "time of a call"}
LEFT, RIGHT = 14.0, 97.0
TOP, BOTTOM = 26.0, 270.0


def frontier(rows: Sequence[Tried], metric: Metric, limit: float | None) -> Drawing | None:
    """Drop against file size; None where nothing was tried."""
    points = [row for row in rows if row.bytes and row.drop is not None]
    if not points:
        return None
    ends = [value for row in points for value in (row.drop, row.lower, row.upper) if value is not None]
    field = along(rows)
    said = milliseconds if field == "milliseconds" else size
    drops, sizes = drop_axis(ends, limit), size_axis([getattr(row, field) for row in points])
    drawing = Drawing(_summary(points, metric, limit, said), 318)
    frontier_axes(drawing, drops, sizes, said)
    drawing.marks.append(Mark("text", "tick", 0, 11, text=drop_title(metric)))
    drawing.marks.append(Mark("text", "tick middle", (LEFT + RIGHT) / 2, BOTTOM + 42, text=AXES[field]))
    if limit is not None:
        y = down(drops, limit)
        drawing.marks.append(Mark("line", "limit", LEFT, y, RIGHT, y))
        drawing.marks.append(Mark("text", "limit end", RIGHT, y - 7, text=f"{metric.limit(limit)} allowed"))
    beside = besides(points) / 6
    for row in points:
        x = across(sizes, getattr(row, field)) + (beside if row.split == "certify" else 0.0)
        y = down(drops, row.drop or 0.0)
        if row.lower is not None and row.upper is not None:
            drawing.marks.append(Mark("line", row.split, x, down(drops, row.lower), x, down(drops, row.upper)))
        drawing.marks.append(Mark("dot", row.split, x, y, y2=5, text=row.index))
        if row.chosen:
            drawing.marks.append(Mark("dot", "chosen", x, y, y2=10))
    return drawing


def _summary(points: Sequence[Tried], metric: Metric, limit: float | None, said: Callable[[Json], str]) -> str:
    """What the frontier shows to those who do not see it."""
    field = along(points)
    places = sorted(getattr(row, field) for row in points)
    text = f"{metric.change.capitalize()} against {AXES[field]} of {len(points)} measurements, "
    text += f"{said(places[0])} to {said(places[-1])}"
    for row in points:
        if row.chosen:
            text += f"; chosen: {said(getattr(row, field))} at {metric.drop(row.drop)}"
    return text if limit is None else f"{text}; allowed: {metric.limit(limit)}"


def frontier_axes(drawing: Drawing, drops: Axis, sizes: Axis, said: Callable[[Json], str]) -> None:
    """Grid lines and their labels."""
    for tick in drops.ticks():
        y = down(drops, tick)
        drawing.marks.append(Mark("line", "zero" if tick == 0 else "grid", LEFT, y, RIGHT, y))
        drawing.marks.append(Mark("text", "tick end", LEFT - 1.5, y + 4, text=signed(f"{tick:g}")))
    for tick in sizes.ticks():
        x = across(sizes, tick)
        drawing.marks.append(Mark("line", "grid", x, TOP, x, BOTTOM))
        drawing.marks.append(Mark("text", "tick middle", x, BOTTOM + 20, text=said(tick)))


def layer_chart(rows: Sequence[LayerRow], measure: str) -> Drawing | None:
    """One measure of every layer; None where it is not known."""
    values = [(row, getattr(row, measure)) for row in rows]
    known = [(row, float(value)) for row, value in values if value is not None]
    known = [(row, value) for row, value in known if measure != "sensitivity" or value > 0]
    if not known:
        return None
    amounts = [value for _, value in known]
    axis = nats_axis(amounts) if measure == "sensitivity" else bar_axis(amounts)
    text = _range(known, measure)
    if len(rows) <= NAMED_LAYERS:
        return _named_bars(Drawing(text, 22 * len(known) + 4), known, axis, measure)
    return _columns(Drawing(text, 130), known, axis, measure, len(rows))


def _range(known: Sequence[tuple[LayerRow, float]], measure: str) -> str:
    """The smallest and the largest of a measure, for those who do not see the chart."""
    said = percent if measure in ("zeros", "share") else plain
    (least, low), (most, high) = (pick(known, key=lambda pair: pair[1]) for pick in (min, max))
    name = {"share": "share of the file"}.get(measure, measure.replace("_", " "))
    count = f"{len(known)} layers" if len(known) > 1 else "one layer"
    return f"{name.capitalize()} of {count}, from {said(low)} ({least.name}) to {said(high)} ({most.name})"


def _named_bars(drawing: Drawing, known: Sequence[tuple[LayerRow, float]], axis: Axis, measure: str) -> Drawing:
    """A row for each layer: name, bar, value."""
    for place, (row, value) in enumerate(known):
        y, length = 22 * place + 4, max(52 * axis.place(value), 0.2)
        said = percent(value) if measure in ("zeros", "share") else plain(value)
        drawing.marks.append(Mark("text", "tick end", 30, y + 13, text=shortened(row.label, 20)))
        drawing.marks.append(Mark("rect", measure, 32, y + 2, length, 14))
        drawing.marks.append(Mark("text", "tick", 33 + length, y + 13, text=said))
    return drawing


def _columns(
    drawing: Drawing, known: Sequence[tuple[LayerRow, float]], axis: Axis, measure: str, count: int
) -> Drawing:
    """A column for each layer, in execution order."""
    base, step = 110.0, 90.0 / count
    for tick in axis.ticks()[:: 2 if len(axis.ticks()) > 5 else 1]:
        y = base - 100 * axis.place(tick)
        said = percent(tick, 0) if measure in ("zeros", "share") else f"{tick:g}"
        drawing.marks.append(Mark("line", "grid", 8, y, 98, y))
        drawing.marks.append(Mark("text", "tick end", 7.3, y + 4, text=said))
    for row, value in known:
        height = 100 * axis.place(value)
        drawing.marks.append(
            Mark("rect", measure, 8 + step * (row.position - 1), base - height, 0.8 * step, max(height, 0.5))
        )
    for position in range(0, count, 10 if count <= 120 else 20):
        x = 8 + step * (max(position, 1) - 0.5)
        drawing.marks.append(Mark("text", "tick middle", x, base + 16, text=str(max(position, 1))))
    return drawing


def interval(
    drop: float | None, lower: float | None, upper: float | None, limit: float | None, allowed: str = "allowed"
) -> Drawing | None:
    """The certificate on one line: the drop between its bounds, the shaded region that is allowed, and its limit."""
    if drop is None or lower is None or upper is None or limit is None:
        return None
    low, high = min(0.0, lower), max(limit, upper, 0.0)
    span = (high - low) or 1.0
    axis = Axis(low - 0.08 * span, high + 0.14 * span)
    zero, edge = _wide(axis, 0.0), _wide(axis, limit)
    left, right = _wide(axis, lower), _wide(axis, upper)
    marks = [
        Mark("rect", "allowed", 0, 22, max(edge, 0), 26),
        Mark("line", "zero", zero, 18, zero, 54),
        Mark("line", "limit", edge, 14, edge, 54),
        Mark("line", "range", left, 35, right, 35),
        Mark("line", "range", left, 30, left, 40),
        Mark("line", "range", right, 30, right, 40),
        Mark("dot", "drop", _wide(axis, drop), 35, y2=6),
        Mark("text", f"tick {_anchor(zero)}", zero, 11, text="unchanged"),
        Mark("text", f"limit {_anchor(edge)}", edge, 70, text=allowed),
    ]
    return Drawing("The drop and its bounds against the allowed drop", 76, marks)


def _anchor(x: float) -> str:
    """How a label is set at x per cent, so that it does not leave the page."""
    return "" if x < 22 else "end" if x > 78 else "middle"


def _wide(axis: Axis, value: float) -> float:
    """Per cent of the whole width."""
    return 100 * axis.place(value)


def across(axis: Axis, value: float) -> float:
    """Per cent within the plot's width."""
    return LEFT + (RIGHT - LEFT) * axis.place(value)


def down(axis: Axis, value: float) -> float:
    """Pixels within the plot's height."""
    return BOTTOM - (BOTTOM - TOP) * axis.place(value)
