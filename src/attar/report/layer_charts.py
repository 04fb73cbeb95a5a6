"""A chart of the layers: what each takes, keeps or costs, in rows with their names, or in columns where many."""

from __future__ import annotations

from collections.abc import Sequence

from attar.report.charts import NUMBER, PER_CENT, SCIENTIFIC, Spec, scale, spec
from attar.report.facts import LayerRow
from attar.report.scales import Axis, bar_axis, nats_axis
from attar.report.words import NONE, percent, plain, whole

NAMED_LAYERS = 30
"""Up to this many layers are rows with their names; more are columns in execution order."""

MEASURES = (
    ("bits_per_weight", "Bits per weight"),
    ("zeros", "Zeros"),
    ("share", "Share of the file"),
    ("sensitivity", "Sensitivity"),
)


def layer_chart(rows: Sequence[LayerRow], measure: str) -> Spec | None:
    """One measure of every layer: rows with names, or columns in execution order; None where it is not known."""
    known = [row for row in rows if getattr(row, measure) is not None]
    if measure == "sensitivity":
        known = [row for row in known if (row.sensitivity or 0) > 0]
    if not known:
        return None
    values = [getattr(row, measure) for row in known]
    axis = nats_axis(values) if measure == "sensitivity" else bar_axis(values)
    named = len(rows) <= NAMED_LAYERS
    form = PER_CENT if measure in ("zeros", "share") else SCIENTIFIC if measure == "sensitivity" else NUMBER
    along = {"field": measure, "type": "quantitative", "scale": scale(axis), "axis": _measure_axis(axis, form, named)}
    encoding: Spec = {"x" if named else "y": along, "y" if named else "x": _place(rows, named)}
    encoding["tooltip"] = [{"field": field, "type": "nominal", "title": title} for field, title in _LAYER_TOOLTIP]
    return spec(
        {
            "data": {"values": [_layer_values(row, measure) for row in known]},
            "height": 24 * len(rows) if named else 120,
            "encoding": encoding,
            **_measure_mark(measure, named, axis),
        }
    )


_LAYER_TOOLTIP = (
    ("name", "layer"),
    ("method", "method"),
    ("said_bits", "bits per weight"),
    ("said_zeros", "zeros"),
    ("said_bytes", "bytes"),
    ("said_share", "share"),
    ("said_sensitivity", "sensitivity"),
)


def _layer_values(row: LayerRow, measure: str) -> Spec:
    """One layer as a datum."""
    return {
        "position": row.position,
        "label": row.label,
        measure: getattr(row, measure),
        "name": row.name,
        "method": row.method or NONE,
        "said_bits": plain(row.bits_per_weight),
        "said_zeros": percent(row.zeros),
        "said_bytes": whole(row.bytes),
        "said_share": percent(row.share),
        "said_sensitivity": plain(row.sensitivity),
    }


def _place(rows: Sequence[LayerRow], named: bool) -> Spec:
    """The layers' axis: names down the side, or every tenth position along the bottom."""
    if named:
        domain = [row.label for row in rows]
        axis: Spec = {"title": None, "labelLimit": 170, "grid": False, "minExtent": 60}
        return {"field": "label", "type": "nominal", "sort": None, "scale": {"domain": domain}, "axis": axis}
    step = 10 if len(rows) <= 120 else 20
    positions = [row.position for row in rows]
    ticks = [1, *(place for place in positions if place % step == 0)]
    axis = {"title": None, "values": ticks, "labelAngle": 0, "grid": False, "labelOverlap": True}
    return {"field": "position", "type": "ordinal", "scale": {"domain": positions}, "axis": axis}


def _measure_axis(axis: Axis, form: str, named: bool) -> Spec:
    """The measure's axis, with few ticks where it is short; a fixed extent keeps columns of all panels in line."""
    ticks = axis.ticks()
    if axis.form == "log" and len(ticks) > 4:
        ticks = ticks[:: -(-len(ticks) // 4)]
    return {
        "title": None,
        "values": ticks,
        "labelExpr": form,
        "labelOverlap": True,
        "minExtent": 0 if named else 52,
        "maxExtent": 52,
    }


def _measure_mark(measure: str, named: bool, axis: Axis) -> Spec:
    """Bars from zero; points on stems where the scale is logarithmic and has no zero."""
    if measure == "sensitivity":
        point = {"type": "point", "filled": True, "opacity": 1, "size": 80 if named else 24, "fill": "var(--select)"}
        stem = {"type": "rule", "strokeWidth": 1.5, "opacity": 0.5, "stroke": "var(--select)"}
        floor = {"x2" if named else "y2": {"datum": axis.low}}
        return {"layer": [{"mark": stem, "encoding": floor}, {"mark": point}]}
    width: Spec = {"height": {"band": 0.62}, "cornerRadiusEnd": 3} if named else {"width": {"band": 0.8}}
    return {"mark": {"type": "bar", "fill": "var(--select)", **width}}
