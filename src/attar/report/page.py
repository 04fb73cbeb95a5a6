"""The page: everything gathered, worded and drawn, put into one file that asks the network for nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from attar.errors import FormatError, OutputError
from attar.report import charts, drawing, words
from attar.report.facts import LayerRow, Tried, byte_parts, layer_rows, prediction_error, tried
from attar.report.latency import latency
from attar.report.ledger import Ledger, gather, mapping, mappings, number, read_ledger
from attar.report.verdict import explained, verdict
from attar.types import Json

MOST_FLIPS = 60
"""Examples shown; what is beyond is counted."""

_SNIPPET = "window.vegaEmbed = vegaEmbed;"
"""All that page.js needs of the bundle."""

_TEMPLATES = Path(__file__).parent / "templates"
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
_MOVES = {"equalise": "so that channels are made as large as they are read", "smooth": "as SmoothQuant does"}
"""How scales were moved, in words."""
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


@dataclass(frozen=True, slots=True)
class Chart:
    """A Vega-Lite specification and the still drawing that stands in its place until, or unless, it is rendered."""

    name: str
    title: str
    spec: charts.Spec
    still: drawing.Drawing


def render(events: Sequence[Mapping[str, Json]]) -> str:
    """A run's ledger as one self-contained HTML page; events may be missing, as after an interruption.

    >>> "Unfinished" in render([{"event": "run", "model": "lenet5.onnx"}])
    True
    """
    ledger = gather(events)
    scripts = [*([bundle] if (bundle := vega_bundle()) else []), (_TEMPLATES / "page.js").read_text("utf-8")]
    style = (_TEMPLATES / "page.css").read_text("utf-8")
    page = (
        _environment()
        .get_template("page.html")
        .render(scripts=scripts, style=style, policy=_policy(scripts, style), **_content(ledger), live=bundle != "")
    )
    # JSON and the names of files can hold half a surrogate pair, which no encoding takes.
    return str(page).encode("utf-8", errors="replace").decode("utf-8")


def write_report(ledger_path: Path, out: Path, force: bool = False) -> None:
    """Render the ledger at `ledger_path` (JSON Lines) to the HTML file `out`, by a temporary file and a rename.

    Raises OutputError where `out` exists (unless `force`) or cannot be written; UsageError where the ledger cannot be
    read and FormatError where it is not JSON Lines.
    """
    ledger_path, out = Path(ledger_path), Path(out)
    if out.is_dir() or (out.exists() and not force):
        remedy = "Name a file." if out.is_dir() else "Use --force or another name."
        raise OutputError(f"report: the output must not exist. Received {str(out)!r}. {remedy}")
    events = read_ledger(ledger_path)
    if not any(event.get("event") == "run" for event in events):
        raise FormatError(
            f"report: a ledger must tell of a run. Received {str(ledger_path)!r} with {len(events)} other lines. "
            "Name the ledger.jsonl of a run."
        )
    page = render(events)
    try:
        _replace(out, page.encode("utf-8"))
    except OSError as error:
        raise OutputError(
            f"report: the output must be writable. Received {str(out)!r} ({error.strerror}). Choose another folder."
        ) from error


def _replace(out: Path, data: bytes) -> None:
    """Write beside `out`, then rename; nothing is left behind where that fails."""
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read; a report is to be shared.
        temporary.chmod(0o644)
        temporary.replace(out)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, or "" where vl-convert is not installed."""
    try:
        import vl_convert
    except ImportError:
        return ""
    # Inside an HTML script element only these two could end or nest it; in JavaScript the escapes mean the same.
    return str(vl_convert.javascript_bundle(_SNIPPET)).replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _policy(scripts: Sequence[str], style: str) -> str:
    """A Content-Security-Policy that allows these very scripts and this style, embedded pictures, and nothing else."""
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    """A source expression of CSP level 2."""
    return f"'sha256-{b64encode(sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def script_json(value: Json) -> str:
    """JSON that is safe inside an HTML script element, whatever the strings in it say."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _environment() -> jinja2.Environment:
    """Jinja with autoescape and the words as filters; what a ledger lacks is undefined, and shown as a dash."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for word in (words.size, words.ratio, words.percent, words.plain, words.whole, words.duration, words.moment):
        environment.filters[word.__name__] = word
    environment.filters["file_name"] = words.file_name
    environment.filters["quoted"] = lambda name: shlex.quote(str(name))
    environment.filters["python"] = lambda name: json.dumps(str(name), ensure_ascii=False)
    environment.filters["class_name"] = lambda name: f"class {name}" if str(name).isdecimal() else name
    environment.filters["script_json"] = lambda value: Markup(script_json(value))
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str)
    # Where a long name may be broken.
    environment.filters["pieces"] = lambda name: re.split(r"(?<=[/._:])", name)
    # Only for the page's own scripts and style, which are files of this package and the Vega bundle.
    environment.filters["own"] = Markup
    return environment


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
        "splits": {row.split for row in rows},
        "error": prediction_error(rows),
        "layers": layers,
        "named_layers": charts.NAMED_LAYERS,
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
        "sides": any(row.lost is not None for row in rows),
        "measured_by": _SENSITIVITIES.get(ledger.sensitivity_method, f"by {ledger.sensitivity_method}"),
        "scaled": _texts(ledger.scaling.get("layers")),
        "scaled_by": _MOVES.get(str(ledger.scaling.get("moves")), "by factors"),
        "calibration": {key: number(ledger.calibration.get(key)) for key in ("examples", "excess", "saved_by_twice")},
        "choice": {"of": number(ledger.choice.get("of")), "method": str(ledger.choice.get("method") or "")},
        "changed": _sum(certificate.get("lost"), certificate.get("gained")),
        "flips": sorted(flips, key=lambda flip: flip["direction"] != "lost")[:MOST_FLIPS],
        "command": str(reproduce.get("command") or ""),
        "recipe_file": str(reproduce.get("recipe") or ""),
        "conditions": _conditions(run, metric),
        "warnings": _texts(run.get("warnings")),
        "data_steps": [
            (
                row.get("part"),
                row.get("looked_for"),
                *(number(row.get(k)) for k in ("examples", "found", "left_out")),
                row.get("note"),
            )
            for row in ledger.data_steps
        ],
    }


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


def _texts(value: Json) -> list[str]:
    """The items of a list as text; empty for anything else."""
    return [str(item) for item in value if item] if isinstance(value, list | tuple) else []


def _frontier(rows: Sequence[Tried], metric: words.Metric, limit: float | None, before: float | None) -> Chart | None:
    """The chart of everything tried."""
    spec, still = charts.frontier(rows, metric, limit, before), drawing.frontier(rows, metric, limit)
    return None if spec is None or still is None else Chart("frontier", "Drop against file size", spec, still)


def _panels(layers: Sequence[LayerRow]) -> list[Chart]:
    """One chart for every measure that is known."""
    panels = []
    for measure, title in charts.MEASURES:
        spec, still = charts.layer_chart(layers, measure), drawing.layer_chart(layers, measure)
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
    return {**said, "direction": "gained" if flip.get("direction") == "gained" else "lost", "picture": shown}
