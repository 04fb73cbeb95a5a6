"""Rows, axes, specifications and drawings."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.report import charts, drawing, layer_charts
from attar.report.facts import byte_parts, labels, layer_rows, prediction_error, tried
from attar.report.ledger import gather
from attar.report.scales import Axis, bar_axis, drop_axis, nats_axis, nice_step, size_axis
from attar.report.words import THIN, Metric
from report import ledgers

POINTS = Metric("accuracy", "points", True)
AMOUNTS = st.floats(1e-12, 1e12)


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Axis(-0.3, 1.1), [0, 0.5, 1]),
        (Axis(1e3, 1e5, "log"), [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5]),
        (Axis(41.0, 42.0, "log"), [41, 41.2, 41.4, 41.6, 41.8, 42]),
        (Axis(41.3e3, 79.2e3, "log"), [45e3, 50e3, 55e3, 60e3, 65e3, 70e3, 75e3]),
        (Axis(-0.2, 45, "symlog", 0.5), [0, 0.5, 1, 2, 5, 10, 20]),
    ],
)
def test_ticks(axis: Axis, ticks: list[float]) -> None:
    np.testing.assert_allclose(axis.ticks(), ticks, atol=1e-12)


@given(st.lists(AMOUNTS, min_size=1, max_size=5), st.floats(1e-6, 1e3))
def test_every_axis_holds_its_values_and_has_few_ticks(values: list[float], limit: float) -> None:
    signed = [*values, -values[0] / 2]
    pairs: list[tuple[Axis, list[float]]] = [
        (size_axis(values), values),
        (nats_axis(values), values),
        (bar_axis(values), [0.0, *values]),
        (drop_axis(signed, limit), [*signed, 0.0, limit]),
        (drop_axis(signed, None), [*signed, 0.0]),
    ]
    for axis, held in pairs:
        places = [axis.place(value) for value in held]
        assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
        assert sorted(held) == [value for _, value in sorted(zip(places, held, strict=True))]
        ticks = axis.ticks()
        assert 1 <= len(ticks) <= 16 and ticks == sorted(ticks)
        assert all(-1e-9 <= axis.place(tick) <= 1 + 1e-9 for tick in ticks)


@given(AMOUNTS)
def test_nice_steps_are_not_below_and_not_far_above(rough: float) -> None:
    assert rough * (1 - 1e-6) <= nice_step(rough) <= rough * 2.5 * (1 + 1e-6)


def test_the_chosen_candidate_is_the_certified_one_of_the_file_s_size() -> None:
    rows = tried(gather(ledgers.sample()))
    assert [(row.index, row.split) for row in rows if row.chosen] == [("5", "certify")]
    events = ledgers.sample()
    ledgers.event(events, "result")["bytes_after"] = 54_444
    assert [(row.index, row.split) for row in tried(gather(events)) if row.chosen] == [("5", "certify")]
    ledgers.event(events, "result")["certificate"] = {}
    assert not any(row.chosen for row in tried(gather(events)))


def test_a_resumed_run_shows_every_candidate_once() -> None:
    events = ledgers.sample()
    again = [event for event in events if event["event"] == "candidate"][2:4]
    assert len(tried(gather([*events[:7], *again, *events[7:]]))) == 8


def test_rows_join_what_the_events_say_of_a_layer() -> None:
    rows = layer_rows(gather(ledgers.sample()))
    assert [row.name for row in rows] == ["conv1", "conv2", "fc1", "fc2"]
    first = rows[0]
    assert (first.size, first.kind, first.shape) == (500, "conv", "20 × 1 × 5 × 5")
    assert (first.method, first.sensitivity) == ("uniform", 0.031)
    before = layer_rows(gather(ledgers.interrupted()))
    assert [row.sensitivity for row in before] == [0.031, 0.0046, 0.00022, 0.0069]
    assert before[0].bytes is None


def test_labels_are_short_and_unlike() -> None:
    names = [f"/encoder/layers.{k}/attention/self/value/MatMul_weight" for k in range(12)]
    shown = labels(names)
    assert len(set(shown)) == 12 and all(len(label) <= 33 for label in shown)
    assert labels(["conv1", "fc"]) == ["conv1", "fc"]


def test_parts_add_up_to_the_file() -> None:
    parts = byte_parts(gather(ledgers.sample()))
    assert [name for name, _ in parts] == ["layers", "remainder", "header", "skeleton"]
    assert sum(size for _, size in parts) == 54_076


def test_prediction_error_is_the_median() -> None:
    rows = tried(gather(ledgers.sample()))
    errors = [abs(row.predicted_bytes / row.bytes - 1) for row in rows if row.bytes and row.predicted_bytes]
    assert prediction_error(rows) == sorted(errors)[4]
    assert prediction_error([]) is None


def strings(value: Any) -> list[str]:
    """Every string in a specification, but for its data and its scales' domains."""
    if isinstance(value, dict):
        return [text for key, part in value.items() if key not in ("data", "domain") for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


def specs(events: ledgers.Events) -> list[charts.Spec]:
    ledger = gather(events)
    metric = Metric.of(ledger.run.get("metric"))
    made = [charts.frontier(tried(ledger), metric, 0.5, 1e6)]
    made += [layer_charts.layer_chart(layer_rows(ledger), measure) for measure, _ in layer_charts.MEASURES]
    return [spec for spec in made if spec is not None]


def test_strangers_strings_are_data_only() -> None:
    """Vega-Lite makes expressions of titles and texts; a name in one would be code in the page."""
    made = specs(ledgers.hostile())
    assert len(made) == 5 and ledgers.HOSTILE in json.dumps(made, ensure_ascii=False).replace('\\"', '"')
    for spec in made:
        assert not [text for text in strings(spec) if "onerror" in text or "script" in text]


@pytest.mark.parametrize("count", [1, 30, 31, 200])
def test_layers_are_named_rows_or_numbered_columns(count: int) -> None:
    for spec in specs(ledgers.many_layers(count))[1:]:
        channel = "y" if count <= layer_charts.NAMED_LAYERS else "x"
        assert spec["encoding"][channel]["field"] == ("label" if count <= layer_charts.NAMED_LAYERS else "position")
        assert len(spec["data"]["values"]) == count
        assert spec["height"] <= 24 * layer_charts.NAMED_LAYERS


def test_points_are_moved_aside_only_where_they_would_hide_each_other() -> None:
    rows = tried(gather(ledgers.sample()))
    assert charts.besides(rows) == 6
    assert charts.besides([row for row in rows if row.split == "certify"]) == 0


def test_labels_of_a_still_drawing_are_not_rounded() -> None:
    rows = tried(gather(ledgers.sample()))
    tiny = [dataclasses.replace(row, drop=0.004, lower=0.001, upper=0.009) for row in rows]
    still = drawing.frontier(tiny, POINTS, 0.01)
    assert still is not None
    assert {"0", "0.0025", "0.005", "0.0075", "0.01"} <= {mark.text for mark in still.marks}


def test_charts_are_told_to_those_who_do_not_see_them() -> None:
    ledger = gather(ledgers.sample())
    still, bits = drawing.frontier(tried(ledger), POINTS, 0.5), drawing.layer_chart(layer_rows(ledger), "zeros")
    assert still is not None and bits is not None
    text = still.text.replace(THIN, " ")
    assert text.startswith("Drop against file size of 8 measurements, 47.2 kB to 118 kB")
    assert text.endswith("; chosen: 54.1 kB at 0.18 points; allowed: 0.5 points")
    assert bits.text.replace(THIN, " ") == "Zeros of 4 layers, from 11.8 % (conv1) to 87.1 % (fc1)"


def test_a_hopeless_candidate_does_not_hide_the_others() -> None:
    rows = tried(gather(ledgers.not_certified()))
    spec = charts.frontier(rows, POINTS, 0.5, 1_724_984)
    assert spec is not None
    scale = spec["layer"][3]["encoding"]["y"]["scale"]
    assert scale["type"] == "symlog" and scale["constant"] == 0.5
    axis = drop_axis([row.drop for row in rows if row.drop is not None], 0.5)
    assert axis.place(0.5) - axis.place(0.0) > 0.1


def test_nothing_to_draw_gives_no_chart() -> None:
    assert charts.frontier([], POINTS, 0.5, None) is None and drawing.frontier([], POINTS, 0.5) is None
    rows = layer_rows(gather(ledgers.interrupted()))
    assert layer_charts.layer_chart(rows, "zeros") is None and drawing.layer_chart(rows, "zeros") is None
    assert drawing.interval(0.1, None, 0.2, 0.5) is None


def test_sensitivities_without_a_logarithm_are_left_out() -> None:
    rows = [dataclasses.replace(row, sensitivity=-1.0) for row in layer_rows(gather(ledgers.sample()))]
    assert layer_charts.layer_chart(rows, "sensitivity") is None and drawing.layer_chart(rows, "sensitivity") is None
    rows[2] = dataclasses.replace(rows[2], sensitivity=2.0)
    still = drawing.layer_chart(rows, "sensitivity")
    assert still is not None and still.text == "Sensitivity of one layer, from 2.00 (fc1) to 2.00 (fc1)"


@pytest.mark.parametrize(("upper", "limit"), [(0.4, 0.5), (13.2, 5.0), (40.0, 0.5), (0.75, 0.01)])
def test_labels_of_an_interval_stay_on_the_page(upper: float, limit: float) -> None:
    still = drawing.interval(upper / 2, -0.05, upper, limit, "0.5 points allowed")
    assert still is not None
    lines = {"": (0, 1), "end": (-1, 0), "middle": (-0.5, 0.5)}
    texts = [mark for mark in still.marks if mark.shape == "text"]
    assert len({mark.y for mark in texts}) == 2
    for mark in texts:
        # A label is at most 40 per cent of the width of a phone.
        left, right = (mark.x + 40 * side for side in lines[mark.css.partition(" ")[2]])
        assert left >= 0 and right <= 100


def test_drawings_stay_inside() -> None:
    for events in (ledgers.sample(), ledgers.not_certified(), ledgers.many_layers()):
        ledger = gather(events)
        rows, layers = tried(ledger), layer_rows(ledger)
        made = [drawing.frontier(rows, POINTS, 0.5), drawing.interval(0.2, -0.1, 41.0, 0.5)]
        made += [drawing.layer_chart(layers, measure) for measure, _ in layer_charts.MEASURES]
        for picture in made:
            assert picture is not None and picture.marks
            for mark in picture.marks:
                assert 0 <= mark.x <= 100 and 0 <= mark.y <= picture.height
                assert mark.shape != "rect" or (mark.x + mark.x2 <= 100 and mark.y + mark.y2 <= picture.height)
