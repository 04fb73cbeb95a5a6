"""What is measured of a model before the search: statistics of its layers' inputs, and what errors in them cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import attar
from attar.adapters.base import Reading
from attar.adapters.folded import Moments, held
from attar.errors import DataError, ModelError
from attar.evaluate.base import IGNORED
from attar.job import Job
from attar.run.kept import key_of
from attar.run.progress import Progress
from attar.search import remember
from attar.search.divergence import Kind, divergence, kind_of
from attar.search.sensitivity import by_gradients, measure_rows, uncertainty
from attar.search.subject import Measure, Subject, blind_stats, role, shared
from attar.types import Array, Dataset, Json, Stats

SENSITIVITY_EXAMPLES = 2000
"""Examples of the calibrate split used for sensitivities and their correction."""
CORRECTION_WORK, GLANCE = 5e11, 128
"""Multiply-adds that may be spent on correcting the sensitivities of all layers, and the least examples for each.

512 drawn where the model is undecided know a mean over SENSITIVITY_EXAMPLES to 3 or 4 % as a rule; all of these know
the mean of what they stand for to 6 to 9 % (three small models, every layer).
"""
READING_WORK = 2e12
"""The same for models that read texts, whose outputs say less of where they are undecided."""
GRADIENT_WORK, READ = 3e11, 8
"""Multiply-adds of examples whose gradients are taken from models that read texts, and the least of such examples."""
KEPT_FLOATS = 1 << 26
"""Outputs of layers that are kept for gradients at once; norms and activations beside them keep as many again."""
BATCH = 256
NUMERIC = ("mse", "mae", "r2", "cosine", "mrr")
"""Metrics of plain numbers."""


def subject_of(job: Job, progress: Progress) -> Subject:
    """Layers, weights and input statistics of a job that `begin` has checked."""
    adapter = job.adapter
    layers = [layer for layer in adapter.layers() if layer.tied_to is None]
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
    # Those of a model that reads texts stay whole: layers that read the same have one second moment.
    stats: MutableMapping[str, Stats] = {} if isinstance(adapter, Reading) else Moments()
    for layer in layers:  # each goes as soon as it is made use of: of convolutions two are seen, and one is kept
        stats[layer.name] = shared(layer, seen.pop(layer.name, None) or blind_stats(layer))
    weights = {layer.name: adapter.read(layer.name) for layer in layers}  # copies, when the statistics' peak is over
    try:
        skeleton = adapter.skeleton()
    except ModelError as error:
        progress.note(str(error))
        skeleton = None
    meta = {"framework": adapter.framework, "attar": attar.__version__}
    remainder = {name: np.array(array) for name, array in adapter.remainder().items()}
    return Subject(
        adapter, layers, weights, stats, remainder, skeleton, meta,
        tuple(job.recipe.methods), job.recipe.settings, job.engine, job.recipe.coder, tuple(job.recipe.exclude),
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

    count = _glance(subject, len(few), reading=isinstance(adapter, Reading))
    if count < len(few) and not isinstance(adapter, Reading):
        rows, weights = drawn(original, kind, count)
        before = original[rows]
    else:  # no copy: outputs of models that read texts are large
        rows, weights, before = np.arange(count), np.full(count, 1 / count), original[:count]
    glance = few.pick(rows)

    # Texts are filled up to one length, and outputs do not move where they are.
    filled = isinstance(adapter, Reading) and glance.labels is not None
    counted = max(float(np.mean(glance.labels != IGNORED)), 1e-3) if filled else 1.0

    def measure() -> float:
        changed = np.concatenate([adapter.run(batch) for batch in glance.batches(BATCH)])
        return float(weights @ divergence(before, changed, kind)) / counted

    subject, marks = subject.halved(measure), job.marks()

    def sensitive() -> tuple[Mapping[str, Stats], Json]:
        found, method = with_sensitivities(job, subject, few, kind, progress)
        return found.stats, method

    key = key_of(
        "sensitivities", marks.get("model"), marks.get("calibrate"), job.recipe.sensitivity, kind, job.recipe.seed
    )  # fmt: skip
    stats, method = remember.sensitivities(job.kept, key, subject.stats, sensitive)
    return replace(subject, stats=stats), method, kind, measure


def drawn(original: Array, kind: Kind, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Examples that tell the mean KL over all of them, and what each counts in it.

    original [n, ...] are the model's outputs. At most so many are drawn, in proportion to `uncertainty`, at even places
    of its sum (systematic sampling: they spread over the set), and count by its inverse.
    """
    odds = uncertainty(original, kind)
    ends = np.cumsum(odds)
    places = np.searchsorted(ends, (np.arange(count) + 0.5) * (ends[-1] / count))
    rows, times = np.unique(places, return_counts=True)
    return rows, times * (odds.mean() / odds[rows]) / count


def _glance(subject: Subject, examples: int, *, reading: bool) -> int:
    """On how many examples the KL of one changed layer is measured: of large models on fewer, but GLANCE at least.

    reading: layers of one role are changed together, and an example has many positions.
    """
    changes, least, spent = len(subject.layers), GLANCE, CORRECTION_WORK
    if reading:
        changes, least, spent = len({role(layer.name) for layer in subject.layers}), READ, READING_WORK
    return int(np.clip(spent / changes / work(subject), min(least, examples), examples))


def work(subject: Subject) -> float:
    """Multiply-adds of an example."""
    counts = ((x.size, held(subject.stats, x.name).stats) for x in subject.layers if x.kind != "embedding")
    return max(float(sum(size * stats.count / max(stats.samples, 1) for size, stats in counts)), 1.0)


def _differentiable(subject: Subject) -> int:
    """Examples in a batch whose activations are all kept for gradients."""
    floats = sum(
        layer.rows * seen.count / max(seen.samples, 1)
        for layer in subject.layers
        for seen in [held(subject.stats, layer.name).stats]
    )
    return int(np.clip(KEPT_FLOATS / max(floats, 1.0), 1, BATCH))


def _few(job: Job, subject: Subject) -> Dataset:
    """The examples that sensitivities are measured on: of models that read texts as many as a gradient allows."""
    calibrate, most = job.splits.calibrate, SENSITIVITY_EXAMPLES
    if isinstance(job.adapter, Reading):
        most = int(np.clip(GRADIENT_WORK / work(subject), READ, most))
    return calibrate.take(range(min(len(calibrate), most)))


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
