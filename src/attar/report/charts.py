"""Vega-Lite specifications. Colours are CSS variables of the page, so that one chart serves light, dark and print.

Strings that come from a model or a user are only ever data: Vega-Lite builds expressions from titles and the like, and
does not quote all that is in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attar.report.facts import Tried, along
from attar.report.latency import milliseconds
from attar.report.scales import Axis, drop_axis, size_axis
from attar.report.words import TIMES, Metric, ratio, size, size_unit

Spec = dict[str, Any]

FONT = 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif'
_CONFIG: Spec = {
    "background": "transparent",
    "aria": False,  # the drawing is one picture with a name, and a table below says what is in it
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "gridColor": "var(--hair)",
        "domain": False,
        "ticks": False,
        "labelFontSize": 12,
        "labelPadding": 8,
        "titleFontSize": 12,
        "titlePadding": 10,
        "titleFontWeight": "normal",
    },
}


def frontier(rows: Sequence[Tried], metric: Metric, limit: float | None, before: float | None) -> Spec | None:
    """Drop against file size (or the time of a call) of everything tried; None where nothing was.

    The data set "picked" is empty: the page's script puts there the candidate at which the slider stands.
    """
    points = [row for row in rows if row.bytes and row.drop is not None]
    if not points:
        return None
    field = along(rows)
    drops, sizes = drop_axis(_extent(points), limit), size_axis([getattr(row, field) for row in points])
    x, y = axes(field, sizes, drops, metric, before)
    told = tooltip(points)
    layers: list[Spec] = [zero_line(), *_limit_line(limit)]
    for split, color, fill in _SPLITS:
        beside = besides(points) if split == "certify" else 0
        only = {"transform": [{"filter": {"field": "split", "equal": split}}]}
        line = {"type": "line", "strokeWidth": 1.5, "opacity": 0.4, "stroke": color, "xOffset": beside}
        rule = {"type": "rule", "strokeWidth": 2, "opacity": 0.6, "stroke": color, "xOffset": beside}
        point = {"type": "point", "size": 95, "opacity": 1, "strokeWidth": 2, "stroke": color, "fill": fill}
        order = {"order": {"field": field, "type": "quantitative"}}
        layers.append({**only, "mark": line, "encoding": {"x": x, "y": y, **order}})
        ends = {"y": {**y, "field": "lower"}, "y2": {"field": "upper"}}
        layers.append({**only, "mark": rule, "encoding": {"x": x, **ends}})
        layers.append({**only, "mark": {**point, "xOffset": beside}, "encoding": {"x": x, "y": y, "tooltip": told}})
    layers += [
        *_ring({"x": x, "y": y, "tooltip": told}, besides(points)),
        *_picked(x, y, besides(points)),
        *_limit_name(metric, limit),
    ]
    data = [point_values(row, metric) for row in points]
    return spec({"data": {"name": "points", "values": data}, "height": 320, "layer": layers})


def axes(field: str, sizes: Axis, drops: Axis, metric: Metric, before: float | None = None) -> tuple[Spec, Spec]:
    """The level encoding (bytes or milliseconds) and the upright one (drop)."""
    labels = _time_labels(sizes) if field == "milliseconds" else _size_labels(sizes, before)
    x = {"field": field, "type": "quantitative", "scale": scale(sizes), "axis": labels}
    axis = {"title": drop_title(metric), "values": drops.ticks(), "labelExpr": NUMBER}
    return x, {"field": "drop", "type": "quantitative", "scale": scale(drops), "axis": axis}


def tooltip(points: Sequence[Tried]) -> list[Spec]:
    """What a point says of itself."""
    timed = any(row.milliseconds for row in points)
    rows = [pair for pair in _POINT_TOOLTIP if timed or pair[0] != "said_time"]
    return [{"field": name, "type": "nominal", "title": title} for name, title in rows]


_SPLITS = (("select", "var(--select)", "var(--paper)"), ("certify", "var(--good)", "var(--good)"))
"""Split, line colour, fill."""

NUMBER = "format(datum.value, '~g')"
"""Labels as they are: an axis' own format rounds to the ticks' distance, so that 0.25 would be 0.3."""


PER_CENT = "format(datum.value, '~%')"
SCIENTIFIC = "datum.value >= 0.001 && datum.value < 10000 ? format(datum.value, '~g') : format(datum.value, '~e')"


def besides(points: Sequence[Tried]) -> int:
    """Pixels by which certified points are moved: some where a candidate is in both splits, at the same size."""
    sizes = {split: {row.bytes for row in points if row.split == split} for split in ("select", "certify")}
    return 6 if sizes["select"] & sizes["certify"] else 0


def drop_title(metric: Metric) -> str:
    """What the upright axis shows, in the few words that need no name of a stranger's."""
    return f"{metric.change}, {metric.unit}" if metric.unit in ("points", "nats") else metric.change


def _ring(encoding: Spec, beside: int) -> list[Spec]:
    """Around the chosen candidate, in whichever split it was measured last."""
    ring = {"type": "point", "size": 300, "filled": False, "strokeWidth": 1.5, "opacity": 1, "stroke": "var(--ink)"}
    return [
        {
            "transform": [
                {"filter": {"and": [{"field": "chosen", "equal": True}, {"field": "split", "equal": split}]}}
            ],
            "mark": {**ring, "xOffset": beside if split == "certify" else 0},
            "encoding": encoding,
        }
        for split, _, _ in _SPLITS
    ]


def _picked(x: Spec, y: Spec, beside: int) -> list[Spec]:
    """Where the slider stands: a disc around the points of a candidate."""
    disc = {"type": "point", "size": 900, "filled": True, "opacity": 0.25, "fill": "var(--rose)"}
    disc |= {"stroke": "var(--rose)", "strokeWidth": 2}
    return [
        {
            "data": {"name": "picked", "values": []},
            "transform": [{"filter": {"field": "split", "equal": split}}],
            "mark": {**disc, "xOffset": beside if split == "certify" else 0},
            "encoding": {"x": x, "y": y},
        }
        for split, _, _ in _SPLITS
    ]


_POINT_TOOLTIP = (
    ("said_size", "size"),
    ("said_time", "time of a call"),
    ("said_ratio", "smaller"),
    ("said_value", "value"),
    ("said_drop", "drop"),
    ("said_interval", "interval"),
    ("split", "split"),
    ("index", "candidate"),
)


def point_values(row: Tried, metric: Metric) -> Spec:
    """One candidate as a datum; what a tooltip says is worded here, not by the chart."""
    return {
        "bytes": row.bytes,
        "milliseconds": row.milliseconds,
        "drop": row.drop,
        "lower": row.drop if row.lower is None else row.lower,
        "upper": row.drop if row.upper is None else row.upper,
        "split": row.split,
        "chosen": row.chosen,
        "index": row.index,
        "said_size": size(row.bytes),
        "said_ratio": ratio(row.ratio),
        "said_time": milliseconds(row.milliseconds),
        "said_value": metric.value(row.value),
        "said_drop": metric.drop(row.drop),
        "said_interval": f"{metric.bare(row.lower)} to {metric.bare(row.upper)}",
    }


def _extent(points: Sequence[Tried]) -> list[float]:
    """All drops and interval ends."""
    return [value for row in points for value in (row.drop, row.lower, row.upper) if value is not None]


def zero_line() -> Spec:
    """Where the original is."""
    return {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "stroke": "var(--soft)", "strokeWidth": 1, "opacity": 0.6},
        "encoding": {"y": {"datum": 0}},
    }


def _limit_line(limit: float | None) -> list[Spec]:
    """The allowed drop, dashed."""
    if limit is None:
        return []
    rule = {"type": "rule", "stroke": "var(--limit)", "strokeWidth": 1.5, "strokeDash": [5, 4]}
    return [{"data": {"values": [{}]}, "mark": rule, "encoding": {"y": {"datum": limit}}}]


def _limit_name(metric: Metric, limit: float | None) -> list[Spec]:
    """The allowed drop's name above all marks, on a seam of paper so that an interval below does not cross it out."""
    if limit is None:
        return []
    seam = {"stroke": "var(--paper)", "strokeWidth": 4, "strokeJoin": "round"}
    name = {"type": "text", "align": "right", "dy": -9, "fontSize": 12, "fill": "var(--limit)"}
    data = {"values": [{"said": f"{metric.limit(limit)} allowed"}]}
    text = {"x": {"value": "width"}, "y": {"datum": limit}, "text": {"field": "said"}}
    return [{"data": data, "mark": {**name, **more}, "encoding": text} for more in (seam, {})]


def _size_labels(axis: Axis, before: float | None) -> Spec:
    """Ticks in bytes, with the ratio below where the original's size is known."""
    ticks = axis.ticks()
    divisor, unit = size_unit(ticks[0])
    lines = [f"format(datum.value / {divisor}, ',.3~r') + ' {unit}'"]
    title = "file size"
    if before:
        lines.append(f"format({before} / datum.value, ',.3~r') + '{TIMES}'")
        title = "file size, and how many times smaller"
    return {"title": title, "values": ticks, "labelExpr": f"[{', '.join(lines)}]", "labelOverlap": True}


def _time_labels(axis: Axis) -> Spec:
    """Ticks in milliseconds."""
    return {"title": "time of a call", "values": axis.ticks(), "labelExpr": f"{NUMBER} + ' ms'", "labelOverlap": True}


def scale(axis: Axis) -> Spec:
    """The axis as a Vega-Lite scale."""
    made: Spec = {"domain": [axis.low, axis.high], "type": axis.form, "nice": False, "zero": False}
    if axis.form == "symlog":
        made["constant"] = axis.constant
    if axis.form == "log":
        del made["zero"]
    return made


def spec(body: Spec) -> Spec:
    """With what all charts have in common."""
    return {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}, "config": _CONFIG, **body}
