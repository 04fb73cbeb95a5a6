"""One straight function per verb; the only place where all parts meet."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attar import calibration, outputs, picking, pipeline, registry, removal, scale_moves, summary
from attar import recipe as recipes
from attar.adapters.base import Adapter, Sparse
from attar.archive import read_archive
from attar.errors import AttarError, FormatError, ModelError, OutputError, UsageError
from attar.evaluate.budget import Budget
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.latency.fast import FastFile
from attar.latent.settings import Settings
from attar.opening import from_archive, model_of, observing, open_model, packed_model
from attar.picking import Seen
from attar.pipeline import Job
from attar.recipe import Recipe
from attar.run.clock import Clock
from attar.run.kept import FOLDER, Kept
from attar.run.ledger import Ledger, plain
from attar.run.progress import Progress, Silent
from attar.search.loop import search
from attar.sets.aims import check
from attar.sets.lossy import Loss
from attar.streaming import expanding
from attar.streaming import run as streaming
from attar.streaming import settings as stream_settings
from attar.streaming.result import Streamed
from attar.types import Certificate, Json, Score

PathLike = str | os.PathLike[str]
SETS = ("data", "calibrate", "select", "certify", "train")


@dataclass(frozen=True)
class Result:
    """What `compress` hands back; everything in it is about the model decoded from the file's bytes."""

    data: bytes = field(repr=False)
    certificate: Certificate
    before: Score = field(repr=False)
    after: Score = field(repr=False)
    bytes_before: int
    recipe: Recipe
    points: bool
    events: Sequence[Mapping[str, Json]] = field(repr=False)
    adapter: Adapter = field(repr=False)
    seen: Sequence[Seen] = field(repr=False, default=())
    """Every candidate that was tested on the certify split, safest first."""
    fast: FastFile | None = None
    """With a latency goal: what the runtime executes, and its own certificate."""

    @property
    def model(self) -> Any:
        """The compressed model, of the caller's framework."""
        return self.adapter.model()

    @property
    def bytes_after(self) -> int:
        """Size of the whole .attar file."""
        return len(self.data)

    @property
    def ratio(self) -> float:
        """How many times smaller the .attar file is than the model that came in."""
        return self.bytes_before / self.bytes_after

    @property
    def certified(self) -> bool:
        """Whether the bound is within the budget."""
        return self.certificate.verdict == "certified"

    @property
    def within(self) -> bool:
        """Whether what the recipe's guarantee asks for holds: the bound, or the point estimate; and the time."""
        certificates = [self.certificate] + ([] if self.fast is None else [self.fast.certificate])
        if self.fast is not None and not self.fast.in_time:
            return False
        if self.recipe.guarantee == "bound":
            return all(one.verdict == "certified" for one in certificates)
        return all(one.drop <= one.max_drop for one in certificates)

    @property
    def calibration(self) -> Mapping[str, Json] | None:
        """What the number of calibration examples costs (attar/calibration.py); None where they are too few to say."""
        return next((event for event in self.events if event["event"] == "calibration"), None)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from attar.report.notebook import card

        unit = " points" if self.points else ""
        return card(self.certificate, self.bytes_before, self.bytes_after, unit, self.events)

    def save(self, path: PathLike, *, force: bool = False) -> None:
        """Write a .attar file, or, with an ending of the framework's own, a plain model; raises OutputError."""
        place = Path(path)
        outputs.check_free(place.parent, [_entry(place.name, self.adapter)], force)
        with outputs.staged(place.parent) as stage:
            self._write(stage / place.name)
            outputs.publish(stage, place.parent, force)

    def _write(self, path: Path) -> None:
        """One file, by its ending."""
        if path.suffix == ".attar":
            outputs.write(path, self.data)
        elif path.suffix == ".html":
            from attar.report import render

            outputs.write(path, render(self.events).encode())
        elif path.suffix in self.adapter.suffixes or not self.adapter.suffixes[0]:
            outputs.guarded(lambda: self.adapter.save(path), path)
        else:
            raise UsageError(
                f"output {path.name!r}: the ending must be .attar, .html or one of {', '.join(self.adapter.suffixes)}. "
                f"Received {path.suffix!r}. Choose one of these."
            )

    def write_all(self, folder: Path, names: Mapping[str, str]) -> None:
        """Archive, plain model, report and recipe into a folder; the ledger is there already."""
        self._write(folder / names["archive"])
        if (folder / names["archive"]).read_bytes() != self.data:
            raise AttarError(f"archive {names['archive']!r}: the file must read back as it was written. It does not.")
        self._write(folder / names["native"])
        self._write(folder / names["report"])
        outputs.write(folder / names["recipe"], recipes.to_toml(self.recipe).encode())
        if self.fast is not None:
            outputs.write(folder / names["fast"], self.fast.data)
            text = json.dumps(plain(dict(self.fast.record)), indent=1)
            outputs.write(folder / names["record"], f"{text}\n".encode())


def compress(
    model: object,
    data: object = None,
    *,
    recipe: Recipe | None = None,
    out: PathLike | None = None,
    force: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    work: PathLike | None = None,
    **fields: Any,
) -> Result | Streamed:
    """The smallest model that stays within the drop, certified on data the search never saw.

    fields are those of `attar.Recipe` (metric, max_drop, max_relative_drop, confidence, guarantee, calibrate,
    select, certify, seed, ...), or give a whole recipe. data, calibrate, select, certify and train (a set on which
    candidates are trained) are paths or objects (arrays, (x, y), a DataLoader, a tf.data.Dataset). With `out`, that
    folder gets NAME.attar, the model in its own format, report.html, recipe.toml and ledger.jsonl. The model given is
    never changed. Work is kept on the way, in `work` or in a hidden folder beside the outputs, and a run that was
    killed goes on there; what is in `work` stays for further runs. A missed budget is not an error: see
    `Result.within`. Raises UsageError, DataError, ModelError, FormatError, OutputError.
    """
    clock, progress = Clock(), progress or Silent()
    streamed = _streamed(model, recipe, fields)
    job = _job(model, data, recipe, fields, jobs, streaming.opened if streamed else open_model)
    if streamed:
        progress.note(streamed)
        return streaming.compress(job, out, progress, force=force, interrupted=interrupted, work=work)
    clock.budget = job.recipe.time_budget
    names = _names(job)
    if work is not None:
        job = replace(job, kept=Kept(Path(work)))
    if out is None:
        return _run(job, names, Ledger(), progress, interrupted, clock)
    folder = Path(out)
    outputs.check_free(folder, list(names.values()), force)
    _check_apart(job, folder, names)
    if work is None:
        job = replace(job, kept=Kept(folder / FOLDER))
    with outputs.staged(folder) as stage:
        result = _run(job, names, Ledger(stage / names["ledger"]), progress, interrupted, clock)
        progress.stage("files and report", 1)
        result.write_all(stage, names)
        outputs.publish(stage, folder, force)
    kept = Kept(folder / FOLDER)
    if result.seen:
        picking.keep_candidates(kept, result.before, result.seen, {
            "confidence": result.certificate.confidence, "bytes_before": result.bytes_before,
            "file": names["archive"], "native": names["native"],
        })  # fmt: skip
    else:
        kept.clear()
    return result


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
    job = _job(model, data, recipe, fields, None, streaming.opened if streamed else open_model)
    if out is not None:
        outputs.check_free(Path(out), list(_names(job).values()), force)
    (streaming.begin if streamed else pipeline.begin)(job, ledger, Silent())
    return ledger


def evaluate(
    model: object, data: object, metric: object = "accuracy", *, against: object = None, **fields: Any
) -> Score:
    """The metric of a model (or .attar file) on data; `against` is the original where the metric compares with it."""
    measured = resolve_metric(metric)
    recipe = recipes.make(**fields)
    adapter = observing(open_model(model, recipe.factory), measured.name)
    dataset = pipeline.read_whole(data, recipe, adapter)
    original = None
    if measured.relative_to_original:
        if against is None:
            raise UsageError(
                f"metric {measured.name!r}: it compares with the original model. Received no original. Pass --against."
            )
        compared = observing(open_model(against, recipe.factory), measured.name)
        original = score(compared.run, dataset, measured, None).outputs
    return score(adapter.run, dataset, measured, original)


def data_loss(
    quality: float | None,
    model: object = None,
    max_drop: float | None = None,
    *,
    confidence: float = 0.95,
    steps: int = 6000,
    seed: int = 0,
) -> Loss | None:
    """What images of a data set may lose, for attar.sets.pack: None for nothing.

    quality: 1 less the error's root mean square over the pixels' standard deviation, of images that were not trained
    on. max_drop: points of a model's accuracy, as a certificate bounds them; quality is then 0.7 where it is not given.
    Raises UsageError, ModelError.
    """
    check(quality, max_drop, model)
    if max_drop is None and (quality is None or quality == 1):
        return None
    adapter = None if model is None else open_model(model)
    return Loss(quality, max_drop, adapter, confidence, Settings(steps=steps, seed=seed))


def inspect(model: object, *, factory: str | None = None) -> list[dict[str, Json]]:
    """One row for each layer of a model or .attar file: name, kind, shape, bits per weight, zeros, bytes, share."""
    if isinstance(model, str | os.PathLike) and Path(model).suffix == ".attar":
        path = Path(model)
        archive = read_archive(path)
        archive.verify()
        if archive.files:
            return summary.packed_rows(archive)
        if archive.parts:
            return summary.part_rows(archive)
        return summary.layer_rows(archive, path.stat().st_size)
    adapter = open_model(model, factory)
    return summary.model_rows(adapter, pipeline.size_of(model, adapter))


def verify(path: PathLike) -> list[dict[str, Json]]:
    """One row for each section of a .attar file: its name, kind, bytes, and what is wrong with it, or None.

    Everything is read, held against its checksum and decoded; nothing in the file is run. A file whose header or
    manifest is broken is one row. Raises UsageError where there is no such file.
    """
    place = Path(path)
    if not place.is_file():
        raise UsageError(f"archive {str(path)!r}: it must be a file. Received none. Check the path.")
    try:
        archive = read_archive(place)
    except FormatError as error:
        return [{"section": place.name, "kind": "file", "bytes": place.stat().st_size, "error": str(error)}]
    return summary.section_rows(archive)


def load(path: PathLike, into: object | None = None, *, packed: bool | int = False) -> Any:
    """The working model of a .attar file, in its own framework; `into` gives the class where the file has no graph.

    `into` itself is not changed: a copy with the file's weights is returned. packed: the file's bytes stay in memory
    and each weight is decoded whenever it is used, with the same outputs; a number lets so many bytes of decoded
    weights stay. Such a model has no state dict of its layers and is not trained. Raises FormatError, ModelError,
    UsageError.
    """
    if packed is False:
        return from_archive(read_archive(Path(path)), into).model()
    if packed < 0:
        raise UsageError(f"packed: bytes that stay decoded must be 0 or more. Received {packed}. Use True for none.")
    if not Path(path).is_file():
        raise FormatError(f"file {str(path)!r}: it must be readable. Received none. Check the path.")
    return packed_model(read_archive(Path(path).read_bytes()), into, 0 if packed is True else int(packed))


def save(result: Result, path: PathLike, *, force: bool = False) -> None:
    """`result.save(path)`."""
    result.save(path, force=force)


def expand(
    path: PathLike, out: PathLike, *, into: object | None = None, force: bool = False, sparse: bool = False,
    stream: bool = False, progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Write the plain model of a .attar file to `out`: a file, or a folder in which it gets the archive's name.

    sparse: weights without their zeros where they are smaller so; raises ModelError where the format has no layout for
    that. stream: tensor by tensor, for Hugging Face models; done without asking where memory would not do.
    """
    source, place = Path(path), Path(out)
    archive = read_archive(source)
    if into is None and not sparse and expanding.wants(archive, asked=stream):
        return expanding.expand(source, place, progress or Silent(), force=force)
    adapter = from_archive(archive, into)
    suffixes = _sparse_suffixes(adapter) if sparse else adapter.suffixes
    if place.is_dir() or place.suffix not in adapter.suffixes:
        place = place / (source.stem + suffixes[0])
    outputs.check_free(place.parent, [_entry(place.name, adapter)], force)
    with outputs.staged(place.parent) as stage:
        if isinstance(adapter, Sparse) and sparse:
            changed = outputs.guarded(lambda: adapter.save_sparse(stage / place.name), place)
            (progress or Silent()).note(summary.sparse_line(changed))
        else:
            outputs.guarded(lambda: adapter.save(stage / place.name), place)
        outputs.publish(stage, place.parent, force)
    return place


def _sparse_suffixes(adapter: Adapter) -> tuple[str, ...]:
    """Endings of files with sparse weights; raises ModelError where there are none."""
    suffixes = adapter.sparse_suffixes if isinstance(adapter, Sparse) else ()
    if not suffixes:
        raise ModelError(
            "--sparse: ONNX files and PyTorch state dicts have a layout for weights with many zeros. Received a "
            f"{adapter.framework} model, whose files have none. Leave --sparse out: the .attar file is the small one."
        )
    return suffixes


def _streamed(model: object, recipe: Recipe | None, fields: Mapping[str, Any]) -> str | None:
    """Why a run goes block by block (attar/streaming), or None."""
    told: Mapping[str, Any] = {**({} if recipe is None else recipe.model_dump(exclude_none=True)), **fields}
    given = model if model is not None else told.get("model")
    why = stream_settings.wanted(given, told.get("settings", {}), into=told.get("factory"))
    if why:
        stream_settings.check(told)
    return why


def _job(
    model: object, data: object, recipe: Recipe | None, fields: dict[str, Any], jobs: int | None,
    opening: Callable[..., Adapter] = open_model,
) -> Job:  # fmt: skip
    """Everything opened, read and checked."""
    sets: dict[str, object] = {name: fields.pop(name, None) for name in SETS[1:]}
    sets["data"] = data
    if recipe is not None:
        sets = {name: value if value is not None else getattr(recipe, name) for name, value in sets.items()}
        fields = {**recipe.model_dump(exclude_none=True), **fields}
    metric = resolve_metric(fields.get("metric", "accuracy"))
    told = {name: value if isinstance(value, str | None) else str(value) if isinstance(value, os.PathLike)
            else f"<{type(value).__name__}>" for name, value in sets.items()}  # fmt: skip
    model = model if model is not None else fields.get("model")
    name = str(model) if isinstance(model, str | os.PathLike) else type(model).__name__
    plan = recipes.make(**{**fields, **told, "model": name, "metric": metric.name})
    budget = Budget(plan.max_drop, plan.max_relative_drop, plan.confidence, plan.guarantee)
    opened = opening(Path(model) if isinstance(model, os.PathLike) else model, plan.factory)
    adapter = observing(opened, metric.name)
    size = pipeline.size_of(model, adapter)
    train = sets.pop("train")
    splits = pipeline.read_splits(sets, plan, adapter, metric)
    tuned, warnings = pipeline.read_train(train, plan, adapter, splits)
    ready = pipeline.prepare(replace(splits, warnings=(*splits.warnings, *warnings)), tuned, plan)
    into = None if isinstance(model, str | os.PathLike) and plan.factory is None else model_of(model, plan.factory)
    job = Job(
        plan, adapter, ready.splits, metric, budget, size, name, ready.train, into=into, jobs=jobs,
        data_steps=ready.steps,
    )  # fmt: skip
    removal.check(job)
    scale_moves.check(job)
    if plan.goal != "size":
        registry.get("goal", "latency").check(job)
    return job


def _names(job: Job) -> dict[str, str]:
    """File names of the outputs."""
    path = Path(job.model_name)
    suffix = path.suffix if path.suffix in job.adapter.suffixes else job.adapter.suffixes[0]
    stem = path.stem if job.adapter.suffixes[0] else path.resolve().name
    fast = f"{stem}.fast.onnx"
    return {
        "archive": f"{stem}.attar", "native": _entry(f"{stem}{suffix}", job.adapter), "report": "report.html",
        "recipe": "recipe.toml", "ledger": "ledger.jsonl",
        **({} if job.recipe.goal == "size" else {"fast": fast, "record": f"{fast}.json"}),
    }  # fmt: skip


def _entry(name: str, adapter: Adapter) -> str:
    """A model's name among the outputs: with "/" at its end where the format is a folder."""
    return name if adapter.suffixes[0] else f"{name}/"


def _check_apart(job: Job, folder: Path, names: Mapping[str, str]) -> None:
    """That a folder that comes in is not the one that goes out; raises OutputError, also with force."""
    if not job.adapter.suffixes[0] and (folder / names["native"]).resolve() == Path(job.model_name).resolve():
        raise OutputError(
            f"output {str(folder)!r}: the compressed model must not replace the original. Received the folder that "
            "holds it. Choose another place with -o."
        )


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
    job = removal.shrunk(job, ledger, progress)
    job = scale_moves.moved(job, ledger, progress)
    loop = pipeline.loop_of(job, ledger, progress)
    calibration.gauged(job, loop, ledger, progress)
    recovery = pipeline.recovery_of(job, loop)
    extend, alone = (None, False) if recovery is None else (recovery.extend, recovery.alone)

    def stop() -> bool:
        return interrupted() or clock.over(loop.needed())

    outcome = search(loop, job.recipe.evaluations, stop, extend, alone=alone)
    progress.stage("reading the file back", 1)
    final = pipeline.read_back(job, loop, outcome)
    ledger.add("result", **summary.result_fields(job, loop, outcome, clock.elapsed(), names))
    return Result(
        outcome.candidate.data, outcome.certificate, outcome.before, outcome.after, job.bytes_before, job.recipe,
        job.metric.unit == "points", ledger.events, final,
        tuple(Seen(candidate.data, candidate.trained, after) for candidate, after in loop.certified),
    )  # fmt: skip
