"""What a run works on, and what its recipe says of the whole of it, checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attar.adapters.base import Adapter
from attar.copies.prepare import Step
from attar.evaluate.base import Metric
from attar.evaluate.budget import Budget
from attar.evaluate.score import check_labels
from attar.opening import check_weights
from attar.recipe import Recipe
from attar.recover.augment import changes_of
from attar.recover.settings import RecoverySettings
from attar.run.engines import Engine, Threads
from attar.run.kept import Kept
from attar.search import remember
from attar.search.params import AUGMENT, CALIBRATION, RECOVERY, check_rules, checked
from attar.selection.base import CalibrationSettings
from attar.types import Dataset, Splits

WIDTHS = {"float16": 2, "bfloat16": 2, "float64": 8}
"""Bytes of one weight in the model that came in, where it is not float32."""


@dataclass(frozen=True)
class Job:
    """What a run works on."""

    recipe: Recipe
    adapter: Adapter
    splits: Splits
    metric: Metric
    budget: Budget
    bytes_before: int
    model_name: str
    train: Dataset | None = None
    """What candidates are trained on, if they are."""
    original: Adapter | None = None
    """What drops are measured from, where `adapter` has lost channels or answers otherwise than the model that came."""
    into: object | None = None
    """What the result is put into: the caller's own object (copied), or None to rebuild it from the file alone."""
    engine: Engine = field(default_factory=Threads)
    data_steps: tuple[Step, ...] = ()
    """What was looked for in the sets, and left out of them."""
    kept: Kept = field(default_factory=Kept)
    """Work of this run, or of one that was killed."""
    trials: int = 0
    """Trials of parameters that the recipe's come from (attar/tuning.py)."""

    def marks(self) -> dict[str, str]:
        """Hashes of the model and the sets, by which work is kept; none where nothing is."""
        if self.kept.folder is None:
            return {}
        sets = {name: remember.data_mark(getattr(self.splits, name)) for name in ("calibrate", "select", "certify")}
        return {"model": remember.model_mark(self.adapter, self.recipe.output_name), **sets}


def size_of(model: object, adapter: Adapter) -> int:
    """Bytes of the model that came in: its file with what lies beside it, or its tensors where it is an object."""
    if isinstance(model, str | Path):
        beside: list[Path] = getattr(adapter, "files_beside", list)()
        return sum(path.stat().st_size for path in [Path(model), *beside] if path.is_file())
    total = sum(array.nbytes for array in adapter.remainder().values())
    for layer in adapter.layers():
        if layer.tied_to is None:
            weight = adapter.read(layer.name)
            count = weight.matrix.size + (0 if weight.bias is None else weight.bias.size)
            total += count * WIDTHS.get(layer.dtype, 4)
    return total


def check(job: Job) -> None:
    """That nothing would stop the run after hours: parameters, layers, finite weights, a model that runs, and labels.

    Raises UsageError, ModelError, DataError.
    """
    layers = [layer for layer in job.adapter.layers() if layer.tied_to is None]
    check_rules(job.recipe, [layer.name for layer in layers])
    check_weights({layer.name: job.adapter.read(layer.name) for layer in layers})
    for data in (job.splits.select, job.splits.certify):
        check_labels(job.adapter.run, data, job.metric)


def choice_of(recipe: Recipe) -> str:
    """How the calibration examples are chosen: the recipe's [settings.calibration], checked; raises UsageError."""
    return checked(CalibrationSettings, CALIBRATION, recipe.settings).method


def recovery_settings(recipe: Recipe) -> RecoverySettings:
    """The recipe's [settings.recovery], checked; raises UsageError."""
    return checked(RecoverySettings, RECOVERY, recipe.settings)


def image_changes(recipe: Recipe) -> dict[str, Any]:
    """The changes that recovery makes to images, with the parameters of [settings.augment]; raises UsageError."""
    return changes_of(recovery_settings(recipe).augment, recipe.settings.get(AUGMENT, {}))
