"""Another point of a finished run: the candidates that were certified, kept, and certified anew for another drop.

A drop that is chosen after the bounds were seen is covered too: each candidate is tested at a level that all of them
share (Bonferroni), so that all their bounds hold at once. The file that the run itself ended with keeps its own
certificate beside: it was for a drop that stood before anybody looked, and says as much of every larger one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from attar import outputs
from attar.archive import read_archive
from attar.errors import FormatError, UsageError
from attar.evaluate.base import Metric
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.opening import from_archive
from attar.run.kept import FOLDER, Kept
from attar.types import Array, Certificate, Json, Score

KEY = "candidates"
"""The unit that stays when a run has ended."""
NO_LIMIT = 1e300


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate of a run: its archive, and its certificate at a level that all of them share.

    own: of the file that the run ended with, if that held its budget, the run's own certificate.
    """

    data: bytes
    trained: bool
    certificate: Certificate
    own: Certificate | None = None

    def within(self, max_drop: float) -> bool:
        """Whether it may be handed back for a drop."""
        return self.certificate.upper <= max_drop or (self.own is not None and self.own.max_drop <= max_drop)


@dataclass(frozen=True, slots=True)
class Picked:
    """What `pick` found: all candidates by size, the chosen one, and the files written (none without a folder)."""

    choices: Sequence[Choice]
    chosen: Choice | None
    bytes_before: int
    within: bool
    files: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """A candidate that was tested on the certify split: its archive, and what it scored there."""

    data: bytes
    trained: bool
    after: Score


def keep_candidates(kept: Kept, before: Score, seen: Sequence[Seen], facts: Mapping[str, Json]) -> None:
    """Keep what `pick` needs of a run that has ended: its certified candidates and their scores.

    facts: confidence, bytes_before, the names of the archive (file) and of the plain model (native); of a run within
    its budget also its certificate (own) and the number of its candidate (chosen). tested: candidates that were begun.
    """
    told: Json = {**facts, "metric": before.metric, "before": _told(before), "candidates": []}
    arrays = _arrays("before", before)
    for number, one in enumerate(seen):
        told["candidates"].append({"trained": one.trained, **_told(one.after)})
        arrays |= {f"{number}/data": np.frombuffer(one.data, np.uint8), **_arrays(str(number), one.after)}
    kept.put(KEY, told, arrays)


def _told(score: Score) -> dict[str, Json]:
    """What of a score is no array."""
    return {"value": score.value, "n": score.n}


def _arrays(prefix: str, score: Score) -> dict[str, Array]:
    """What a certificate needs of a score: values by example, or outputs and labels where there are none."""
    if score.per_example is not None:
        return {f"{prefix}/each": score.per_example}
    labels = {} if score.labels is None else {f"{prefix}/labels": score.labels}
    return {f"{prefix}/outputs": score.outputs, **labels}


def choices_of(run: Path) -> tuple[list[Choice], Mapping[str, Json]]:
    """The candidates of a run's folder, smallest first, and what it told; raises UsageError, FormatError."""
    unit = Kept(run / FOLDER).get(KEY)
    if unit is None:
        raise UsageError(
            f"pick: it needs the folder of a finished run. Received {str(run)!r}, which holds no candidates "
            f"({FOLDER}). Run `attar compress ... -o {run}` first."
        )
    told, arrays = unit
    try:
        metric = resolve_metric(told["metric"])
        level = level_of_all(told["confidence"], told.get("tested", len(told["candidates"])))
        before = _score(told["before"], metric.name, arrays, "before")
        found = [
            Choice(
                arrays[f"{number}/data"].tobytes(), each["trained"],
                certify(before, _score(each, metric.name, arrays, str(number)), metric, NO_LIMIT, level),
                Certificate(**told["own"]) if told.get("own") and told.get("chosen") == number else None,
            ) for number, each in enumerate(told["candidates"])
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"pick: the candidates of {str(run)!r} must be whole. Received: {error}. Run again."
        ) from None
    return sorted(found, key=lambda one: len(one.data)), told


def level_of_all(confidence: float, count: int) -> float:
    """The level of each bound at which so many hold at once (Bonferroni)."""
    return 1 - (1 - confidence) / max(count, 1)


def offers(
    before: Score,
    seen: Sequence[tuple[int, Score]],
    metric: Metric,
    own: tuple[int, Certificate, bool],
    tested: int,
) -> list[dict[str, Json]]:
    """What `pick` will be able to choose from, for the ledger: bytes, drop, least limit of (bytes, score).

    own: bytes and certificate of the run's own file, and whether its budget is held. tested: candidates, those too
    that were given up: which they are depends on what was seen, so that all of them count for the level.
    """
    nbytes, certificate, within = own
    level = level_of_all(certificate.confidence, tested)
    found: list[dict[str, Json]] = []
    for size, after in seen:
        c = certify(before, after, metric, NO_LIMIT, level)
        upper = min(c.upper, certificate.max_drop) if within and size == nbytes else c.upper
        found.append({"bytes": size, "drop": c.drop, "upper": upper, "confidence": level})
    return found


def _score(told: Mapping[str, Json], metric: str, arrays: Mapping[str, Array], prefix: str) -> Score:
    """A score from a unit."""
    each = arrays.get(f"{prefix}/each")
    nothing = np.empty((told["n"], 0), np.float32)
    outputs_, labels = arrays.get(f"{prefix}/outputs", nothing), arrays.get(f"{prefix}/labels")
    return Score(metric, told["value"], told["n"], outputs_, each, labels)


def pick(
    run: str | os.PathLike[str], max_drop: float | None = None, out: str | os.PathLike[str] | None = None, *,
    force: bool = False,
) -> Picked:  # fmt: skip
    """The smallest candidate of a finished run whose bound is within another drop; nothing is computed anew.

    For the run's own drop, or a larger one, it is never larger than the file that the run ended with.
    With `out`, the folder gets its .attar file, the model in its own format, and certificate.json. Where none is within
    the drop, the one of the least bound is taken, and `within` says so. Without max_drop all are listed and none is
    chosen. Raises UsageError, FormatError, OutputError.
    """
    choices, told = choices_of(Path(run))
    if max_drop is None:
        return Picked(choices, None, told["bytes_before"], True)
    if not max_drop >= 0:
        raise UsageError(f"pick: the drop must be zero or more. Received {max_drop!r}.")
    inside = [one for one in choices if one.within(max_drop)]
    chosen = inside[0] if inside else min(choices, key=lambda one: one.certificate.upper)
    shared = chosen.own is None or not chosen.within(max_drop) or chosen.certificate.upper <= max_drop
    verdict = _against(chosen.certificate if shared else chosen.own, max_drop)
    chosen = Choice(chosen.data, chosen.trained, verdict, chosen.own)
    files = [] if out is None else _write(chosen, told, Path(out), force)
    return Picked(choices, chosen, told["bytes_before"], bool(inside), files)


def _against(certificate: Certificate, max_drop: float) -> Certificate:
    """The certificate beside a limit."""
    verdict = "certified" if certificate.upper <= max_drop else "not certified"
    fields = {**asdict(certificate), "max_drop": max_drop, "verdict": verdict}
    return Certificate(**fields)


def _write(chosen: Choice, told: Mapping[str, Json], folder: Path, force: bool) -> list[Path]:
    """Archive, plain model and certificate."""
    file, native = Path(told["file"]).name, Path(told["native"]).name + "/" * str(told["native"]).endswith("/")
    archive = read_archive(chosen.data)
    # A file of weights alone has no model of its own: `attar expand --factory` writes it.
    adapter = None if archive.skeleton() is None else from_archive(archive)
    names = [file, *([] if adapter is None else [native]), "certificate.json"]
    outputs.check_free(folder, names, force)
    with outputs.staged(folder) as stage:
        outputs.write(stage / file, chosen.data)
        if adapter is not None:
            outputs.guarded(lambda: adapter.save(stage / native), folder / native)
        outputs.write(stage / "certificate.json", (json.dumps(asdict(chosen.certificate), indent=1) + "\n").encode())
        outputs.publish(stage, folder, force)
    return [folder / name for name in names]
