"""The straight path of a latency goal: statistics, integers, costs, a plan, candidates, the certificate, the facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from attar import measuring
from attar.adapters.folded import held, with_sensitivity
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.errors import UsageError
from attar.exports.base import Task
from attar.exports.onnx.costs import measured as measured_cost
from attar.exports.onnx.costs import place, works
from attar.exports.onnx.int8 import OnnxInt8
from attar.exports.onnx.model import onnx_model
from attar.exports.onnx.runtime import Runtime
from attar.exports.qdq import prepared
from attar.job import Job, image_changes, recovery_settings
from attar.latency import kept
from attar.latency.candidate import Candidate
from attar.latency.made import Coded, coded, first_integers, quickest, ranged
from attar.latency.problem import noise_of, posed, spans
from attar.latency.race import Race, Training
from attar.latency.search import search, thinned
from attar.latency.smaller import sizing
from attar.latency.table import CostTable, file_of
from attar.plan.latency import Costs, descent
from attar.recipe import Recipe, milliseconds
from attar.recover.teacher import Teacher
from attar.removal import goal_of
from attar.run.kept import key_of
from attar.run.ledger import Ledger
from attar.run.progress import Progress
from attar.search import remember
from attar.search.in_order import Outcome
from attar.search.loop import Loop
from attar.search.params import SCALING
from attar.structure.importance import Subject
from attar.structure.remove import subject_of
from attar.types import Array, Stats


@dataclass(frozen=True)
class Raced:
    """What a latency goal ended with: the outcome, the race it was found in, and whether the time was missed."""

    outcome: Outcome[Candidate]
    race: Race
    budget_ms: float | None

    @property
    def in_time(self) -> bool:
        """Whether the artefact takes no longer than asked for."""
        return self.budget_ms is None or self.outcome.candidate.milliseconds <= self.budget_ms


def check(job: Job) -> None:
    """That a latency goal can be met at all; raises ModelError, UsageError before any work."""
    recipe = job.recipe
    for name in ("remove", "exclude"):
        if getattr(recipe, name):
            raise UsageError(
                f"recipe {name!r}: with a latency goal the plan chooses what goes and what stays. Received "
                f"{getattr(recipe, name)!r}. Leave it out."
            )
    if recipe.methods != Recipe.model_fields["methods"].default and recipe.goal == "latency":
        raise UsageError(
            f"recipe 'methods': a latency goal stores 8-bit codes. Received {', '.join(recipe.methods)}. Leave it out, "
            "or set --goal latency,size."
        )
    if recipe.settings.get(SCALING, {}).get("moves", "none") != "none":
        raise UsageError(
            "recipe 'settings.scaling.moves': int8 artefacts have a scale for each channel anyway. Received a latency "
            "goal with scale moves. Leave them out."
        )
    onnx_model(job.adapter, "a latency goal")
    OnnxInt8.check(job.adapter)


def raced(
    job: Job, ledger: Ledger, progress: Progress, interrupted: Callable[[], bool] = lambda: False,
    costs: Costs | None = None,
) -> Raced:  # fmt: skip
    """Plan, make, time, certify. costs: milliseconds of works instead of this machine's table."""
    race = prepared_race(job, ledger, progress, costs)
    budget = None if job.recipe.latency_budget is None else milliseconds(job.recipe.latency_budget)
    outcome = search(race, job.recipe.evaluations, interrupted, budget)
    return Raced(outcome, race, budget)


def prepared_race(job: Job, ledger: Ledger, progress: Progress, costs: Costs | None) -> Race:
    """Everything up to the plan: statistics, the integers of the whole model, the table, the stages."""
    original = onnx_model(job.adapter, "a latency goal")
    base = OnnxAdapter.open(prepared(original.model()))
    job = replace(job, adapter=base, original=original)
    subject, _, kind, _ = measuring.measured(job, progress)
    marks = job.marks()
    marks = marks and {**marks, "original": remember.model_mark(original)}
    loop = Loop(
        subject, job.splits, job.metric, job.budget, kind, ledger, progress, original, job.bytes_before,
        kept=job.kept, marks=marks,
    )  # fmt: skip
    loop.originals()
    progress.stage("integers", 1)
    task = _task(job, loop)
    seen = remember.moments(
        job.kept, key_of("moments", marks.get("model"), marks.get("calibrate"), measuring.BATCH),
        lambda: base.moments(job.splits.calibrate.batches(measuring.BATCH)),
    )  # fmt: skip
    whole = coded(base, job.splits.calibrate, job.recipe.coder, seen)
    mark = key_of("race", marks, kind, str(job.budget), job.metric.name, job.recipe.coder)
    integers = kept.integers(
        job.kept, key_of("integers", mark),
        lambda: first_integers(whole, original.run, task),
    )  # fmt: skip
    ranged(whole, integers)
    mark = key_of("race", mark, str(integers), task.threads, job.recipe.batch, place())
    # As they were seen: what the subject has is weighed for rounding errors, which are alike at every position.
    stats = with_sensitivity(seen, {name: held(subject.stats, name).stats.sensitivity for name in seen})
    ground = subject_of(base, stats)
    problem = posed(ground, goal_of(job.recipe), works(base.model(), task.batch), noises(ground, whole))
    progress.stage("measured costs", 1)
    table = table_of(task.threads)
    known = costs or table
    # Where integers are not faster, channels are all that there is to save.
    faster = kept.flag(job.kept, key_of("faster", mark), lambda: quickest(whole, task, integers.harmful, ()).integers)
    stages = thinned(descent(problem.groups, problem.layers, known, integers=faster))
    if hindered := table.save():
        progress.note(f"measured costs could not be kept for the next run: {hindered}")
    ledger.add(
        "plan", runtime=place()["runtime"], threads=task.threads, batch=job.recipe.batch,
        measured=table.fresh,
        stages=[{"left": dict(s.left), "integers": len(s.integers), "distortion": s.distortion,
                 "milliseconds": s.milliseconds} for s in stages],
    )  # fmt: skip
    training, size = _training(job, base), job.recipe.goal == "latency,size"
    return Race(
        loop, base, original, ground, problem, stages, whole, integers, task, known, training, job.recipe.coder,
        sizing(job, loop) if size else None, mark=mark,
    )  # fmt: skip


def table_of(threads: int) -> CostTable:
    """This machine's costs, with so many threads."""
    where = {**place(), "threads": str(threads)}
    return CostTable(partial(measured_cost, threads=threads), where, file_of(where))


def noises(subject: Subject, whole: Coded) -> dict[str, float]:
    """Nats that int8 is predicted to cost each layer that can be in integers and was reached by data."""
    wide = spans(whole.work.model, whole.work.found)
    found = {}
    for name in whole.nodes:
        stats: Stats | None = subject.stats.get(name)
        if stats is not None and name in subject.layers and name in wide:
            found[name] = noise_of(subject.layers[name], subject.weights[name], stats, wide[name])
    return found


def _task(job: Job, loop: Loop) -> Task:
    """What exporters work on: `acceptable` judges by the select split, as `attar export` does."""
    data, recipe = job.splits.calibrate, job.recipe

    def acceptable(artefact: bytes) -> bool:
        verdict, _, _ = loop.compared(Runtime(artefact, recipe.threads).run, "select", "integers on select")
        return verdict.drop <= 0 or verdict.upper <= loop.limit()

    rows = np.arange(recipe.batch) % len(data)
    example: dict[str, Array] = data.take(rows).arrays()
    return Task(job.adapter, data, loop.kind != "regression", acceptable, example, recipe.threads, loop.progress.step)


def _training(job: Job, base: OnnxAdapter) -> Training | None:
    """What candidates are trained with, where there is a set for it."""
    if job.train is None:
        return None
    weights = {layer.name: base.read(layer.name) for layer in base.layers() if layer.tied_to is None}
    rest: Mapping[str, Array] = {name: np.array(value) for name, value in base.remainder().items()}
    teacher = Teacher(base, weights, rest, job.train, image_changes(job.recipe))
    return Training(teacher, recovery_settings(job.recipe), job.recipe.seed)
