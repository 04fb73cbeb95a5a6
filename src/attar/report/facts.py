"""A ledger as the rows and points that tables and charts show: plain numbers, None where one is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from attar.report.ledger import Ledger, mapping, mappings, number
from attar.types import Json

LABEL_LENGTH = 28


@dataclass(frozen=True, slots=True)
class Tried:
    """One measured candidate; `chosen` marks the one that became the file."""

    index: str
    split: str
    bytes: float | None
    ratio: float | None
    value: float | None
    drop: float | None
    lower: float | None
    upper: float | None
    lost: float | None
    gained: float | None
    kl: float | None
    n: float | None
    seconds: float | None
    predicted_bytes: float | None
    milliseconds: float | None = None
    chosen: bool = False
    choices: Mapping[str, Json] = field(default_factory=dict)
    """By layer: method and bytes."""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer, with its place in execution order and a short label that no other layer has.

    zeros and share are fractions; sensitivity and distortion are nats of output KL.
    """

    position: int
    name: str
    label: str
    kind: str
    shape: str
    method: str
    size: float | None
    bits_per_weight: float | None
    zeros: float | None
    bytes: float | None
    share: float | None
    distortion: float | None
    sensitivity: float | None


def tried(ledger: Ledger) -> list[Tried]:
    """Every candidate, in the order in which it was measured."""
    chosen = _chosen(ledger)
    return [_tried(event, event is chosen) for event in ledger.candidates]


def _tried(event: Mapping[str, Json], chosen: bool) -> Tried:
    """One candidate event as numbers."""
    keys = ("bytes", "ratio", "value", "drop", "lower", "upper", "lost", "gained", "kl", "n", "seconds", "milliseconds")
    numbers = {key: number(event.get(key)) for key in keys}
    if (numbers["bytes"] or 0) <= 0:
        numbers["bytes"] = None
    split = "certify" if event.get("split") == "certify" else "select"
    predicted = number(mapping(event.get("predicted")).get("bytes"))
    index = f"{event.get('index', '')}{', trained' if event.get('trained') is True else ''}"
    choices = mapping(event.get("choices"))
    return Tried(index, split, **numbers, predicted_bytes=predicted, chosen=chosen, choices=choices)


def _chosen(ledger: Ledger) -> Mapping[str, Json] | None:
    """The candidate event with the result's size: the certified one, else the last measured.

    A recovery after the search can change the size; then it is the one with the certificate's drop and bound.
    """
    size, certificate = number(ledger.result.get("bytes_after")), mapping(ledger.result.get("certificate"))
    verdict = number(certificate.get("drop")), number(certificate.get("upper"))
    same = [event for event in ledger.candidates if size is not None and number(event.get("bytes")) == size]
    same = same or [
        event
        for event in ledger.candidates
        if None not in verdict and (number(event.get("drop")), number(event.get("upper"))) == verdict
    ]
    certified = [event for event in same if event.get("split") == "certify"]
    best = certified or same
    return best[-1] if best else None


def along(rows: Sequence[Tried]) -> str:
    """What the chart's level axis shows: milliseconds where every candidate was timed, else bytes."""
    shown = [row for row in rows if row.bytes and row.drop is not None]
    return "milliseconds" if shown and all((row.milliseconds or 0) > 0 for row in shown) else "bytes"


def layer_rows(ledger: Ledger) -> list[LayerRow]:
    """The compressed layers, or before there is a result those that were found; in execution order."""
    found = {str(layer.get("name")): layer for layer in ledger.layers}
    compressed = {str(layer.get("name")): layer for layer in mappings(ledger.result.get("layers"))}
    order = [*found, *(name for name in compressed if name not in found)]
    names = [name for name in order if name in compressed] if compressed else order
    shown = labels(names)
    return [
        _layer_row(
            position, label, name, {**found.get(name, {}), **compressed.get(name, {})}, ledger.sensitivity.get(name)
        )
        for position, (label, name) in enumerate(zip(shown, names, strict=True), start=1)
    ]


def _layer_row(position: int, label: str, name: str, layer: Mapping[str, Json], sensitivity: Json) -> LayerRow:
    """One layer's fields from its two events."""
    measured = number(layer.get("sensitivity"))
    shape = layer.get("shape")
    return LayerRow(
        position=position,
        name=name,
        label=label,
        kind=str(layer.get("kind") or ""),
        shape=" \N{MULTIPLICATION SIGN} ".join(map(str, shape)) if isinstance(shape, list | tuple) else "",
        method=str(layer.get("method") or ""),
        size=number(layer.get("size")),
        bits_per_weight=number(layer.get("bits_per_weight")),
        zeros=number(layer.get("zeros")),
        bytes=number(layer.get("bytes")),
        share=number(layer.get("share")),
        distortion=number(layer.get("distortion")),
        sensitivity=measured if measured is not None else number(sensitivity),
    )


def labels(names: Sequence[str]) -> list[str]:
    """Names shortened in the middle, numbered where two would look the same."""
    short = [shortened(name) for name in names]
    return [
        f"{position}. {label}" if short.count(label) > 1 else label for position, label in enumerate(short, start=1)
    ]


def shortened(name: str, length: int = LABEL_LENGTH) -> str:
    """The beginning and the end of a name; the end is what tells layers apart.

    >>> shortened("encoder.block.11.attention.output.dense.weight")
    'encoder.b\N{HORIZONTAL ELLIPSIS}utput.dense.weight'
    """
    if len(name) <= length:
        return name
    head = (length - 1) // 3
    return name[:head] + "\N{HORIZONTAL ELLIPSIS}" + name[len(name) - (length - 1 - head) :]


def byte_parts(ledger: Ledger) -> list[tuple[str, float]]:
    """Where the file's bytes went, largest first: the layers together, then the other parts, without empty ones."""
    layers = [number(layer.get("bytes")) for layer in mappings(ledger.result.get("layers"))]
    parts = {"layers": sum(size for size in layers if size is not None)}
    for name, size in mapping(ledger.result.get("other_bytes")).items():
        parts[str(name)] = number(size) or 0.0
    return sorted(((name, size) for name, size in parts.items() if size > 0), key=lambda part: -part[1])


def prediction_error(rows: Sequence[Tried]) -> float | None:
    """Median relative error of the planner's predicted sizes, or None where there is no prediction."""
    errors = sorted(
        abs(row.predicted_bytes / row.bytes - 1) for row in rows if row.bytes and row.predicted_bytes is not None
    )
    return errors[len(errors) // 2] if errors else None
