"""The stages of one compression, each a function of what the last one made: begin, search, read back."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np

import attar
from attar.adapters.base import Adapter, Reading
from attar.adapters.folded import held
from attar.archive import read_archive
from attar.coding import simd_path
from attar.errors import AttarError
from attar.forewarning import forewarned, hopeless, misnumbered
from attar.job import Job, check, image_changes, recovery_settings
from attar.measuring import BATCH, measured
from attar.opening import from_archive, led
from attar.recover.teacher import Teacher
from attar.run.kept import key_of
from attar.run.ledger import Ledger
from attar.run.progress import Progress
from attar.search import remember
from attar.search.course import first_slope
from attar.search.in_order import Outcome
from attar.search.loop import Loop
from attar.search.recovery import Recovery
from attar.search.subject import Candidate, Subject, role
from attar.types import Array, Json, Layer, Score, Stats


def begin(job: Job, ledger: Ledger, progress: Progress) -> None:
    """What is known before any work, for the ledger and the reader."""
    check(job)
    splits = {name: len(getattr(job.splits, name)) for name in ("calibrate", "select", "certify")}
    warnings = [*job.splits.warnings, *forewarned(job)]
    for text in warnings:
        progress.note(text)
    metric = {k: getattr(job.metric, k) for k in ("name", "unit", "higher_is_better")}
    ledger.add(
        "run", attar=attar.__version__, model=job.model_name, framework=job.adapter.framework,
        bytes_before=job.bytes_before, metric=metric, budget=asdict(job.budget), seed=job.recipe.seed, splits=splits,
        warnings=warnings, recipe=job.recipe.model_dump(exclude_none=True), machine=machine(),
    )  # fmt: skip
    ledger.add("data", steps=[step.row() for step in job.data_steps])
    layers = [
        {"name": x.name, "kind": x.kind, "rows": x.rows, "cols": x.cols, "groups": x.groups, "shape": list(x.shape),
         "size": x.size, "tied_to": x.tied_to} for x in job.adapter.layers()
    ]  # fmt: skip
    ledger.add("layers", layers=layers, skipped=dict(job.adapter.skipped()))


def machine() -> dict[str, Json]:
    """What the run ran on."""
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "simd": simd_path(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.system(),
    }


def loop_of(job: Job, ledger: Ledger, progress: Progress) -> Loop:
    """Everything measured that the search needs: statistics, the original's scores, sensitivities."""
    loop, method, factors = prepared(job, ledger, progress)
    subject = loop.subject
    levels = {layer.name: _level(layer, subject) for layer in subject.layers}
    ledger.add("sensitivity", method=method, layers=levels, factors=factors)
    loop.originals()
    doubt = misnumbered(loop.before["select"])
    if doubt:
        progress.note(doubt)
        ledger.add("warning", text=doubt)
    return loop


def prepared(job: Job, ledger: Ledger, progress: Progress) -> tuple[Loop, str, Json]:
    """A loop that has not looked at any split yet, how sensitivities were found, and what they were corrected by."""
    subject, method, kind, measure = measured(job, progress)
    alike, apart = None, frozenset[str]()
    if isinstance(job.adapter, Reading):
        alike, apart = role, job.adapter.heads
    blunt, marks = subject, job.marks()

    def correct() -> tuple[Mapping[str, Stats], Json]:
        found, factors = blunt.corrected(first_slope(blunt), measure, progress, alike, apart)
        return found.stats, factors

    sharp = {name: held(blunt.stats, name).stats.sensitivity for name in blunt.stats}
    methods = [[list(names), str(settings)] for names, settings in map(blunt.allowed, blunt.layers)]
    key = key_of("corrected", marks.get("model"), marks.get("calibrate"), sharp, methods)
    stats, factors = remember.sensitivities(job.kept, key, blunt.stats, correct)
    subject = replace(blunt, stats=stats)
    original = job.original or job.adapter
    # Where no bound can hold, the safest candidate is no nearer to one than what an estimate would take.
    budget = replace(job.budget, guarantee="estimate") if hopeless(job) else job.budget
    loop = Loop(
        subject, job.splits, job.metric, budget, kind, ledger, progress, original, job.bytes_before,
        kept=job.kept, seed=job.recipe.seed, early_stop=job.recipe.early_stop,
        marks=marks and {**marks, "original": remember.model_mark(original, job.recipe.output_name)},
    )  # fmt: skip
    return loop, method, factors


def _level(layer: Layer, subject: Subject) -> float:
    """Mean sensitivity of a layer's rows."""
    rows = held(subject.stats, layer.name).stats.sensitivity
    return 1.0 if rows is None else float(rows.mean())


def recovery_of(job: Job, loop: Loop) -> Recovery | None:
    """The training of candidates, where there is a set for it."""
    if job.train is None:
        return None
    settings = recovery_settings(job.recipe)
    weights, rest = loop.subject.weights, loop.subject.remainder
    if job.original is not None:
        owners = [layer.name for layer in job.original.layers() if layer.tied_to is None]
        weights, rest = {name: job.original.read(name) for name in owners}, dict(job.original.remainder())
    teacher = Teacher(job.original or job.adapter, weights, rest, job.train, image_changes(job.recipe))
    return Recovery(loop, teacher, settings, job.recipe.seed)


def read_back(job: Job, loop: Loop, outcome: Outcome[Candidate]) -> Adapter:
    """The model made from the archive's bytes, checked to answer like the one that was certified."""
    archive, batch = read_archive(outcome.candidate.data), next(loop.splits.certify.batches(BATCH))
    if archive.skeleton() is not None:
        alone = _led(job, from_archive(archive))
        check_answers(alone, batch, outcome.after)
        if job.into is None:
            return alone
    elif job.into is None:
        loop.subject.put(outcome.candidate)
        return loop.subject.adapter
    adapter = _led(job, from_archive(archive, job.into))
    check_answers(adapter, batch, outcome.after)
    return adapter


def _led(job: Job, adapter: Adapter) -> Adapter:
    """The adapter, looking at the output that the job does."""
    return adapter if job.recipe.output_name is None else led(adapter, job.recipe.output_name)


def check_answers(adapter: Adapter, batch: Mapping[str, Array], after: Score) -> None:
    """The first examples of the certify split, answered as when the candidate was certified; raises AttarError."""
    expected, got = after.outputs[:BATCH], adapter.run(batch)
    scale = float(np.abs(expected).max(initial=0)) + 1e-6
    if got.shape != expected.shape or not np.allclose(got, expected, rtol=1e-3, atol=1e-3 * scale, equal_nan=True):
        raise AttarError(
            "archive: the model rebuilt from the file must answer like the one that was evaluated. It does not. "
            "This is a defect in attar: please report the model."
        )
