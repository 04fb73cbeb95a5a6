"""The stops of the slider: every candidate of a run with its layers' choices, and the command that produces it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from attar.report.facts import LayerRow, Tried, along
from attar.report.latency import milliseconds
from attar.report.ledger import Ledger, mapping, mappings, number
from attar.report.words import NONE, Metric, percent, plain, ratio, size, whole
from attar.types import Json

CERTIFIED = "Tested on examples that the search never saw, and kept with the run: this writes it in seconds."
BEATEN = "Tested on examples that the search never saw. No budget picks it: a smaller file has a lower bound."
GLANCED = "Not tested to an end, so it has no certificate and was not kept. A new search with this budget:"
TIMED = "A new search with this time as its budget:"
LOST = "Measured only: the ledger names no command that a further search could begin with."


def stops(ledger: Ledger, rows: Sequence[Tried], layers: Sequence[LayerRow], metric: Metric) -> list[dict[str, Any]]:
    """One mapping for each candidate, in the order of the chart from left to right; all but x and y is for people."""
    judged: dict[str, Tried] = {}
    for row in rows:
        if row.bytes and row.drop is not None and (row.split == "certify" or row.index not in judged):
            judged[row.index] = row
    field = along(rows)
    order = sorted(judged.values(), key=lambda row: getattr(row, field))
    budgets = budgets_of(mappings(ledger.result.get("picks")))
    return [_stop(row, ledger, layers, metric, budgets, getattr(row, field)) for row in order]


def _stop(
    row: Tried, ledger: Ledger, layers: Sequence[LayerRow], metric: Metric, budgets: Mapping[float, str | None],
    x: float,
) -> dict[str, Any]:  # fmt: skip
    """One candidate in words."""
    said, command = _produced(row, ledger, budgets)
    time, bound = milliseconds(row.milliseconds) if row.milliseconds else "", metric.drop(row.upper)
    smaller = f"{ratio(row.ratio)} smaller" if (row.ratio or 0) >= 1.005 else "not smaller"
    return {
        "name": row.index, "x": x, "y": row.drop, "chosen": row.chosen, "size": size(row.bytes),
        "ratio": smaller, "time": time, "value": metric.value(row.value), "bound": bound,
        "measured": f"measured {metric.bare(row.drop)}", "judged": f"{whole(row.n)} examples, {row.split} split",
        "said": said, "command": command,
        "spoken": ", ".join(filter(None, [size(row.bytes), time, f"{metric.change} {metric.drop(row.drop)}",
                                          f"at most {bound}", "the file that was written" if row.chosen else ""])),
        "layers": _choices(row, layers), "methods": _methods(row, layers),
    }  # fmt: skip


def _choices(row: Tried, layers: Sequence[LayerRow]) -> list[list[Json]]:
    """By layer: method, bits per weight, share of the file, and the two as lengths of bars in per cent."""
    known = [(layer, *_choice(row, layer)) for layer in layers]
    if not any(method for _, method, _ in known):
        return []
    bits = [8 * stored / layer.size if stored is not None and layer.size else None for layer, _, stored in known]
    shares = [stored / row.bytes if stored is not None and row.bytes else None for _, _, stored in known]
    most = max([*(share for share in shares if share is not None), 1e-9])
    scale = next((least for least in (8, 16) if all((bit or 0) <= least for bit in bits)), 32)
    return [
        [method or NONE, plain(bit), percent(share), _length((bit or 0) / scale), _length((share or 0) / most)]
        for (_, method, _), bit, share in zip(known, bits, shares, strict=True)
    ]


def _choice(row: Tried, layer: LayerRow) -> tuple[str, float | None]:
    """Method and bytes of a layer in a candidate; of the file that was written they are known without the event's."""
    found = row.choices.get(layer.name)
    if isinstance(found, list | tuple) and len(found) == 2:
        return str(found[0]), number(found[1])
    return (layer.method, layer.bytes) if row.chosen else ("", None)


def _methods(row: Tried, layers: Sequence[LayerRow]) -> str:
    """How many layers each method has, the most frequent first."""
    names = [name for name, _ in (_choice(row, layer) for layer in layers) if name]
    counts = sorted({name: names.count(name) for name in names}.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{count} {name}" for name, count in counts)


def _length(share: float) -> float:
    """A bar's length in per cent."""
    return round(min(max(100 * share, 0.0), 100.0), 1)


def budgets_of(picks: Sequence[Mapping[str, Json]]) -> dict[float, str | None]:
    """By a candidate's bytes: a drop for which `attar pick` takes it, with few digits; None where none does.

    `pick` takes the smallest whose bound is within the drop: so the drop is at least the candidate's bound, and below
    that of every smaller one.
    """
    found: dict[float, str | None] = {}
    floor = math.inf
    known = [(number(one.get("bytes")), number(one.get("upper"))) for one in picks]
    for nbytes, upper in sorted((n, u) for n, u in known if n is not None and u is not None):
        found[nbytes] = short_between(max(upper, 0.0), floor)
        floor = min(floor, upper)
    return found


def short_between(low: float, high: float) -> str | None:
    """The number of fewest digits that is at least `low` and below `high`; None where there is none.

    >>> short_between(0.3366, 0.3511), short_between(0.588, float("inf")), short_between(0.4, 0.3)
    ('0.34', '0.6', None)
    """
    if low >= high:
        return None
    texts = (f"{math.ceil(low * 10**digits) / 10**digits:.{digits}f}" for digits in range(1, 12))
    return next((text for text in texts if low <= float(text) < high), repr(low))


def _produced(row: Tried, ledger: Ledger, budgets: Mapping[float, str | None]) -> tuple[str, str]:
    """How this candidate is had, and the command."""
    folder, again = ledger.result.get("folder"), str(mapping(ledger.result.get("reproduce")).get("command") or "")
    if row.bytes is not None and row.bytes in budgets and isinstance(folder, str) and folder:
        budget = budgets[row.bytes]
        if budget is None:
            return BEATEN, ""
        place = f"{folder.rstrip('/')}-{budget}"
        return CERTIFIED, shlex.join(["attar", "pick", folder, "--max-drop", budget, "-o", place])
    try:
        words = shlex.split(again)
    except ValueError:
        words = []
    if not words:
        return LOST, ""
    if row.milliseconds and mapping(ledger.result.get("fast")):
        text = short_between(row.milliseconds, 1.02 * row.milliseconds)
        return TIMED, shlex.join(with_option(words, "--latency-budget", f"{text}ms"))
    bound = short_between(max(row.upper or 0.0, 0.0), math.inf if not row.upper else max(1.1 * row.upper, 0.01))
    return GLANCED, shlex.join(with_option(words, "--max-drop", str(bound), instead=("--max-relative-drop",)))


def with_option(words: Sequence[str], flag: str, value: str, instead: Sequence[str] = ()) -> list[str]:
    """A command's words with an option set, in its place or at the end.

    >>> with_option(["attar", "compress", "--max-drop", "1", "--seed", "0"], "--max-drop", "0.3")
    ['attar', 'compress', '--seed', '0', '--max-drop', '0.3']
    """
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word not in (flag, *instead):
            kept.append(word)
        skip = not skip and word in (flag, *instead)
    return [*kept, flag, value]
