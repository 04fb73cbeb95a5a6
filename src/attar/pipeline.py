"""The stages of one compression, each a function of what the last one made: read, measure, search, sum up."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import attar
from attar.adapters.base import Adapter, Differentiable, Reading, Texted
from attar.archive import read_archive
from attar.coding import simd_path
from attar.copies.prepare import DataSettings, Prepared, Step, prepared
from attar.data.fit import fit_inputs
from attar.data.overlap import without
from attar.data.read import read as read_data
from attar.data.splits import make_splits
from attar.data.texts import TextSettings, read_texts
from attar.errors import AttarError, DataError, ModelError, UsageError
from attar.evaluate.base import Metric
from attar.evaluate.budget import Budget
from attar.evaluate.certificate import smallest_certifiable
from attar.evaluate.score import check_labels
from attar.opening import check_weights, from_archive
from attar.recipe import Recipe
from attar.recover import pruning
from attar.recover.augment import changes_of
from attar.recover.settings import RecoverySettings
from attar.recover.teacher import Teacher
from attar.run.kept import Kept, key_of
from attar.run.ledger import Ledger
from attar.run.progress import Progress
from attar.search import remember
from attar.search.divergence import Kind, divergence, kind_of
from attar.search.in_order import Outcome
from attar.search.loop import Loop, first_slope
from attar.search.params import AUGMENT, CALIBRATION, DATA, RECOVERY, TEXT, check_rules, checked
from attar.search.recovery import Recovery
from attar.search.sensitivity import by_gradients, measure_rows
from attar.search.subject import Candidate, Measure, Subject, blind_stats, role, shared
from attar.selection.base import CalibrationSettings
from attar.types import Array, Dataset, Json, Layer, Score, Splits, Stats, TensorSpec

SENSITIVITY_EXAMPLES = 2000
"""Examples of the calibrate split used for sensitivities and their correction."""
CORRECTION_WORK, GLANCE = 2e12, 128
"""Multiply-adds that may be spent on correcting the sensitivities of all layers, and the least examples for each."""
GRADIENT_WORK, READ = 3e11, 8
"""Multiply-adds of examples whose gradients are taken from models that read texts, and the least of such examples."""
KEPT_FLOATS = 1 << 26
"""Outputs of layers that are kept for gradients at once; norms and activations beside them keep as many again."""
BATCH = 256
WHOLE = 1 << 62
"""As many examples of a set as a split may have."""
NUMERIC = ("mse", "mae", "r2", "cosine", "mrr")
"""Metrics of plain numbers."""
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
    """What drops are measured from, where `adapter` has lost channels."""
    into: object | None = None
    """What the result is put into: the caller's own object (copied), or None to rebuild it from the file alone."""
    jobs: int | None = None
    data_steps: tuple[Step, ...] = ()
    """What was looked for in the sets, and left out of them."""
    kept: Kept = field(default_factory=Kept)
    """Work of this run, or of one that was killed."""

    def marks(self) -> dict[str, str]:
        """Hashes of the model and the sets, by which work is kept; none where nothing is."""
        if self.kept.folder is None:
            return {}
        sets = {name: remember.data_mark(getattr(self.splits, name)) for name in ("calibrate", "select", "certify")}
        return {"model": remember.model_mark(self.adapter), **sets}


def read_splits(sets: Mapping[str, object], recipe: Recipe, adapter: Adapter, metric: Metric) -> Splits:
    """The user's data, fitted to the model's input, as calibrate / select / certify."""
    if all(value is None for value in sets.values()):
        raise UsageError(
            "data: examples are needed to measure the drop. Received none. Pass --data, or --calibrate and --certify."
        )
    fitted = {name: None if value is None else _fitted(value, recipe, adapter) for name, value in sets.items()}
    _check_alike(fitted)
    return make_splits(
        fitted["data"],
        calibrate=fitted["calibrate"],
        select=fitted["select"],
        certify=fitted["certify"],
        seed=recipe.seed,
        n_calibrate=recipe.calibration_examples if choice_of(recipe) == "random" else WHOLE,
        n_select=recipe.select_examples,
        metric_needs_labels=metric.needs_labels,
    )


def choice_of(recipe: Recipe) -> str:
    """How the calibration examples are chosen: the recipe's [settings.calibration], checked; raises UsageError."""
    return checked(CalibrationSettings, CALIBRATION, recipe.settings).method


def read_train(source: object, recipe: Recipe, adapter: Adapter, splits: Splits) -> tuple[Dataset | None, list[str]]:
    """The set for recovery without what is measured on, and warnings.

    Raises ModelError without gradients, UsageError for settings that cannot be, or cannot be without a set.
    """
    pruning.check(recovery_settings(recipe), recipe.methods, trains=source is not None)
    image_changes(recipe)
    if source is None:
        return None, []
    if not isinstance(adapter, Differentiable):
        raise ModelError(
            f"model: recovery needs gradients. Received a {adapter.framework} model, which gives none. "
            "Leave the training set out."
        )
    fitted = _fitted(source, recipe, adapter)
    train = fitted if isinstance(fitted, Dataset) else fitted["train"]
    _check_alike({"train": train, "certify": splits.certify})
    return without(train, {"select": splits.select, "certify": splits.certify})


def prepare(splits: Splits, train: Dataset | None, recipe: Recipe) -> Prepared:
    """The data stage: the sets without what the recipe's [settings.data] leaves out; raises DataError, UsageError."""
    settings = checked(DataSettings, DATA, recipe.settings)
    if settings.labels != "keep" and train is None:
        raise UsageError(
            "settings.data.labels: only a training set's labels are left out. Received no training set. Pass --train, "
            "or leave the setting out."
        )
    return prepared(splits, train, settings, recipe.seed)


def _check_alike(sets: Mapping[str, Dataset | Mapping[str, Dataset] | None]) -> None:
    """That examples of all sets have one shape, also where the model's own input shape is not known."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, data in sets.items():
        parts = {name: data} if isinstance(data, Dataset) else {f"{name} {k}": v for k, v in (data or {}).items()}
        for place, part in parts.items():
            shapes[place] = {key: values.shape[1:] for key, values in part.inputs.items()}
    first = next(iter(shapes))
    for place, shape in shapes.items():
        if list(shape.values()) != list(shapes[first].values()):
            raise DataError(
                f"data ({place}): its examples must have the shape of those of {first}, {shapes[first]}. "
                f"Received {shape}. Bring them into one shape."
            )


def _fitted(source: object, recipe: Recipe, adapter: Adapter) -> Dataset | Mapping[str, Dataset]:
    """One source read, by the model's own means where it has some; every part of it fitted to the model's inputs."""
    if not isinstance(adapter, Texted):
        return _of_specs(source, recipe, adapter.inputs())
    window = checked(TextSettings, TEXT, recipe.settings).window
    texts = read_texts(source)
    data = _of_specs(source if texts is None else adapter.read_texts(texts, window), recipe, adapter.inputs())
    if isinstance(data, Dataset):
        return adapter.labelled(data)
    return {name: adapter.labelled(part) for name, part in data.items()}


def _of_specs(source: object, recipe: Recipe, specs: Sequence[TensorSpec]) -> Dataset | Mapping[str, Dataset]:
    """One source read; every part of it fitted to a model's inputs."""
    options: dict[str, Any] = {"scale": recipe.scale, "mean": recipe.mean, "std": recipe.std}
    data = source if isinstance(source, Dataset) else read_data(source, specs=specs)
    if isinstance(data, Dataset):
        return fit_inputs(data, specs, **options)
    return {name: fit_inputs(part, specs, **options) for name, part in data.items()}


def read_whole(source: object, recipe: Recipe, adapter: Adapter) -> Dataset:
    """One data set for an evaluation: the test part where a set comes in parts."""
    return _whole(_fitted(source, recipe, adapter))


def read_fitted(source: object, recipe: Recipe, specs: Sequence[TensorSpec]) -> Dataset:
    """The same for a model of which only the inputs are known."""
    return _whole(_of_specs(source, recipe, specs))


def _whole(data: Dataset | Mapping[str, Dataset]) -> Dataset:
    if isinstance(data, Dataset):
        return data
    return data["test"] if "test" in data else next(iter(data.values()))


def check(job: Job) -> None:
    """That nothing would stop the run after hours: parameters, layers, finite weights, a model that runs, and labels.

    Raises UsageError, ModelError, DataError.
    """
    layers = [layer for layer in job.adapter.layers() if layer.tied_to is None]
    check_rules(job.recipe, [layer.name for layer in layers])
    check_weights({layer.name: job.adapter.read(layer.name) for layer in layers})
    for data in (job.splits.select, job.splits.certify):
        check_labels(job.adapter.run, data, job.metric)


def begin(job: Job, ledger: Ledger, progress: Progress) -> None:
    """What is known before any work, for the ledger and the reader."""
    check(job)
    splits = {name: len(getattr(job.splits, name)) for name in ("calibrate", "select", "certify")}
    warnings = [*job.splits.warnings, *_forewarned(job)]
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


def _forewarned(job: Job) -> list[str]:
    """What these splits cannot show, said up front."""
    n, limit = len(job.splits.certify), job.budget.max_drop
    if job.metric.unit != "points" or limit is None or job.budget.guarantee != "bound":
        return []
    least = smallest_certifiable(n, 0.0, job.budget.confidence)
    if least <= limit:
        return []
    return [
        f"certify: {n:,} examples cannot certify a drop of {limit:g} points, even of an unchanged model; the least "
        f"they can is {least:.2f} points."
    ]


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


def subject_of(job: Job, progress: Progress) -> Subject:
    """Layers, weights and input statistics of a job that `begin` has checked."""
    adapter = job.adapter
    layers = [layer for layer in adapter.layers() if layer.tied_to is None]
    weights = {layer.name: adapter.read(layer.name) for layer in layers}
    data = job.splits.calibrate
    progress.stage("statistics", -(-len(data) // BATCH))

    def batches() -> Iterator[dict[str, Array]]:
        for batch in data.batches(BATCH):
            yield batch
            progress.step()

    def see() -> Mapping[str, Stats]:
        found = adapter.moments(batches())
        return adapter.settled(found) if isinstance(adapter, Reading) else found

    marks = job.marks()
    key = key_of("moments", marks.get("model"), marks.get("calibrate"), BATCH)
    seen = remember.moments(job.kept, key, see)
    stats = {layer.name: shared(layer, seen.get(layer.name) or blind_stats(layer)) for layer in layers}
    try:
        skeleton = adapter.skeleton()
    except ModelError as error:
        progress.note(str(error))
        skeleton = None
    meta = {"framework": adapter.framework, "attar": attar.__version__}
    remainder = {name: np.array(array) for name, array in adapter.remainder().items()}
    return Subject(
        adapter, layers, weights, stats, remainder, skeleton, meta,
        tuple(job.recipe.methods), job.recipe.settings, job.jobs, job.recipe.coder, tuple(job.recipe.exclude),
        job.recipe.layers, job.kept,
    )  # fmt: skip


def measured(job: Job, progress: Progress) -> tuple[Subject, str, Kind, Measure]:
    """Statistics and sensitivities, how these were found, what the outputs are, and the KL from the model as it is.

    Raises DataError where outputs are not finite.
    """
    subject = subject_of(job, progress)
    adapter, few = job.adapter, _few(job, subject)
    original = np.concatenate([adapter.run(batch) for batch in few.batches(BATCH)])
    if not np.isfinite(original).all():
        raise DataError(
            "model: its outputs on the user's data must be finite. Received NaN or infinite outputs. "
            "Check the scaling of the inputs."
        )
    kind = kind_of(original, job.metric.name not in NUMERIC)

    glance = few.take(range(_glance(subject, len(few), reading=isinstance(adapter, Reading))))

    def measure() -> float:
        changed = np.concatenate([adapter.run(batch) for batch in glance.batches(BATCH)])
        return float(divergence(original[: len(changed)], changed, kind).mean())

    subject, marks = subject.halved(measure), job.marks()

    def sensitive() -> tuple[Mapping[str, Stats], Json]:
        found, method = with_sensitivities(job, subject, few, kind, progress)
        return found.stats, method

    key = key_of(
        "sensitivities", marks.get("model"), marks.get("calibrate"), job.recipe.sensitivity, kind, job.recipe.seed
    )  # fmt: skip
    stats, method = remember.sensitivities(job.kept, key, subject.stats, sensitive)
    return replace(subject, stats=stats), method, kind, measure


def _glance(subject: Subject, examples: int, *, reading: bool) -> int:
    """On how many examples the KL of one changed layer is measured: of large models on fewer, but GLANCE at least.

    reading: layers of one role are changed together, and an example has many positions.
    """
    changes, least = len(subject.layers), GLANCE
    if reading:
        changes, least = len({role(layer.name) for layer in subject.layers}), READ
    return int(np.clip(CORRECTION_WORK / changes / _work(subject), min(least, examples), examples))


def _work(subject: Subject) -> float:
    """Multiply-adds of an example."""
    counts = ((layer.size, subject.stats[layer.name]) for layer in subject.layers if layer.kind != "embedding")
    return max(float(sum(size * stats.count / max(stats.samples, 1) for size, stats in counts)), 1.0)


def _differentiable(subject: Subject) -> int:
    """Examples in a batch whose activations are all kept for gradients."""
    floats = sum(
        layer.rows * subject.stats[layer.name].count / max(subject.stats[layer.name].samples, 1)
        for layer in subject.layers
    )
    return int(np.clip(KEPT_FLOATS / max(floats, 1.0), 1, BATCH))


def _few(job: Job, subject: Subject) -> Dataset:
    """The examples that sensitivities are measured on: of models that read texts as many as a gradient allows."""
    calibrate, most = job.splits.calibrate, SENSITIVITY_EXAMPLES
    if isinstance(job.adapter, Reading):
        most = int(np.clip(GRADIENT_WORK / _work(subject), READ, most))
    return calibrate.take(range(min(len(calibrate), most)))


def loop_of(job: Job, ledger: Ledger, progress: Progress) -> Loop:
    """Everything measured that the search needs: statistics, the original's scores, sensitivities."""
    subject, method, kind, measure = measured(job, progress)
    alike = role if isinstance(job.adapter, Reading) else None
    blunt, marks = subject, job.marks()

    def correct() -> tuple[Mapping[str, Stats], Json]:
        found, factors = blunt.corrected(first_slope(blunt), measure, progress, alike)
        return found.stats, factors

    sharp = {name: stats.sensitivity for name, stats in blunt.stats.items()}
    methods = [[list(names), str(settings)] for names, settings in map(blunt.allowed, blunt.layers)]
    key = key_of("corrected", marks.get("model"), marks.get("calibrate"), sharp, methods)
    stats, factors = remember.sensitivities(job.kept, key, blunt.stats, correct)
    subject = replace(blunt, stats=stats)
    levels = {layer.name: _level(layer, subject) for layer in subject.layers}
    ledger.add("sensitivity", method=method, layers=levels, factors=factors)
    original = job.original or job.adapter
    loop = Loop(
        subject, job.splits, job.metric, job.budget, kind, ledger, progress, original, job.bytes_before,
        kept=job.kept, marks=marks and {**marks, "original": remember.model_mark(original)},
    )  # fmt: skip
    loop.originals()
    return loop


def recovery_settings(recipe: Recipe) -> RecoverySettings:
    """The recipe's [settings.recovery], checked; raises UsageError."""
    return checked(RecoverySettings, RECOVERY, recipe.settings)


def image_changes(recipe: Recipe) -> dict[str, Any]:
    """The changes that recovery makes to images, with the parameters of [settings.augment]; raises UsageError."""
    return changes_of(recovery_settings(recipe).augment, recipe.settings.get(AUGMENT, {}))


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


def with_sensitivities(job: Job, subject: Subject, few: Dataset, kind: Kind, progress: Progress) -> tuple[Subject, str]:
    """The subject with row sensitivities, and how they were found: by gradients only where asked for and possible."""
    fisher, adapter = getattr(job.adapter, "fisher", None), job.adapter
    if isinstance(adapter, Reading) or (job.recipe.sensitivity == "fisher" and fisher and kind != "regression"):
        progress.stage("gradients", 1)
        assert fisher is not None
        rows = fisher(list(few.batches(_differentiable(subject))), job.recipe.seed)
        seen = adapter.weighed(subject.stats) if isinstance(adapter, Reading) else subject.stats
        return replace(subject, stats=by_gradients(subject.layers, subject.weights, seen, rows)), "fisher"
    if job.recipe.sensitivity == "fisher":
        progress.note(f"sensitivity: {job.adapter.framework} models give no gradients here; output KL is measured.")
    stats = measure_rows(
        job.adapter, subject.layers, subject.weights, subject.stats, few, kind, seed=job.recipe.seed, progress=progress
    )
    return replace(subject, stats=stats), "output-kl"


def _level(layer: Layer, subject: Subject) -> float:
    """Mean sensitivity of a layer's rows."""
    rows = subject.stats[layer.name].sensitivity
    return 1.0 if rows is None else float(rows.mean())


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


def read_back(job: Job, loop: Loop, outcome: Outcome[Candidate]) -> Adapter:
    """The model made from the archive's bytes, checked to answer like the one that was certified."""
    archive, batch = read_archive(outcome.candidate.data), next(loop.splits.certify.batches(BATCH))
    if archive.skeleton() is not None:
        alone = from_archive(archive)
        check_answers(alone, batch, outcome.after)
        if job.into is None:
            return alone
    elif job.into is None:
        loop.subject.put(outcome.candidate)
        return loop.subject.adapter
    adapter = from_archive(archive, job.into)
    check_answers(adapter, batch, outcome.after)
    return adapter


def check_answers(adapter: Adapter, batch: Mapping[str, Array], after: Score) -> None:
    """The first examples of the certify split, answered as when the candidate was certified; raises AttarError."""
    expected, got = after.outputs[:BATCH], adapter.run(batch)
    scale = float(np.abs(expected).max(initial=0)) + 1e-6
    if got.shape != expected.shape or not np.allclose(got, expected, rtol=1e-3, atol=1e-3 * scale, equal_nan=True):
        raise AttarError(
            "archive: the model rebuilt from the file must answer like the one that was evaluated. It does not. "
            "This is a defect in attar: please report the model."
        )
