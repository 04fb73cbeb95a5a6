"""`attar export`: an artefact for a runtime, run there from its file, with a certificate that names both."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from attar import outputs, pipeline, reading, registry
from attar import recipe as recipes
from attar.adapters.base import Adapter
from attar.errors import UsageError
from attar.evaluate.base import Metric
from attar.evaluate.budget import Budget
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.exports.base import Artefact, Task
from attar.exports.earlier import earlier
from attar.job import size_of
from attar.measuring import NUMERIC
from attar.opening import observing, open_model
from attar.run.ledger import plain
from attar.run.progress import Progress, Silent
from attar.search.divergence import kind_of
from attar.types import Array, Certificate, Json, Score, Splits

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Exported:
    """A written artefact: its file, the certificate of that file in its runtime, and what was decided on the way."""

    path: Path
    format: str
    certificate: Certificate
    bytes_before: int
    bytes_after: int
    sha256: str
    runtime: str
    notes: tuple[str, ...]
    facts: Mapping[str, Json]

    @property
    def within(self) -> bool:
        """Whether the bound is within the drop."""
        return self.certificate.verdict == "certified"

    def record(self) -> dict[str, Json]:
        """What is written beside the file."""
        return {
            "file": self.path.name, "sha256": self.sha256, "bytes": self.bytes_after, "format": self.format,
            "runtime": self.runtime, "machine": pipeline.machine(), "certificate": asdict(self.certificate),
            "bytes_before": self.bytes_before, "notes": list(self.notes), **self.facts,
        }  # fmt: skip


@dataclass(frozen=True)
class _Job:
    """Everything opened: the model, what drops are measured from, and the data."""

    adapter: Adapter
    original: Adapter
    splits: Splits
    metric: Metric
    budget: Budget


@dataclass
class _Passes:
    """Counts full passes over the select split."""

    passes: Callable[[bytes], bool]
    spent: int = 0

    def __call__(self, artefact: bytes) -> bool:
        """Whether bytes stay within the drop."""
        self.spent += 1
        return self.passes(artefact)


def export(
    model: object, to: str, data: object = None, *, against: object = None, out: PathLike = ".", batch: int = 1,
    threads: int = 1, like: PathLike | None = None, force: bool = False, progress: Progress | None = None,
    **fields: Any,
) -> Exported:  # fmt: skip
    """Write a model (or a .attar file's) in the format `to` and certify the written file in its own runtime.

    `against` is the original that drops are measured from, the model itself where it is not given; fields are those of
    `attar.Recipe` (metric, max_drop, calibrate, certify, seed ...). out is a folder, or a file with the format's
    ending. Beside the file goes FILE.json with the certificate, the file's hash and the runtime's version. An artefact
    that misses the drop is written all the same: see `Exported.within`. like is such a FILE.json of the same format:
    what was chosen there for speed is not measured again, so that the bytes repeat. Raises UsageError, DataError,
    ModelError, FormatError, OutputError.
    """
    exporter = registry.get("export", to)
    told = progress or Silent()
    if batch < 1 or threads < 1:
        raise UsageError(f"export: batch and threads must be 1 or more. Received {batch} and {threads}. Use 1.")
    decided = {} if like is None else earlier(Path(like), to)
    place = _place(model, Path(out), exporter.suffix)
    names = [place.name + "/" * exporter.suffix.endswith("/"), place.name + ".json"]
    outputs.check_free(place.parent, names, force)
    job, size = _opened(model, exporter, data, against, fields)
    told.stage("original", 2)
    before = {}
    for name in ("select", "certify"):
        before[name] = score(job.original.run, getattr(job.splits, name), job.metric, None)
        told.step()
    with outputs.staged(place.parent) as stage:
        task = _task(job, exporter, before["select"], batch, threads, told)
        passes = _Passes(task.acceptable)
        artefact = exporter.make(replace(task, acceptable=passes, like=decided))
        artefact = replace(artefact, facts={**artefact.facts, "evaluations": passes.spent})
        _write(stage / place.name, artefact)
        found = _certified(stage / place.name, (job, exporter, artefact, before["certify"]), to, size, told)
        found = replace(found, path=place)
        outputs.write(stage / names[1], (json.dumps(plain(found.record()), indent=1) + "\n").encode())
        outputs.publish(stage, place.parent, force)
    return found


def _write(place: Path, artefact: Artefact) -> None:
    """The artefact's file, or its folder."""
    if not artefact.files:
        outputs.write(place, artefact.data)
    for name, data in artefact.files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        outputs.write(place / name, data)


def _opened(model: object, exporter: Any, data: object, against: object, fields: dict[str, Any]) -> tuple[_Job, int]:
    """Model, original and data, and the size of what came in; the model is checked before data are read."""
    sets: dict[str, object] = {name: fields.pop(name, None) for name in ("calibrate", "select", "certify")}
    sets["data"] = data
    metric = resolve_metric(fields.get("metric", "accuracy"))
    recipe = recipes.make(**{**fields, "metric": metric.name})
    budget = Budget(recipe.max_drop, recipe.max_relative_drop, recipe.confidence, recipe.guarantee)
    if recipe.output_name is not None:
        raise UsageError(
            f"output_name: an export is judged by the model's first output. Received {recipe.output_name!r}. Leave it "
            "out, or export a model that gives it first."
        )
    adapter = observing(open_model(model, recipe.factory), metric.name)
    exporter.check(adapter)
    original = adapter if against is None else observing(open_model(against, recipe.factory), metric.name)
    splits = reading.read_splits(sets, recipe, adapter, metric)
    splits = reading.prepare(splits, None, recipe).splits
    return _Job(adapter, original, splits, metric, budget), size_of(against or model, original)


def _place(model: object, out: Path, suffix: str) -> Path:
    """The file to write."""
    is_folder = suffix.endswith("/")
    if out.suffix == Path(f"x{suffix}").suffix and not is_folder:
        return out
    if out.suffix and not out.is_dir() and not is_folder:
        raise UsageError(f"output {str(out)!r}: it must be a folder, or end in {suffix}. Correct the name.")
    stem = Path(model).stem if isinstance(model, str | os.PathLike) else type(model).__name__
    return out / (stem + suffix.rstrip("/"))


def _task(job: _Job, exporter: Any, before: Score, batch: int, threads: int, told: Progress) -> Task:
    """What the exporter works on."""
    data = job.splits.select
    classes = kind_of(before.outputs[:256], job.metric.name not in NUMERIC) != "regression"
    limit = job.budget.limit(before.value)

    def acceptable(artefact: bytes) -> bool:
        after = score(exporter.runtime(artefact, threads).run, data, job.metric, before.outputs)
        told.step()
        verdict = certify(before, after, job.metric, limit, job.budget.confidence)
        return verdict.drop <= 0 or verdict.upper <= limit

    told.stage(f"exporting {exporter.name}", 1)
    rows = np.arange(batch) % len(job.splits.calibrate)
    example: dict[str, Array] = job.splits.calibrate.take(rows).arrays()
    return Task(job.adapter, job.splits.calibrate, classes, acceptable, example, threads, told.step)


def _certified(path: Path, work: tuple[_Job, Any, Artefact, Score], to: str, size: int, told: Progress) -> Exported:
    """The certificate of the file as it is on disk."""
    job, exporter, artefact, before = work
    runtime = exporter.runtime(path, 1)
    told.stage("certifying the file", 1)
    after = score(runtime.run, job.splits.certify, job.metric, before.outputs)
    told.step()
    limit = job.budget.limit(before.value)
    verdict = certify(before, after, job.metric, limit, job.budget.confidence)
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    digest = hashlib.sha256()
    for file in files:  # of a folder: all its files, in the order of their names
        digest.update(file.read_bytes())
    nbytes = sum(file.stat().st_size for file in files)
    return Exported(
        path, to, verdict, size, nbytes, digest.hexdigest(), runtime.version, artefact.notes, artefact.facts
    )
