"""What a candidate changed, beyond one number: classes that suffer, answers that turned into others, confidences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from attar.evaluate.base import Metric
from attar.evaluate.certificate import certify
from attar.evaluate.score import part_of
from attar.evaluate.targets import is_single, log_probabilities
from attar.types import Array, Json, Score

WORST = 20
"""Slices that are told of, those with the largest drop first."""
SHIFTS = 12
"""Pairs of answers that are told of, the most frequent first."""
LEAST = 2
"""Examples below which a slice has no interval worth the name."""
BINS = 15
NO_LIMIT = 1e300
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Slice:
    """Part of the examples: its metric before and after, the drop with bounds that hold for all slices at once."""

    name: str
    n: int
    before: float
    after: float
    drop: float
    lower: float
    upper: float


def told(
    before: Score, after: Score, labels: Array | None, metric: Metric, names: Sequence[str], confidence: float
) -> dict[str, Json]:
    """The ledger's `slices`, `shifts` and `reliability`; each is left out where the outputs do not have it."""
    found: dict[str, Json] = {}
    by, parts = grouped(before, labels, metric, names)
    if len(parts) > 1 and before.per_example is not None and after.per_example is not None:
        rows = worst(before, after, metric, parts, confidence)
        found["slices"] = {"by": by, "of": len(parts), "confidence": confidence, "rows": [asdict(row) for row in rows]}
    true = _classes(before, labels)
    if answers(before) is None or answers(after) is None:  # an output that overflowed is no answer
        return found
    if true is not None or metric.unit == "points":
        found["shifts"] = shifts(before, after, true, names)
    if true is not None:
        found["reliability"] = reliability(before, after, true)
    return found


def answers(score: Score) -> Rows | None:
    """The class [n] of the highest output; None where outputs are not one row of classes for each example."""
    outputs = score.outputs
    if outputs.ndim != 2 or outputs.shape[1] < 2 or not np.isfinite(outputs).all():
        return None
    return np.asarray(outputs.argmax(1), dtype=np.int64)


def _classes(score: Score, labels: Array | None) -> Rows | None:
    """The true class [n]; None where labels are not one class, or one one-hot row, for each example."""
    if labels is None or answers(score) is None or not np.issubdtype(labels.dtype, np.number):
        return None
    true = labels
    if labels.shape == score.outputs.shape and np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all():
        true = labels.argmax(1)
    if true.shape not in ((score.n,), (score.n, 1)) or not np.array_equal(true, np.rint(true)):
        return None
    true = true.reshape(score.n).astype(np.int64)
    return true if true.min() >= 0 and true.max() < score.outputs.shape[1] else None


def grouped(before: Score, labels: Array | None, metric: Metric, names: Sequence[str]) -> tuple[str, dict[str, Rows]]:
    """What slices are made by ("class", "answer", "quarter"), and the row numbers of each."""
    true = _classes(before, labels)
    if metric.unit == "points" and true is None and metric.relative_to_original:
        by, true = "answer", answers(before)
    else:
        by = "class"
    if true is not None:
        return by, {said(names, int(one)): np.flatnonzero(true == one) for one in np.unique(true)}
    if labels is None or not is_single(before.outputs) or len(labels) < 4 * LEAST:
        return "", {}
    values = np.asarray(labels, np.float64).reshape(len(labels), -1)
    if values.shape[1] != 1 or len(np.unique(values)) < 4 * LEAST:
        return "", {}
    quarters = np.array_split(np.argsort(values[:, 0], kind="stable"), 4)
    return "quarter", {f"{values[rows].min():.4g} to {values[rows].max():.4g}": np.sort(rows) for rows in quarters}


def said(names: Sequence[str], number: int) -> str:
    """A class in words, or its number."""
    return names[number] if 0 <= number < len(names) else str(number)


def worst(before: Score, after: Score, metric: Metric, parts: Mapping[str, Rows], confidence: float) -> list[Slice]:
    """The slices with the largest drops, first the largest.

    Each bound is at the level 1 - (1 - confidence) / slices (Bonferroni), so that all hold at once: the slice that
    looks worst was looked for.
    """
    level, sign = 1 - (1 - confidence) / len(parts), 1.0 if metric.higher_is_better else -1.0
    pairs = {name: (part_of(before, rows), part_of(after, rows)) for name, rows in parts.items() if len(rows) >= LEAST}
    order = sorted(pairs, key=lambda name: sign * (pairs[name][1].value - pairs[name][0].value))
    found = []
    for name in order[:WORST]:
        verdict = certify(*pairs[name], metric, NO_LIMIT, level)
        found.append(Slice(name, verdict.n, verdict.before, verdict.after, verdict.drop, verdict.lower, verdict.upper))
    return found


def shifts(before: Score, after: Score, true: Rows | None, names: Sequence[str]) -> dict[str, Json]:
    """Which answers turned into which: pairs with their counts, and how many of them were or became right."""
    first, second = answers(before), answers(after)
    assert first is not None and second is not None
    moved = np.flatnonzero(first != second)
    pairs, place, counts = np.unique(
        np.stack([first[moved], second[moved]], 1), axis=0, return_inverse=True, return_counts=True
    )
    place, rows = place.reshape(-1), []
    for at in np.argsort(-counts, kind="stable")[:SHIFTS]:
        here, (one, other) = moved[place == at], pairs[at]
        row: dict[str, Json] = {"before": said(names, int(one)), "after": said(names, int(other)), "n": len(here)}
        if true is not None:
            row |= {"lost": int((true[here] == one).sum()), "gained": int((true[here] == other).sum())}
        rows.append(row)
    return {"changed": len(moved), "of": before.n, "pairs": len(counts), "rows": rows}


def reliability(before: Score, after: Score, true: Rows) -> dict[str, Json]:
    """How far confidences are from the share of right answers: the expected calibration error, in points.

    Source: Guo, Pleiss, Sun, Weinberger 2017, section 2, with 15 bins of equal width.
    """
    found: dict[str, Json] = {"bins": BINS}
    for name, score in (("before", before), ("after", after)):
        chances = np.exp(log_probabilities(score.outputs, before.outputs))
        found[name] = {"error": calibration_error(chances, true), "confidence": float(100 * chances.max(1).mean())}
    return found


def calibration_error(chances: NDArray[np.float64], true: Rows) -> float:
    """Points between confidence and accuracy, of probabilities [n, classes] and classes [n].

    >>> calibration_error(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1])).__round__(6)
    40.0
    """
    sure, right = chances.max(1), chances.argmax(1) == true
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    gaps = np.abs(np.bincount(place, sure, BINS) - np.bincount(place, right, BINS))
    return float(100 * gaps.sum() / max(counts.sum(), 1))
