"""The page: everything gathered, worded and drawn, put into one file that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attar.errors import FormatError
from attar.report import charts, drawing, layer_charts, words
from attar.report.changes import changes
from attar.report.drawing import Chart
from attar.report.explore import stops
from attar.report.facts import LayerRow, Tried, along, byte_parts, layer_rows, prediction_error, tried
from attar.report.latency import latency
from attar.report.ledger import Ledger, gather, mapping, mappings, number, read_ledger, texts
from attar.report.shell import check_free, finished, vega_bundle, write
from attar.report.verdict import explained, verdict
from attar.types import Json

MOST_FLIPS = 60
"""Examples shown; what is beyond is counted."""

_PICTURE_PREFIX = "data:image/png;base64,"
_NOTES = {
    "bits_per_weight": "",
    "zeros": ", of all weights",
    "share": "",
    "sensitivity": ", nats per unit of squared error",
}
_SENSITIVITIES = {
    "output-kl": "by disturbing one output row of a layer at a time",
    "fisher": "from gradients (the Fisher information)",
}
"""How sensitivities were measured, in words."""
_MOVES = {
    "equalise": "so that channels are made as large as they are read",
    "smooth": "as SmoothQuant does",
    "fold": "so that norms have a gain of one",
}
"""How scales were moved, in words."""
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


def render(events: Sequence[Mapping[str, Json]]) -> str:
    """A run's ledger as one self-contained HTML page; events may be missing, as after an interruption.

    >>> "Unfinished" in render([{"event": "run", "model": "lenet5.onnx"}])
    True
    """
    return finished(
        "page.html", ("page.css", "explore.css"), ("page.js", "explore.js"), vega_bundle(), _content(gather(events))
    )


def write_report(ledger_path: Path, out: Path, force: bool = False) -> None:
    """Render the ledger at `ledger_path` (JSON Lines) to the HTML file `out`, by a temporary file and a rename.

    Raises OutputError where `out` exists (unless `force`) or cannot be written; UsageError where the ledger cannot be
    read and FormatError where it is not JSON Lines.
    """
    ledger_path, out = Path(ledger_path), Path(out)
    check_free(out, force)
    write(out, render(told_of_a_run(ledger_path)))


def told_of_a_run(path: Path) -> list[dict[str, Json]]:
    """The events of a run's ledger; `path` is the file, or the run's folder. Raises UsageError, FormatError."""
    path = path / "ledger.jsonl" if path.is_dir() else path
    events = read_ledger(path)
    if not any(event.get("event") == "run" for event in events):
        raise FormatError(
            f"report: a ledger must tell of a run. Received {str(path)!r} with {len(events)} other lines. "
            "Name the ledger.jsonl of a run."
        )
    return events


def _content(ledger: Ledger) -> dict[str, Any]:
    """What the template shows."""
    run, result = ledger.run, ledger.result
    certificate = mapping(result.get("certificate"))
    metric = words.Metric.of(run.get("metric"), certificate)
    rows, layers = tried(ledger), layer_rows(ledger)
    drop, lower, upper = (number(certificate.get(key)) for key in ("drop", "lower", "upper"))
    parts, reproduce = byte_parts(ledger), mapping(result.get("reproduce"))
    limit = _first(certificate.get("max_drop"), mapping(run.get("budget")).get("max_drop"))
    before = _first(result.get("bytes_before"), run.get("bytes_before"))
    flips = [_flip(flip) for flip in mappings(result.get("flips"))]
    return {
        "ledger": ledger,
        "run": run,
        "result": result,
        "metric": metric,
        "certificate": certificate,
        "verdict": verdict(result, metric, len(rows), mapping(run.get("budget")).get("guarantee")),
        "reached": _of_hundred(result.get("after"), metric),
        "origin": _of_hundred(result.get("before"), metric),
        "explained": explained(result, metric),
        "fast": latency(result, metric),
        "limit": limit,
        "bytes_before": before,
        "bytes_after": number(result.get("bytes_after")),
        "counted": all(number(certificate.get(key)) is not None for key in ("n", "lost", "gained")),
        "rows": rows,
        "layers": layers,
        "named_layers": layer_charts.NAMED_LAYERS,
        "notes": _NOTES,
        "methods": sorted({row.method for row in layers if row.method}),
        "earned": [
            (name, number(row.get("layers")), number(row.get("saved_bytes")))
            for name, row in ((name, mapping(row)) for name, row in mapping(result.get("methods")).items())
        ],
        "parts": parts,
        "total": sum(size for _, size in parts),
        "frontier": _frontier(rows, metric, limit, before),
        "panels": _panels(layers),
        "interval": drawing.interval(drop, lower, upper, limit, f"{metric.limit(limit)} allowed"),
        "confidence": words.percent(
            _first(certificate.get("confidence"), mapping(run.get("budget")).get("confidence")), 0
        ),
        "relative": number(mapping(run.get("budget")).get("max_relative_drop")),
        "measured_by": _SENSITIVITIES.get(ledger.sensitivity_method, f"by {ledger.sensitivity_method}"),
        "scaled": texts(ledger.scaling.get("layers")),
        "scaled_by": _MOVES.get(str(ledger.scaling.get("moves")), "by factors"),
        "calibration": {key: number(ledger.calibration.get(key)) for key in ("examples", "excess", "saved_by_twice")},
        "choice": {"of": number(ledger.choice.get("of")), "method": str(ledger.choice.get("method") or "")},
        "tuned": _tuned(ledger.tuned),
        "changed": changes(result, metric),
        "flipped": _sum(certificate.get("lost"), certificate.get("gained")),
        "flips": sorted(flips, key=lambda flip: flip["direction"] != "lost")[:MOST_FLIPS],
        "command": str(reproduce.get("command") or ""),
        "recipe_file": str(reproduce.get("recipe") or ""),
        "conditions": _conditions(run, metric),
        "warnings": ledger.warnings,
        "data_steps": [_step(row) for row in ledger.data_steps],
        **_candidates(rows, stops(ledger, rows, layers, metric)),
    }


def _candidates(rows: Sequence[Tried], ways: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the template shows of everything tried; the slider begins at the file that was written."""
    at = next((place for place, stop in enumerate(ways) if stop["chosen"]), len(ways) - 1)
    return {
        "stops": ways,
        "at": at,
        "stop": ways[at] if ways else None,
        "mixed": any("," in stop["methods"] for stop in ways),
        "timed": along(rows) == "milliseconds",
        "times": any(row.milliseconds for row in rows),
        "splits": {row.split for row in rows},
        "error": prediction_error(rows),
        "sides": any(row.lost is not None for row in rows),
    }


def _tuned(told: Mapping[str, Json]) -> dict[str, Json]:
    """What trials of parameters have earned: how many, on how many examples, saved on others, and what was taken."""
    before, after = number(told.get("before")), number(told.get("after"))
    known = before is not None and after is not None and before > 0
    return {
        "trials": number(told.get("trials")),
        "examples": number(told.get("examples")),
        "saved": 1 - after / before if known else None,  # type: ignore[operator]
        "values": [(name.removeprefix("settings."), str(value)) for name, value in mapping(told.get("values")).items()],
    }


def _step(row: Mapping[str, Json]) -> tuple[Json, ...]:
    """What was looked for in one split, and found."""
    counts = (number(row.get(key)) for key in ("examples", "found", "left_out"))
    return (row.get("part"), row.get("looked_for"), *counts, row.get("note"))


def _first(*values: Json) -> float | None:
    """The first that is a number."""
    return next((known for value in values if (known := number(value)) is not None), None)


def _sum(*values: Json) -> float | None:
    """The sum of what are all numbers."""
    known = [number(value) for value in values]
    return None if None in known else sum(value for value in known if value is not None)


def _of_hundred(value: Json, metric: words.Metric) -> float | None:
    """A metric in per cent as the length of a bar; None for other metrics."""
    known = number(value)
    return known if metric.unit == "points" and known is not None and 0 <= known <= 100 else None


def _conditions(run: Mapping[str, Json], metric: words.Metric) -> list[tuple[str, str]]:
    """What a second run needs to give the same file: seed, splits, budget, machine."""
    splits, budget, machine = (mapping(run.get(key)) for key in ("splits", "budget", "machine"))
    said: dict[str, Callable[[Json], str]] = {
        "max_drop": metric.limit,
        "max_relative_drop": words.percent,
        "confidence": lambda value: words.percent(value, 0),
    }
    names = {"max_drop": f"allowed {metric.change}", "max_relative_drop": f"allowed relative {metric.change}"}
    conditions = [("seed", str(run["seed"]))] if "seed" in run else []
    conditions += [(f"{name} split", f"{words.whole(count)} examples") for name, count in splits.items()]
    for name, value in budget.items():
        if value is not None:
            conditions.append((names.get(name, name.replace("_", " ")), said.get(name, str)(value)))
    return conditions + [(name.replace("_", " "), str(value)) for name, value in machine.items() if value is not None]


def _frontier(rows: Sequence[Tried], metric: words.Metric, limit: float | None, before: float | None) -> Chart | None:
    """The chart of everything tried."""
    spec, still = charts.frontier(rows, metric, limit, before), drawing.frontier(rows, metric, limit)
    return None if spec is None or still is None else Chart("frontier", "Drop against file size", spec, still)


def _panels(layers: Sequence[LayerRow]) -> list[Chart]:
    """One chart for every measure that is known."""
    panels = []
    for measure, title in layer_charts.MEASURES:
        spec, still = layer_charts.layer_chart(layers, measure), drawing.layer_chart(layers, measure)
        if spec is not None and still is not None:
            panels.append(Chart(measure, title, spec, still))
    return panels


def _flip(flip: Mapping[str, Json]) -> dict[str, Json]:
    """One flipped example; a picture that is not an embedded PNG is left out, since it might be an address."""
    shown = flip.get("picture")
    embedded = isinstance(shown, str) and shown.startswith(_PICTURE_PREFIX)
    if not embedded or not _BASE64.issuperset(str(shown)[len(_PICTURE_PREFIX) :]):
        shown = None
    said = {key: str(flip.get(key, words.NONE)) for key in ("index", "label", "before", "after")}
    text = flip.get("text")
    said["text"] = text if isinstance(text, str) else ""
    return {**said, "direction": "gained" if flip.get("direction") == "gained" else "lost", "picture": shown}
