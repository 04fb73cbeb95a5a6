"""The stage before compression that makes a model smaller: whole channels go, and what is left is trained."""

from __future__ import annotations

from dataclasses import asdict, replace

from attar import measuring
from attar.adapters.base import Grouped
from attar.adapters.folded import held, with_sensitivity
from attar.errors import ModelError, UsageError
from attar.job import Job, image_changes, recovery_settings
from attar.recipe import Recipe
from attar.recover.retrain import retrain
from attar.recover.teacher import Teacher
from attar.run.executor import generator
from attar.run.ledger import Ledger
from attar.run.progress import Progress
from attar.search import remember
from attar.search.params import REMOVAL, checked
from attar.structure.remove import remove
from attar.structure.select import Goal, RemovalSettings
from attar.types import Array


def goal_of(recipe: Recipe) -> Goal:
    """The recipe's share with its [settings.removal], checked; raises UsageError."""
    return Goal(recipe.remove, **asdict(checked(RemovalSettings, REMOVAL, recipe.settings)))


def check(job: Job) -> None:
    """That channels can be removed where that is asked for; raises ModelError, UsageError."""
    goal_of(job.recipe)
    if job.recipe.remove and not isinstance(job.adapter, Grouped):
        raise ModelError(
            f"model: channels are removed from ONNX, PyTorch and Keras models. Received a {job.adapter.framework} "
            "model without groups of channels. Leave --remove out."
        )
    if job.recipe.remove and job.recipe.exclude:
        raise UsageError(
            "recipe: excluded layers keep every bit, and what reads removed channels is fitted anew. Received exclude "
            "and remove. Leave one of them out."
        )


def shrunk(job: Job, ledger: Ledger, progress: Progress) -> Job:
    """The job on a smaller model, trained where there is a set for it; drops stay those from the original.

    Raises ModelError, UsageError where the model's channels cannot be removed, or not so many.
    """
    if not job.recipe.remove:
        return job
    assert isinstance(job.adapter, Grouped)
    original = job.adapter
    subject, _, kind, _ = measuring.measured(job, progress)
    # As they were seen: what the subject has is weighed for rounding errors, which are alike at every position.
    seen = original.moments(job.splits.calibrate.batches(measuring.BATCH))
    stats = with_sensitivity(seen, {name: held(subject.stats, name).stats.sensitivity for name in seen})
    progress.stage("removing channels", 1)
    smaller, report = remove(original, stats, goal_of(job.recipe))
    progress.step()
    for name, (before, after) in report.channels.items():
        if after < before:
            progress.note(f"{name}: {after} of {before} channels stay")
    if job.train is not None:
        settings = recovery_settings(job.recipe)
        rest: dict[str, Array] = dict(original.remainder())
        teacher = Teacher(original, subject.weights, rest, job.train, image_changes(job.recipe))

        def train() -> None:
            retrain(
                smaller, teacher, settings, classification=kind != "regression",
                rng=generator(job.recipe.seed, "removal"), progress=progress,
            )  # fmt: skip

        remember.retrained(
            job.kept, smaller, train, remember.data_mark(job.train), str(settings), str(teacher.changes), kind,
            job.recipe.seed, job.marks().get("model"),
        )  # fmt: skip
    ledger.add(
        "removal", share=report.share, macs=report.macs, weights=report.weights, channels=report.channels,
        refitted=report.refitted, fixed=report.fixed, trained=job.train is not None,
    )  # fmt: skip
    return replace(job, adapter=smaller, original=original, into=None)
