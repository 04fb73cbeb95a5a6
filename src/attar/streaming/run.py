"""A streamed run from its checked job to the files: the original, sensitivities, a few passes, the certificate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import attar
from attar import outputs, pipeline, registry, summary
from attar import recipe as recipes
from attar.adapters.base import Adapter
from attar.archive import read_archive
from attar.errors import OutputError, UsageError
from attar.forewarning import forewarned, hopeless
from attar.job import Job
from attar.report import render
from attar.run.clock import Clock
from attar.run.kept import FOLDER, Kept, key_of
from attar.run.ledger import Ledger, Watcher
from attar.run.progress import Progress
from attar.run.states import States
from attar.search import remember
from attar.search.bracket import Target, land, shown
from attar.search.course import FIRST_KL
from attar.search.in_order import Outcome, certify_in_order
from attar.search.params import STREAM, check_rules, checked
from attar.streaming import original
from attar.streaming.base import Stream
from attar.streaming.candidates import Candidate, Candidates
from attar.streaming.rate import slope_for
from attar.streaming.result import Streamed
from attar.streaming.settings import StreamSettings

SAFE = 1.0
"""Standard deviations of bad luck at which what the search lands on is still to be within the drop."""
SHARE = 0.5
"""Part of the allowed divergence that the first pass aims at; the bound takes the rest."""
STATES = ".attar-states"
SPLITS = ("calibrate", "select", "certify")


def begin(job: Job, ledger: Ledger, progress: Progress) -> StreamSettings:
    """Check the layers' rules, and write down what is known before any work; raises UsageError."""
    settings = checked(StreamSettings, STREAM, job.recipe.settings)
    model: Any = job.adapter
    layers = model.layers()
    check_rules(job.recipe, [layer.name for layer in layers if layer.tied_to is None])
    warnings = [*job.splits.warnings, *forewarned(job)]
    for text in warnings:
        progress.note(text)
    metric = {k: getattr(job.metric, k) for k in ("name", "unit", "higher_is_better")}
    splits = {name: len(getattr(job.splits, name)) for name in SPLITS}
    ledger.add(
        "run", attar=attar.__version__, model=job.model_name, framework=model.framework,
        bytes_before=job.bytes_before, metric=metric, budget=asdict(job.budget), seed=job.recipe.seed, splits=splits,
        warnings=warnings, recipe=job.recipe.model_dump(exclude_none=True),
        machine=pipeline.machine(), streamed=True,
    )  # fmt: skip
    ledger.add("data", steps=[step.row() for step in job.data_steps])
    rows = [
        {"name": x.name, "kind": x.kind, "rows": x.rows, "cols": x.cols, "groups": x.groups, "shape": list(x.shape),
         "size": x.size, "tied_to": x.tied_to} for x in layers
    ]  # fmt: skip
    ledger.add("layers", layers=rows, skipped=dict(model.skipped()))
    return settings


def compress(
    job: Job,
    out: str | Path | None,
    progress: Progress,
    *,
    force: bool = False,
    interrupted: Callable[[], bool] = lambda: False,
    work: str | Path | None = None,
    watchers: Sequence[Watcher] = (),
) -> Streamed:
    """Compress part by part into the folder `out`: NAME.attar, report.html, recipe.toml and ledger.jsonl.

    What is done is kept in `work` or in a hidden folder beside the outputs: a run that was killed goes on there. Raises
    UsageError, DataError, ModelError, FormatError, OutputError.
    """
    if out is None:
        raise UsageError("--stream: a folder for the outputs is needed. Received none. Pass out=.")
    folder, clock = Path(out), Clock(job.recipe.time_budget)
    name = f"{Path(job.model_name).resolve().name}.attar"
    outputs.check_free(folder, [name, "report.html", "recipe.toml", "ledger.jsonl"], force)
    if (folder / name).resolve() == Path(job.model_name).resolve():
        raise OutputError(f"output {str(folder)!r}: it must not be the model. Received it. Choose another with -o.")
    with outputs.staged(folder) as stage:
        ledger = Ledger(stage / "ledger.jsonl", watchers)
        settings = begin(job, ledger, progress)
        stream = _stream(job, settings, Path(work) if work else folder, work is not None, progress, interrupted)
        result = _run(stream, stage, stage / name, ledger, lambda: interrupted() or clock.over(), clock)
        outputs.write(stage / "recipe.toml", recipes.to_toml(job.recipe).encode())
        outputs.write(stage / "report.html", render(ledger.events).encode())
        for left in stage.glob(".candidate-*"):
            left.unlink()
        outputs.publish(stage, folder, force)
    progress.note(f"file: {result.bits:.2f} bits for each weight; `attar expand` writes the plain folder")
    stream.states.close()
    with suppress(OSError):
        ((Path(work) if work else folder) / STATES).rmdir()
    if work is None:
        stream.kept.clear()
    return replace(result, path=folder / name)


def _stream(
    job: Job, settings: StreamSettings, place: Path, given: bool, progress: Progress, stop: Callable[[], bool]
) -> Stream:
    """The run with its mark, and where it keeps things."""
    model: Any = job.adapter
    recipe = job.recipe
    tables = {name: table for name, table in recipe.settings.items() if name != STREAM}
    mark = key_of(
        "stream", _files_mark(model), model.skeleton(),
        {name: remember.data_mark(getattr(job.splits, name)) for name in SPLITS},
        recipe.seed, recipe.coder, list(recipe.methods), list(recipe.exclude), settings.windows,
        json.dumps([tables, {k: v.model_dump() for k, v in recipe.layers.items()}], sort_keys=True),
    )  # fmt: skip
    kept = Kept(place if given else place / FOLDER)
    tokens = sum(getattr(job.splits, name).inputs["input_ids"].size for name in SPLITS)
    few = settings.windows * job.splits.calibrate.inputs["input_ids"].shape[1] * model.parts
    taught = 2 * job.splits.calibrate.inputs["input_ids"].size if settings.recovery else 0
    size = 4 * model.width * (2 * tokens + few + taught)
    spilled = size > settings.hold << 20
    if spilled:
        progress.note(f"activations: {size / 2**20:,.0f} MiB at most, on disk")
    states = States(place / STATES / mark[-32:] if spilled else None)
    return Stream(model, job, settings, kept, states, mark, progress, stop)


def _files_mark(model: Any) -> list[list[Any]]:
    """What tells a folder's files from others without reading all of them: names, sizes, times, and their headers."""
    found = []
    for path in model.files_beside():
        info = path.stat()
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            head = file.read(min(length, 1 << 26))
        found.append([path.name, info.st_size, info.st_mtime_ns, head])
    return found


def _run(stream: Stream, stage: Path, place: Path, ledger: Ledger, stop: Callable[[], bool], clock: Clock) -> Streamed:
    """Original, sensitivities, passes, certificate; the chosen file goes to its place."""
    job, settings = stream.job, stream.settings
    seeks = not job.recipe.bits and settings.passes > 1
    made = original.outputs(stream, ("select", "certify") if seeks else ("certify",))
    known = original.known(stream)
    levels = {name: float(rows.mean()) / known.tokens for name, rows in known.rows.items()}
    ledger.add("sensitivity", method="fisher", layers=levels, factors={})
    candidates = Candidates(stream, known, stage, ledger, made)
    outcome = _searched(candidates, stop)
    shutil.move(outcome.candidate.path, place)
    size = place.stat().st_size
    archive = read_archive(place)
    ledger.add(
        "result", file=place.name, native=None, bytes_before=job.bytes_before, bytes_after=size,
        ratio=job.bytes_before / size, before=outcome.before.value, after=outcome.after.value,
        certificate=asdict(outcome.certificate), layers=summary.layer_rows(archive, size),
        other_bytes=summary.other_bytes(archive, size), methods={}, flips=[], evaluations=outcome.evaluations,
        seconds=clock.elapsed(), reproduce={"command": summary.command(job), "recipe": "recipe.toml"},
    )  # fmt: skip
    weights = outcome.candidate.weights
    return Streamed(
        place, outcome.certificate, outcome.before, outcome.after, job.bytes_before, size, 8 * size / weights,
        job.recipe, job.metric.unit == "points", ledger.events,
    )  # fmt: skip


def _searched(candidates: Candidates, stop: Callable[[], bool]) -> Outcome[Candidate]:
    """Passes at one slope or several, then the certify split, safest first."""
    stream = candidates.stream
    settings, budget = stream.settings, stream.job.budget
    if stream.job.recipe.bits:
        slopes = [slope_for(stream, candidates.known, stream.job.recipe.bits)]
    elif "select" not in candidates.before:
        slopes = [first_slope(candidates, "certify")]
    else:
        limit = budget.limit(candidates.before["select"].value)
        bound = budget.guarantee == "bound" and not hopeless(stream.job)
        confidence = budget.confidence if bound else 0.5
        target = Target(limit, len(stream.job.splits.certify), confidence, SAFE)
        trials = land(candidates.trial, first_slope(candidates, "select"), target, settings.passes, stop)
        candidates.ledger.add("landed", slope=trials[-1].slope, limit=limit, trials=[asdict(t) for t in trials])
        within = sorted(t.slope for t in trials if shown(t, target, 0) <= limit)
        slopes = within or [min(t.slope for t in trials)]
    return certify_in_order(candidates, slopes, stop)


def first_slope(candidates: Candidates, split: str) -> float:
    """The slope at which the predicted divergence is SHARE of what the drop allows, or of FIRST_KL where none says.

    A rise of the log likelihood by KL is what a model whose probabilities are right shows; at high resolution a
    weight's distortion is slope / (2 ln 2).
    """
    stream, before = candidates.stream, candidates.before[split]
    limit, allowed = stream.job.budget.limit(before.value), FIRST_KL / SHARE
    if stream.job.metric.name == "perplexity":
        allowed = float(np.log1p(limit / before.value))
    elif stream.job.metric.name == "kl":
        allowed = limit
    weights = sum(layer.size for layer in stream.layers())
    return 2 * float(np.log(2)) * max(SHARE * allowed, 1e-6) / max(weights, 1)


def opened(model: object, _: str | None = None) -> Adapter:
    """What opens a folder part by part, in the place of `attar.opening.open_model`."""
    made: Adapter = registry.get("streamed", "transformers").opened(model)
    return made
