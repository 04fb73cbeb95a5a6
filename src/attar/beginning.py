"""How a run begins: everything opened, read and checked, and its outputs named."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from attar import reading, registry, removal, scale_moves, tuning
from attar import recipe as recipes
from attar.adapters.base import Adapter
from attar.errors import OutputError
from attar.evaluate.budget import Budget
from attar.evaluate.metrics import resolve_metric
from attar.job import Job, size_of
from attar.opening import as_it_came, model_of, observing, open_model
from attar.recipe import Recipe
from attar.result import entry

SETS = ("data", "calibrate", "select", "certify", "train")


def job_of(
    model: object, data: object, recipe: Recipe | None, fields: dict[str, Any],
    opening: Callable[..., Adapter] = open_model,
) -> Job:  # fmt: skip
    """Everything opened, read and checked."""
    sets: dict[str, object] = {name: fields.pop(name, None) for name in SETS[1:]}
    sets["data"] = data
    if recipe is not None:
        sets = {name: value if value is not None else getattr(recipe, name) for name, value in sets.items()}
        fields = {**recipe.model_dump(exclude_none=True, exclude_unset=True), **fields}
    metric = resolve_metric(fields.get("metric", "accuracy"))
    told = {name: value if isinstance(value, str | None) else str(value) if isinstance(value, os.PathLike)
            else f"<{type(value).__name__}>" for name, value in sets.items()}  # fmt: skip
    model = model if model is not None else fields.get("model")
    name = str(model) if isinstance(model, str | os.PathLike) else type(model).__name__
    plan = recipes.make(**{**fields, **told, "model": name, "metric": metric.name})
    budget = Budget(plan.max_drop, plan.max_relative_drop, plan.confidence, plan.guarantee)
    opened = opening(Path(model) if isinstance(model, os.PathLike) else model, plan.factory)
    adapter = observing(opened, metric.name, plan.output_name)
    size = size_of(model, adapter)
    train = sets.pop("train")
    splits = reading.read_splits(sets, plan, adapter, metric)
    tuned, warnings = reading.read_train(train, plan, adapter, splits)
    ready = reading.prepare(replace(splits, warnings=(*splits.warnings, *warnings)), tuned, plan)
    came = as_it_came(adapter)
    into = None if isinstance(model, str | os.PathLike) and plan.factory is None else model_of(model, plan.factory)
    job = Job(
        plan, adapter, ready.splits, metric, budget, size, name, ready.train, None if came is adapter else came, into,
        data_steps=ready.steps,
    )  # fmt: skip
    removal.check(job)
    scale_moves.check(job)
    tuning.check(job)
    if plan.goal != "size":
        registry.get("goal", "latency").check(job)
    return job


def names_of(job: Job) -> dict[str, str]:
    """File names of the outputs."""
    path = Path(job.model_name)
    suffix = path.suffix if path.suffix in job.adapter.suffixes else job.adapter.suffixes[0]
    stem = path.stem if job.adapter.suffixes[0] else path.resolve().name
    fast = f"{stem}.fast.onnx"
    return {
        "archive": f"{stem}.attar", "native": entry(f"{stem}{suffix}", job.adapter), "report": "report.html",
        "recipe": "recipe.toml", "ledger": "ledger.jsonl",
        **({} if job.recipe.goal == "size" else {"fast": fast, "record": f"{fast}.json"}),
    }  # fmt: skip


def check_apart(job: Job, folder: Path, names: Mapping[str, str]) -> None:
    """That a folder that comes in is not the one that goes out; raises OutputError, also with force."""
    if not job.adapter.suffixes[0] and (folder / names["native"]).resolve() == Path(job.model_name).resolve():
        raise OutputError(
            f"output {str(folder)!r}: the compressed model must not replace the original. Received the folder that "
            "holds it. Choose another place with -o."
        )
