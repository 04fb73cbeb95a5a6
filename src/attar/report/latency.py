"""What the page says of a latency goal: the artefact's time, what each measure earned, the frontier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attar.report.ledger import mapping, mappings, number
from attar.report.words import Metric
from attar.types import Json


def latency(result: Mapping[str, Json], metric: Metric) -> dict[str, Any] | None:
    """The section's values; None where the goal was another."""
    fast = mapping(result.get("fast"))
    own, certificate = number(fast.get("milliseconds")), mapping(fast.get("certificate"))
    if own is None:
        return None
    times = mapping(fast.get("latency"))
    return {
        "file": str(fast.get("file") or ""),
        "milliseconds": milliseconds(own),
        "predicted": milliseconds(fast.get("predicted_milliseconds")),
        "ratio": share(times.get("ratio")),
        "spread": f"{share(times.get('low'))} to {share(times.get('high'))}",
        "runtime": str(fast.get("runtime") or "its runtime"),
        "threads": number(fast.get("threads")),
        "batch": number(fast.get("batch")),
        "how": str(fast.get("how") or ""),
        "verdict": str(certificate.get("verdict") or "not measured"),
        "drop": metric.drop(certificate.get("drop")),
        "upper": metric.drop(certificate.get("upper")),
        "missed": str(fast.get("latency_budget") or "") if fast.get("in_time") is False else "",
        "earned": [
            (str(row.get("what") or ""), share(row.get("ratio")), number(row.get("ratio")),
             f"{share(row.get('low'))} to {share(row.get('high'))}")
            for row in mappings(fast.get("earned"))
        ],
        "channels": [
            (name, number(counts[0]), number(counts[1]))
            for name, counts in mapping(fast.get("channels")).items()
            if isinstance(counts, list | tuple) and len(counts) == 2 and counts[0] != counts[1]
        ],
        "frontier": [_row(row, metric) for row in mappings(result.get("frontier"))],
    }  # fmt: skip


def _row(row: Mapping[str, Json], metric: Metric) -> dict[str, Any]:
    """A candidate as the table shows it."""
    return {
        "name": f"{row.get('candidate', '')}{', trained' if row.get('trained') is True else ''}",
        "bytes": number(row.get("bytes")),
        "time": milliseconds(row.get("milliseconds")),
        "value": number(row.get("milliseconds")),
        "predicted": milliseconds(row.get("predicted_milliseconds")),
        "drop": metric.bare(row.get("drop")),
        "lost": number(row.get("drop")),
        "upper": metric.bare(row.get("upper")),
        "removed": number(row.get("removed")),
        "best": row.get("best") is True,
    }


def milliseconds(value: Json) -> str:
    """Three digits and the unit.

    >>> milliseconds(0.13768)
    '0.138 ms'
    """
    known = number(value)
    return "–" if known is None else f"{known:#.3g} ms".replace(". ms", " ms")


def share(value: Json) -> str:
    """Of the float model's time.

    >>> share(0.4537)
    '0.45'
    """
    known = number(value)
    return "–" if known is None else f"{known:.2f}"
