"""The stage that tries parameters of methods, and how many channels go: what has no gradient of bytes.

A trial compresses the model with other parameters and counts the bytes of its file at one output KL: that at which the
search lands with the parameters as they were. Outputs alone are looked at, of examples of the select split; the
parameters that did best must be better on others of its examples too, or those of the recipe stay. The run then goes on
as if its recipe had named what was found. The certify split is not touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np

from attar import pipeline, registry, removal, scale_moves
from attar.adapters.base import Adapter
from attar.errors import UsageError
from attar.job import Job
from attar.measuring import BATCH, work
from attar.parameters import Range, ranges
from attar.recipe import Recipe, effort, with_setting
from attar.run.clock import Clock
from attar.run.kept import Kept, key_of
from attar.run.ledger import Ledger
from attar.run.progress import Progress, Silent
from attar.search.bracket import slope_of, solve
from attar.search.course import landing, target_of
from attar.search.divergence import divergence
from attar.search.in_order import Stop
from attar.search.loop import Loop
from attar.search.params import REMOVAL
from attar.search.pieces import order_of
from attar.search.subject import Candidate, Subject
from attar.search.tune import Place, Values, needs_optuna, tried
from attar.structure.select import RemovalSettings
from attar.types import Array, Dataset, Json

EXAMPLES, FEWEST = 2000, 64
"""Most and fewest examples that trials are measured on; as many others confirm what was found."""
WORK = 2e11
"""Multiply-adds that a trial may take, but for FEWEST examples."""
APART = 2**0.5
"""Ratio of the slopes of a trial's files to that where the aim should be: one file alone has luck with its steps."""
STEEP, FLAT = -0.8, -0.08
"""Bounds of the power with which bytes fall with KL."""
LEAST_KL = 1e-9
REMOVED: Place = ("", "remove")


def space_of(recipe: Recipe) -> dict[Place, Range]:
    """What a run of a recipe may try: the parameters of its methods that it does not name, and channels.

    Channels where some are to go: from none to the share that was asked for.
    """
    tables: dict[str, type] = {name: registry.get("method", name).Params for name in recipe.methods}
    found: dict[Place, Range] = {}
    if recipe.remove:
        found[REMOVED] = Range(recipe.remove, (), 0.0, recipe.remove)
        tables[REMOVAL] = RemovalSettings
    for table, cls in tables.items():
        given = recipe.settings.get(table, {})
        found |= {(table, name): one for name, one in ranges(cls).items() if name not in given}
    return found


def with_values(recipe: Recipe, values: Values) -> Recipe:
    """A recipe that names these values."""
    settings: Mapping[str, Mapping[str, Any]] = recipe.settings
    for (table, name), value in values.items():
        if table:
            settings = with_setting(settings, table, name, value)
    fields = {name: value for (table, name), value in values.items() if not table}
    return recipe.model_copy(update={**fields, "settings": {k: dict(v) for k, v in settings.items()}})


def check(job: Job) -> None:
    """That a run can be tuned where that is asked for; raises UsageError."""
    if job.recipe.tune is None:
        return
    needs_optuna()
    if not space_of(job.recipe):
        raise UsageError(
            "tune: a parameter must be left to try. Received a recipe that names them all, or methods without any. "
            "Leave --tune out."
        )


@dataclass
class Bench:
    """What trials are measured with: examples, the original's outputs on them, and the KL at which bytes count."""

    job: Job
    loop: Loop
    slope: float
    data: Dataset
    original: Array
    aim: float = 0.0
    made: dict[str, Subject] = field(default_factory=dict)
    """The model without some channels, the last one, by what decides these."""

    @classmethod
    def of(cls, job: Job, loop: Loop, slope: float, rows: Sequence[int]) -> Bench:
        """A bench on some examples of the select split; the original is scored there already."""
        bench = cls(job, loop, slope, loop.splits.select.take(rows), loop.before["select"].outputs[np.asarray(rows)])
        files = bench._files(bench.subject(job.recipe), slope)
        bench.aim = float(np.exp(np.mean([np.log(kl) for _, kl in files])))
        return bench

    def subject(self, recipe: Recipe) -> Subject:
        """The model under a recipe's parameters."""
        mark = str((recipe.remove, recipe.settings.get(REMOVAL)))
        if recipe.remove == self.job.recipe.remove and not any(t == REMOVAL for t, _ in _changed(self.job, recipe)):
            subject = self.loop.subject
        else:
            if mark not in self.made:
                self.made = {mark: ready(replace(self.job, recipe=recipe), Silent()).subject}
            subject = self.made[mark]
        return replace(subject, settings=recipe.settings, kept=Kept())

    def size(self, recipe: Recipe) -> tuple[float, list[tuple[int, float]]]:
        """Bytes at the aim, and the (bytes, KL) of the files that they are read from, by a line through these."""
        with left_as_it_was(self.job.adapter):
            files = self._files(self.subject(recipe), self.slope)
        sizes, kls = (np.log(np.array(column)) for column in zip(*files, strict=True))
        spread = float(np.square(kls - kls.mean()).sum())
        fall = float(np.sum((kls - kls.mean()) * (sizes - sizes.mean()))) / max(spread, 1e-12)
        return float(np.exp(sizes.mean() + np.clip(fall, STEEP, FLAT) * (np.log(self.aim) - kls.mean()))), files

    def _files(self, subject: Subject, slope: float) -> list[tuple[int, float]]:
        """Bytes and KL of the file at a slope, and of two on both sides of where the aim should be, if there is one."""
        one = self._file(subject, slope)
        power = np.clip(self.aim / one[1], 2**-6.0, 2**6.0) if self.aim else 1.0
        return [one, *(self._file(subject, slope * power * apart) for apart in (1 / APART, APART))]

    def _file(self, subject: Subject, slope: float) -> tuple[int, float]:
        """Bytes and mean KL of the file at a slope."""
        candidate = subject.build(slope)
        subject.put(candidate)
        outputs = np.concatenate([subject.adapter.run(batch) for batch in self.data.batches(BATCH)])
        moved = float(divergence(self.original, outputs, self.loop.kind).mean())
        return candidate.size_bytes, max(moved, LEAST_KL)


def _changed(job: Job, recipe: Recipe) -> list[Place]:
    """Parameters in which a recipe differs from a job's."""
    before, after = job.recipe.settings, recipe.settings
    return [
        (table, name) for table, values in after.items() for name, value in values.items()
        if before.get(table, {}).get(name) != value
    ]  # fmt: skip


def ready(job: Job, progress: Progress) -> Loop:
    """The loop of a job whose channels and scales are as its recipe has them; nothing is in the ledger."""
    job = scale_moves.moved(removal.shrunk(job, Ledger(), progress), Ledger(), progress)
    return pipeline.prepared(job, Ledger(), progress)[0]


@contextmanager
def left_as_it_was(adapter: Adapter) -> Iterator[None]:
    """Weights and other tensors of a working copy are put back at the end."""
    weights = {layer.name: adapter.read(layer.name) for layer in adapter.layers() if layer.tied_to is None}
    rest = {name: np.array(array) for name, array in adapter.remainder().items()}
    try:
        yield
    finally:
        for name, weight in weights.items():
            adapter.write(name, weight)
        adapter.restore(rest)


def tuned(job: Job, ledger: Ledger, progress: Progress, stop: Stop) -> Job:
    """The job with a recipe that names the parameters that did best in its trials; as it was without any."""
    if job.recipe.tune is None:
        return job
    most, seconds = effort(job.recipe.tune)
    clock, plain = Clock(seconds), job.recipe.model_copy(update={"tune": None})
    job = replace(job, recipe=plain)
    with left_as_it_was(job.adapter):
        loop = ready(job, progress)
    with left_as_it_was(loop.subject.adapter), left_as_it_was(job.adapter):
        slope = _landed(loop, plain.evaluations, stop)
        trials, others = _rows(loop)
        bench = Bench.of(job, loop, slope, trials)
        space = _used(space_of(plain), loop.subject.build(slope))
        number, best = 0, {place: one.default for place, one in space.items()}
        first = least = bench.aim and np.inf
        progress.stage("tuning", most or 1)
        for one in tried(space, lambda values: _cost(bench, values, ledger), plain.seed):
            number, first = number + 1, one.cost if number == 0 else first
            if one.cost < least:
                least, best = one.cost, dict(one.values)
            progress.step()
            if number == most or stop() or clock.over():
                break
        found = with_values(plain, best)
        before, after = _confirmed(Bench.of(job, loop, slope, others), plain, found)
    better = after < before
    ledger.add(
        "tuned", trials=number, seconds=clock.elapsed(), examples=len(trials), kl=bench.aim, first=first, least=least,
        before=before, after=after, taken=better, values=_told(best if better else {}),
    )  # fmt: skip
    progress.note(_said(number, before, after))
    return replace(job, recipe=found if better else plain, trials=number)


def _used(space: Mapping[Place, Range], candidate: Candidate) -> Mapping[Place, Range]:
    """The parameters of methods that take a layer of a candidate, and of stages; all where these are none."""
    taken = {"", REMOVAL, *(point.choice["method"] for point in candidate.plan.choices.values())}
    return {place: one for place, one in space.items() if place[0] in taken} or space


def _landed(loop: Loop, most: int, stop: Stop) -> float:
    """The slope at which the search would land with the parameters as they are."""
    loop.originals(["select"])
    target = target_of(loop)
    return slope_of(solve(landing(loop, target, most, stop), target))


def _rows(loop: Loop) -> tuple[Sequence[int], Sequence[int]]:
    """Examples of the select split for the trials, and others to confirm what they find."""
    n = len(loop.splits.select)
    count = int(np.clip(WORK / 3 / work(loop.subject), FEWEST, EXAMPLES))
    count = min(count, max(n // 2, 1))
    order = order_of(n, loop.seed).tolist()
    return sorted(order[:count]), sorted(order[count : 2 * count]) or sorted(order[:count])


def _cost(bench: Bench, values: Values, ledger: Ledger) -> float:
    """One trial in the ledger: the logarithm of its bytes; what an earlier run has kept of it is not measured again."""
    job, started, kept = bench.job, perf_counter(), bench.job.kept
    recipe, marks = with_values(job.recipe, values), job.marks()
    key = key_of("trial", marks, recipe.model_dump_json(), bench.slope, bench.aim, bench.loop.seed)
    unit = kept.get(key)
    if unit is None:
        size, files = bench.size(recipe)
        kept.put(key, {"bytes": size, "files": files}, {})
    else:
        size, files = unit[0]["bytes"], unit[0]["files"]
    ledger.add("trial", values=_told(values), bytes=size, files=files, seconds=perf_counter() - started)
    return size


def _confirmed(bench: Bench, plain: Recipe, found: Recipe) -> tuple[float, float]:
    """Bytes of the recipe as it was and of what was found, on a bench of other examples."""
    return bench.size(plain)[0], bench.size(found)[0]


def _told(values: Values) -> dict[str, Json]:
    """Parameters by their names in a recipe."""
    return {f"settings.{table}.{name}" if table else name: value for (table, name), value in values.items()}


def _said(number: int, before: float, after: float) -> str:
    """What the trials came to."""
    saved = 100 * (1 - after / before)
    text = f"tuning: {number} trial{'s' * (number != 1)}, "
    if after < before:
        return f"{text}{saved:.1f} % fewer bytes at the same KL on examples that they did not see"
    return f"{text}nothing that is better on examples that they did not see: the recipe's parameters stay"
