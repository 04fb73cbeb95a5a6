"""One straight function per verb; the only place where all parts meet."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from attar import (
    calibration,
    dataless,
    outputs,
    picking,
    pipeline,
    reading,
    registry,
    removal,
    scale_moves,
    summary,
    tuning,
)
from attar import recipe as recipes
from attar.beginning import check_apart, job_of, names_of
from attar.dataless import Blind
from attar.errors import UsageError
from attar.evaluate.certificate import holds
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.job import Job
from attar.latent.settings import Settings
from attar.opening import as_it_came, observing, open_model
from attar.picking import Seen
from attar.recipe import Recipe
from attar.result import PathLike, Result
from attar.run.clock import Clock
from attar.run.engines import engine_of
from attar.run.kept import FOLDER, Kept
from attar.run.ledger import Ledger, Watcher
from attar.run.memory import Sparing
from attar.run.notebook import suited
from attar.run.progress import Progress, Silent
from attar.search.course import search
from attar.search.loop import transcriber
from attar.sets.aims import check
from attar.sets.lossy import Loss
from attar.streaming import run as streaming
from attar.streaming import settings as stream_settings
from attar.streaming.result import Streamed
from attar.types import Json, Score


def compress(
    model: object,
    data: object = None,
    *,
    recipe: Recipe | None = None,
    out: PathLike | None = None,
    force: bool = False,
    jobs: int | None = None,
    engine: str = "threads",
    progress: Progress | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    work: PathLike | None = None,
    on_event: Callable[[Mapping[str, Json]], object] | None = None,
    **fields: Any,
) -> Result | Blind | Streamed:
    """The smallest model that stays within the drop, certified on data the search never saw.

    fields are those of `attar.Recipe` (metric, max_drop, max_relative_drop, confidence, guarantee, calibrate,
    select, certify, seed, ...), or give a whole recipe. data, calibrate, select, certify and train (a set on which
    candidates are trained) are paths or objects (arrays, (x, y), a DataLoader, a tf.data.Dataset). With `out`, that
    folder gets NAME.attar, the model in its own format, report.html, recipe.toml and ledger.jsonl. The model given is
    never changed. engine: where layers are worked on, threads, processes, ray or ray://host:port, `jobs` at once; the
    bytes are the same. Work is kept on the way, in `work` or in a hidden folder beside the outputs, and a run that was
    killed goes on there; what is in `work` stays for further runs. on_event is called with each event of the ledger;
    progress, where it has a method `event`, as well. In a notebook progress is shown unless one is given. A missed
    budget is not an error: see `Result.within`. Weights without a network (safetensors, GGUF, .npz) take `bits` or
    `max_error` in place of data and give a `Blind` (attar/dataless.py), Hugging Face folders larger than memory
    a `Streamed` (attar/streaming). Raises UsageError, DataError, ModelError, FormatError, OutputError.
    """
    clock, progress = Clock(), progress or suited()
    watchers = [one for one in (getattr(progress, "event", None), on_event) if one is not None]
    progress = Sparing(progress)
    streamed = _streamed(model, recipe, fields)
    alone = None if streamed else dataless.job_of(model, recipe, {**fields, "data": data})
    if alone is not None:
        place = None if out is None else Path(out)
        return dataless.compress(alone, place, progress, force=force, jobs=jobs, watchers=watchers)
    if streamed:
        progress.note(streamed)
        job = job_of(model, data, recipe, fields, streaming.opened)
        return streaming.compress(
            job, out, progress, force=force, interrupted=interrupted, work=work, watchers=watchers
        )  # fmt: skip
    with closing(engine_of(engine, jobs)) as running:
        job = replace(job_of(model, data, recipe, fields), engine=running)
        return _compressed(job, clock, out, force, progress, interrupted, work, watchers)


def _compressed(
    job: Job, clock: Clock, out: PathLike | None, force: bool, progress: Progress, interrupted: Callable[[], bool],
    work: PathLike | None, watchers: Sequence[Watcher],
) -> Result:  # fmt: skip
    """A checked job run, and its files written where they are wanted."""
    gc.collect()  # graphs refer to themselves: else what opening has left of a model stays beside it
    clock.budget = job.recipe.time_budget
    names = names_of(job)
    if work is not None:
        job = replace(job, kept=Kept(Path(work)))
    if out is None:
        return _run(job, names, Ledger(None, watchers), progress, interrupted, clock)
    folder = Path(out)
    outputs.check_free(folder, list(names.values()), force)
    check_apart(job, folder, names)
    names["folder"] = os.fspath(out)
    if work is None:
        job = replace(job, kept=Kept(folder / FOLDER))
    kept = Kept(folder / FOLDER)
    with outputs.staged(folder) as stage:
        result = _run(job, names, Ledger(stage / names["ledger"], watchers), progress, interrupted, clock)
        progress.stage("files and report", 1)
        result.write_all(stage, names)
        if result.seen:
            picking.keep_candidates(kept, result.before, result.seen, {
                "confidence": result.certificate.confidence, "bytes_before": result.bytes_before,
                "file": names["archive"], "native": names["native"],
                "tested": summary.tested(result.events), **_own(result),
            })  # fmt: skip
        outputs.publish(stage, folder, force)
    kept.clear(picking.KEY if result.seen else "")
    return result


def _own(result: Result) -> dict[str, Json]:
    """What a run within its budget says of its own file, for `pick`."""
    if not result.within:
        return {}
    number = next(number for number, one in enumerate(result.seen) if one.data == result.data)
    return {"own": asdict(result.certificate), "chosen": number}


def preview(
    model: object,
    data: object = None,
    *,
    recipe: Recipe | None = None,
    out: PathLike | None = None,
    force: bool = False,
    **fields: Any,
) -> Ledger:
    """A dry run: everything is opened and checked, nothing is computed or written; the ledger says what would be."""
    ledger = Ledger()
    streamed = _streamed(model, recipe, fields)
    alone = None if streamed else dataless.job_of(model, recipe, {**fields, "data": data})
    if alone is not None:
        dataless.begin(alone, ledger, Silent())
        return ledger
    job = job_of(model, data, recipe, fields, streaming.opened if streamed else open_model)
    if out is not None:
        outputs.check_free(Path(out), list(names_of(job).values()), force)
    (streaming.begin if streamed else pipeline.begin)(job, ledger, Silent())
    return ledger


def _streamed(model: object, recipe: Recipe | None, fields: Mapping[str, Any]) -> str | None:
    """Why a run goes block by block (attar/streaming), or None."""
    told: Mapping[str, Any] = {**({} if recipe is None else recipe.model_dump(exclude_none=True)), **fields}
    why = stream_settings.wanted(model if model is not None else told.get("model"), told)
    if why:
        stream_settings.check(told)
    return why


def evaluate(
    model: object, data: object, metric: object = "accuracy", *, against: object = None, **fields: Any
) -> Score:
    """The metric of a model (or .attar file) on data; `against` is the original where the metric compares with it."""
    measured = resolve_metric(metric)
    recipe = recipes.make(**fields)
    adapter = observing(open_model(model, recipe.factory), measured.name, recipe.output_name)
    dataset = reading.read_whole(data, recipe, adapter)
    original = None
    if measured.relative_to_original:
        if against is None:
            raise UsageError(
                f"metric {measured.name!r}: it compares with the original model. Received no original. Pass --against."
            )
        compared = observing(open_model(against, recipe.factory), measured.name, recipe.output_name)
        original = score(as_it_came(compared).run, dataset, measured, None).outputs
    return score(as_it_came(adapter).run, dataset, measured, original, transcribe=transcriber(adapter))


def data_loss(
    quality: float | None,
    model: object = None,
    max_drop: float | None = None,
    *,
    confidence: float = 0.95,
    steps: int = 6000,
    seed: int = 0,
    exact: bool = False,
) -> Loss | None:
    """What images of a data set may lose, for attar.sets.pack: None for nothing.

    quality: 1 less the error's root mean square over the pixels' standard deviation, of images that were not trained
    on. max_drop: points of a model's accuracy, as a certificate bounds them; quality is then 0.7 where it is not given.
    exact: what the network leaves is coded beside it, and nothing is lost. Raises UsageError, ModelError.
    """
    check(quality, max_drop, model, exact)
    if max_drop is None and (quality is None or quality == 1):
        return None
    adapter = None if model is None else open_model(model)
    return Loss(quality, max_drop, adapter, confidence, Settings(steps=steps, seed=seed), exact)


def _run(
    job: Job,
    names: Mapping[str, str],
    ledger: Ledger,
    progress: Progress,
    interrupted: Callable[[], bool],
    clock: Clock,
) -> Result:
    """The straight path from a checked job to its result."""
    pipeline.begin(job, ledger, progress)
    job = calibration.chosen(job, ledger, progress)
    if job.recipe.goal != "size":
        made = registry.get("goal", "latency").run(job, names, ledger, progress, lambda: interrupted() or clock.over())
        return Result(
            made.candidate.archive, made.file.certificate, made.file.before, made.file.after, job.bytes_before,
            job.recipe, job.metric.unit == "points", ledger.events, made.adapter,
            fast=made.fast,
        )  # fmt: skip
    job = tuning.tuned(job, ledger, progress, lambda: interrupted() or clock.over())
    job = removal.shrunk(job, ledger, progress)
    job = scale_moves.moved(job, ledger, progress)
    loop = pipeline.loop_of(job, ledger, progress)
    calibration.gauged(job, loop, ledger, progress)
    recovery = pipeline.recovery_of(job, loop)
    extend, alone = (None, False) if recovery is None else (recovery.extend, recovery.alone)

    def stop() -> bool:
        return interrupted() or clock.over(loop.needed())

    outcome = search(loop, job.recipe.evaluations, stop, extend, alone=alone)
    loop.subject = loop.subject.bare()
    progress.stage("reading the file back", 1)
    final = pipeline.read_back(job, loop, outcome)
    seen = [(candidate.size_bytes, after) for candidate, after in loop.certified]
    own = outcome.candidate.size_bytes, outcome.certificate, holds(outcome.certificate, job.budget.guarantee)
    picks = picking.offers(outcome.before, seen, job.metric, own, loop.tested)
    ledger.add("result", **summary.result_fields(job, loop, outcome, clock.elapsed(), names), picks=picks)
    return Result(
        outcome.candidate.data, outcome.certificate, outcome.before, outcome.after, job.bytes_before, job.recipe,
        job.metric.unit == "points", ledger.events, final,
        tuple(Seen(candidate.data, candidate.trained, after) for candidate, after in loop.certified),
    )  # fmt: skip
