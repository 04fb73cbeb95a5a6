"""The frontiers of two runs in one chart, live and still."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from attar.report import charts, drawing
from attar.report.charts import Spec
from attar.report.drawing import AXES, Chart, Drawing, Mark
from attar.report.facts import Tried, along
from attar.report.latency import milliseconds
from attar.report.scales import drop_axis, size_axis
from attar.report.words import Metric, size

SERIES = (("first", "var(--select)", "circle"), ("second", "var(--rose)", "square"))
"""Class, colour and form of each run's points."""


class Told(Protocol):
    """What is drawn of a run."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def metric(self) -> Metric:
        """Its metric."""
        ...

    @property
    def rows(self) -> Sequence[Tried]:
        """Its candidates."""
        ...

    @property
    def limit(self) -> float | None:
        """The drop allowed."""
        ...


def judged(rows: Sequence[Tried]) -> list[Tried]:
    """One row for each candidate: that of the certify split where there is one."""
    found: dict[str, Tried] = {}
    for row in rows:
        if row.bytes and row.drop is not None and (row.split == "certify" or row.index not in found):
            found[row.index] = row
    return list(found.values())


def together(runs: Sequence[Told]) -> Chart | None:
    """Both frontiers; None where nothing was measured."""
    parts = [judged(run.rows) for run in runs]
    points = [row for part in parts for row in part]
    if not points:
        return None
    field, limits = along(points), [run.limit for run in runs]
    ends = [value for row in points for value in (row.drop, row.lower, row.upper) if value is not None]
    ends += [limit for limit in limits if limit is not None]
    axes = size_axis([getattr(row, field) for row in points]), drop_axis(ends, None)
    return Chart("frontier", "Both frontiers", _spec(runs, parts, field, axes), _still(runs, parts, field, axes))


def _spec(runs: Sequence[Told], parts: Sequence[Sequence[Tried]], field: str, axes: Any) -> Spec:
    """The live chart: a line, intervals and points of each run, filled where the certify split has judged."""
    metric = runs[0].metric
    x, y = charts.axes(field, axes[0], axes[1], metric)
    layers: list[Spec] = [charts.zero_line()]
    for (_, color, form), run, part in zip(SERIES, runs, parts, strict=True):
        values = [{**charts.point_values(row, metric), "run": run.name} for row in part]
        tooltip = [{"field": "run", "type": "nominal", "title": "run"}, *charts.tooltip(part)]
        point = {"type": "point", "shape": form, "size": 95, "opacity": 1, "strokeWidth": 2, "stroke": color}
        fill = {"condition": {"test": "datum.split == 'certify'", "value": color}, "value": "var(--paper)"}
        rule, line = ({"type": form, "strokeWidth": width, "opacity": 0.5, "stroke": color}
                      for form, width in (("rule", 2), ("line", 1.5)))  # fmt: skip
        if run.limit is not None:
            limit = {"type": "rule", "strokeWidth": 1.5, "strokeDash": [5, 4], "stroke": color, "opacity": 0.8}
            layers.append({"data": {"values": [{}]}, "mark": limit, "encoding": {"y": {"datum": run.limit}}})
        layers.append({
            "data": {"values": values},
            "layer": [
                {"mark": line, "encoding": {"x": x, "y": y, "order": {"field": field, "type": "quantitative"}}},
                {"mark": rule, "encoding": {"x": x, "y": {**y, "field": "lower"}, "y2": {"field": "upper"}}},
                {"mark": point, "encoding": {"x": x, "y": y, "fill": fill, "tooltip": tooltip}},
            ],
        })  # fmt: skip
    return charts.spec({"height": 340, "layer": layers})


def _still(runs: Sequence[Told], parts: Sequence[Sequence[Tried]], field: str, axes: Any) -> Drawing:
    """The same as a drawing."""
    across, down = axes
    said = milliseconds if field == "milliseconds" else size
    counts = " and ".join(f"{len(part)} candidates of {run.name}" for run, part in zip(runs, parts, strict=True))
    made = Drawing(f"{runs[0].metric.change.capitalize()} against {AXES[field]} of {counts}", 318)
    drawing.frontier_axes(made, down, across, said)
    made.marks.append(Mark("text", "tick", 0, 11, text=charts.drop_title(runs[0].metric)))
    made.marks.append(
        Mark("text", "tick middle", (drawing.LEFT + drawing.RIGHT) / 2, drawing.BOTTOM + 42, text=AXES[field])
    )
    for (css, _, _), part in zip(SERIES, parts, strict=True):
        for row in part:
            x, y = drawing.across(across, getattr(row, field)), drawing.down(down, row.drop or 0.0)
            if row.lower is not None and row.upper is not None:
                ends = drawing.down(down, row.lower), drawing.down(down, row.upper)
                made.marks.append(Mark("line", css, x, ends[0], x, ends[1]))
            made.marks.append(Mark("dot", f"{css} {row.split}-only", x, y, y2=5))
    return made
