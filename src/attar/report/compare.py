"""Two runs side by side, as one page of the same kind: frontiers together, what differs in the recipes, layers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.report import compare_charts, words
from attar.report.facts import LayerRow, Tried, layer_rows, tried
from attar.report.latency import milliseconds
from attar.report.ledger import Ledger, gather, mapping, number
from attar.report.page import told_of_a_run
from attar.report.shell import check_free, finished, vega_bundle, write
from attar.report.verdict import verdict
from attar.report.words import NONE
from attar.types import Json

ENVIRONMENT = ("attar", "framework", "splits", "machine", "bytes_before")
"""Fields of the run event that are no settings."""


@dataclass(frozen=True, slots=True)
class Run:
    """One of the two: its name on the page, and what its ledger tells."""

    name: str
    ledger: Ledger
    metric: words.Metric
    rows: Sequence[Tried]
    layers: Sequence[LayerRow]

    @classmethod
    def of(cls, name: str, events: Sequence[Mapping[str, Json]]) -> Run:
        """From a ledger's events."""
        ledger = gather(events)
        metric = words.Metric.of(ledger.run.get("metric"), ledger.result.get("certificate"))
        return cls(name, ledger, metric, tried(ledger), layer_rows(ledger))

    @property
    def certificate(self) -> Mapping[str, Json]:
        """The verdict on the file, empty where the run has not ended."""
        return mapping(self.ledger.result.get("certificate"))

    @property
    def limit(self) -> float | None:
        """The drop allowed."""
        known = number(self.certificate.get("max_drop"))
        return known if known is not None else number(mapping(self.ledger.run.get("budget")).get("max_drop"))


def write_comparison(first: Path, second: Path, out: Path, force: bool = False) -> None:
    """Write the page of two runs, given as folders or ledgers; raises OutputError, UsageError, FormatError."""
    first, second, out = Path(first), Path(second), Path(out)
    check_free(out, force)
    names = [_name(path) for path in (first, second)]
    if names[0] == names[1]:
        names = [f"{letter}: {name}" for letter, name in zip("AB", names, strict=True)]
    write(out, render_comparison(*zip(names, map(told_of_a_run, (first, second)), strict=True)))


def _name(path: Path) -> str:
    """The folder of a run, or the name of a ledger that is called otherwise."""
    path = path.resolve()
    return path.name if path.is_dir() else path.parent.name if path.name == "ledger.jsonl" else path.stem


def render_comparison(
    first: tuple[str, Sequence[Mapping[str, Json]]], second: tuple[str, Sequence[Mapping[str, Json]]]
) -> str:
    """The page of two runs, each a name and its ledger's events.

    >>> "What differs" in render_comparison(("a", [{"event": "run", "seed": 0}]), ("b", [{"event": "run", "seed": 1}]))
    True
    """
    one, other = Run.of(*first), Run.of(*second)
    comparable = (one.metric, one.ledger.run.get("metric")) == (other.metric, other.ledger.run.get("metric"))
    content = {
        "runs": (one, other), "metric": one.metric, "comparable": comparable,
        "sentence": _sentence(one, other, comparable), "figures": _figures(one, other),
        "chart": compare_charts.together((one, other)) if comparable else None,
        "candidates": [(run.name, row) for run in (one, other) for row in run.rows],
        "settings": differences(one.ledger.run.get("recipe"), other.ledger.run.get("recipe")),
        "environment": differences(*({k: run.ledger.run.get(k) for k in ENVIRONMENT} for run in (one, other))),
        "layers": _layers(one, other), "named_layers": 30,
    }  # fmt: skip
    return finished("compare.html", ("page.css", "explore.css"), ("page.js",), vega_bundle(), content)


def _sentence(one: Run, other: Run, comparable: bool) -> str:
    """The headline: which file is smaller, and by how much."""
    known = [(number(run.ledger.result.get("bytes_after")) or 0.0, run) for run in (one, other)]
    if not all(size for size, _ in known):
        return f"{one.name} and {other.name}"
    (least, small), (most, large) = sorted(known, key=lambda pair: pair[0])
    text = f"{small.name} is {words.ratio(most / least)} smaller than {large.name}"
    if round(most / least, 2) == 1:
        text = f"{one.name} and {other.name} are equally small"
    bounds = [run.certificate.get("upper") for run in (small, large)]
    if not comparable or any(number(bound) is None for bound in bounds):
        return f"{text}."
    said = [small.metric.drop(bound) for bound in bounds]
    return f"{text}; its {small.metric.loss} is at most {said[0]}, against {said[1]}."


def _figures(one: Run, other: Run) -> list[tuple[str, str, str]]:
    """The key figures of both, those that neither has left out."""
    made = zip(_facts(one).items(), _facts(other).values(), strict=True)
    return [(name, first, second) for (name, first), second in made if {first, second} != {NONE}]


def _facts(run: Run) -> dict[str, str]:
    """The key figures of a run."""
    result, certificate, metric = run.ledger.result, run.certificate, run.metric
    fast = mapping(result.get("fast"))
    guarantee = mapping(run.ledger.run.get("budget")).get("guarantee")
    return {
        "Verdict": verdict(result, metric, len(run.rows), guarantee).badge,
        "Model": words.file_name(run.ledger.run.get("model")) or NONE,
        "Size on disk": words.size(result.get("bytes_after")),
        "Smaller": words.ratio(result.get("ratio")),
        "Time of a call": milliseconds(fast.get("milliseconds")) if fast else NONE,
        "Metric": metric.title,
        "Before": metric.value(result.get("before")),
        "After": metric.value(result.get("after")),
        "Drop, measured": metric.drop(certificate.get("drop")),
        "Drop, at most": metric.drop(certificate.get("upper")),
        "Drop, allowed": metric.limit(run.limit),
        "Examples that decided": words.whole(certificate.get("n")),
        "Evaluations": words.whole(result.get("evaluations")),
        "Search took": words.duration(result.get("seconds")),
    }


def differences(first: Json, second: Json) -> list[tuple[str, str, str]]:
    """What two nested mappings say differently: dotted name, and both values; a dash where there is none.

    >>> differences({"seed": 0, "settings": {"recovery": {"epochs": 3}}}, {"seed": 0})
    [('settings.recovery.epochs', '3', '\N{EN DASH}')]
    """
    one, other = dict(_flat(first)), dict(_flat(second))
    names = [*one, *(name for name in other if name not in one)]
    return [
        (name, _said(one.get(name)), _said(other.get(name)))
        for name in names
        if name not in one or name not in other or not _alike(one[name], other[name])
    ]


def _alike(left: Json, right: Json) -> bool:
    """Equality in which a value that is not a number is like itself."""
    return bool(left == right or (left != left and right != right))


def _flat(value: Json, name: str = "") -> list[tuple[str, Json]]:
    """Leaves with their dotted names."""
    if isinstance(value, Mapping):
        return [leaf for key, one in value.items() for leaf in _flat(one, f"{name}.{key}" if name else str(key))]
    return [(name, value)] if name else []


def _said(value: Json) -> str:
    """A setting's value."""
    if value is None:
        return NONE
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _layers(one: Run, other: Run) -> list[dict[str, Any]]:
    """Rows of both, in the order of the first; bars share one scale."""
    rows = [{row.name: row for row in run.layers} for run in (one, other)]
    names = [*rows[0], *(name for name in rows[1] if name not in rows[0])]
    pairs = [(name, rows[0].get(name), rows[1].get(name)) for name in names]
    bits = [row.bits_per_weight or 0.0 for _, *pair in pairs for row in pair if row is not None]
    most = max([*bits, 1e-9])
    return [
        {
            "name": name, "one": first, "other": second,
            "lengths": [round(100 * ((row and row.bits_per_weight) or 0) / most, 1) for row in (first, second)],
            "more": _more(first, second),
        }
        for name, first, second in pairs
    ]  # fmt: skip


def _more(first: LayerRow | None, second: LayerRow | None) -> float | None:
    """Bytes that the second stores more of a layer."""
    if first is None or second is None or first.bytes is None or second.bytes is None:
        return None
    return second.bytes - first.bytes
