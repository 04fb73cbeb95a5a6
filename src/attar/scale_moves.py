"""The stage before compression that moves scales between layers: the same function, other weights."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from attar import measuring
from attar.adapters.base import Traced
from attar.errors import AttarError, ModelError
from attar.job import Job
from attar.recipe import Recipe
from attar.run.ledger import Ledger
from attar.run.progress import Progress
from attar.search.params import SCALING, checked
from attar.structure.scaling import Moves, ScalingSettings, move
from attar.types import Stats

ROUNDING = 1e-3
"""Largest change of an output that float32 rounding explains, of the largest output."""


def settings_of(recipe: Recipe) -> ScalingSettings:
    """The recipe's [settings.scaling], checked; raises UsageError."""
    return checked(ScalingSettings, SCALING, recipe.settings)


def check(job: Job) -> None:
    """That scales can be moved where that is asked for; raises ModelError, UsageError."""
    if settings_of(job.recipe).moves != "none" and not isinstance(job.adapter, Traced):
        raise ModelError(
            f"model: scales are moved in ONNX, PyTorch, Keras and Hugging Face models. Received a "
            f"{job.adapter.framework} model, whose graph is not known. Leave --scale-moves out."
        )


def moved(job: Job, ledger: Ledger, progress: Progress) -> Job:
    """The job on a model with scales moved between its layers; drops stay those from the original.

    Raises ModelError where the model's graph is not known.
    """
    settings = settings_of(job.recipe)
    if settings.moves == "none":
        return job
    assert isinstance(job.adapter, Traced)
    before, batches = job.adapter, list(job.splits.calibrate.batches(measuring.BATCH))
    progress.stage("moving scales", 1)
    expected = before.run(batches[0])
    stats: dict[str, Stats] = dict(before.moments(batches)) if settings.moves == "smooth" else {}
    names = [layer.name for layer in before.layers()]
    kept = [name for name in names if any(fnmatchcase(name, pattern) for pattern in job.recipe.exclude)]
    after, report = move(before, stats, settings, kept)
    found, scale = after.run(batches[0]), float(np.abs(expected).max(initial=0))
    if not np.abs(found - expected).max(initial=0) <= ROUNDING * scale:
        raise AttarError(
            "scale moves: outputs must stay as they are. Received others. This is a defect in attar: please report the "
            "model, and leave --scale-moves out."
        )
    progress.step()
    progress.note(f"scales moved between {len(_layers(report))} layers")
    ledger.add(
        "scaling", moves=settings.moves, layers=_layers(report), left=report.left,
        groups={name: {"made": made, "read": read, "factors": _span(report, name)}
                for name, (made, read) in report.layers.items()},
    )  # fmt: skip
    return replace(job, adapter=after, original=job.original or before)


def _layers(report: Moves) -> list[str]:
    """Every tensor named that was multiplied or divided, once, in order."""
    return list(dict.fromkeys(name for made, read in report.layers.values() for name in (*made, *read)))


def _span(report: Moves, name: str) -> list[float]:
    """A group's least and largest factor."""
    return [float(report.factors[name].min()), float(report.factors[name].max())]
