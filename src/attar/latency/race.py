"""The candidates of a latency goal: stages of a plan made into artefacts, timed beside the float model, and judged.

A candidate is named by a number: that of its stage, half more where it was trained, and FLOAT for the model as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, ClassVar

from attar.adapters.onnx.adapter import OnnxAdapter
from attar.archive import read_archive
from attar.evaluate.base import Metric
from attar.evaluate.budget import Budget
from attar.exports.base import Task
from attar.exports.onnx.runtime import Runtime
from attar.exports.timing import Latency, latencies
from attar.latency.made import Coded, Fast, Integers, coded, quickest, ranged, untouched
from attar.latency.problem import Problem
from attar.opening import from_archive
from attar.plan.latency import Costs, Stage, priced
from attar.recover.retrain import retrain
from attar.recover.settings import RecoverySettings
from attar.recover.teacher import Teacher
from attar.run.executor import generator
from attar.search.bracket import Trial
from attar.search.loop import Found, Loop
from attar.structure.importance import Subject
from attar.structure.remove import apart
from attar.types import Certificate, Score, Splits

FLOAT, WHOLE, TRAINED = -1.0, 0.0, 0.5
"""Names: the model as it came, integers with all channels, and what is added for a trained one."""


@dataclass(frozen=True)
class Candidate:
    """One candidate: its file and artefact, and how long the artefact takes (milliseconds on the float model's scale).

    predicted is the planner's; share that of the multiply-adds that went; channels before and after by group.
    """

    key: float
    archive: bytes = field(repr=False)
    fast: Fast = field(repr=False)
    latency: Latency
    milliseconds: float
    predicted: float | None
    channels: Mapping[str, tuple[int, int]]
    share: float

    @property
    def trained(self) -> bool:
        """Whether it was trained after channels went."""
        return 0 <= self.key < Sized.FIRST and self.key % 1 == TRAINED


@dataclass(frozen=True)
class Training:
    """What candidates are trained with."""

    teacher: Teacher
    settings: RecoverySettings
    seed: int


@dataclass(frozen=True)
class Sized:
    """A candidate with the channels of another and coarser codes: that one, the search that codes, and the slope."""

    FIRST: ClassVar[float] = 1e6
    """From where on names are such candidates'."""
    of: float
    loop: Loop
    slope: float


@dataclass
class Race:
    """Everything candidates are made from and tested with; stages[0] has all channels."""

    loop: Loop
    base: OnnxAdapter
    original: OnnxAdapter
    subject: Subject
    problem: Problem
    stages: Sequence[Stage]
    whole: Coded
    integers: Integers
    task: Task
    costs: Costs
    training: Training | None = None
    coder: str = "auto"
    sizing: Callable[[OnnxAdapter], Loop] | None = None
    """Where bytes count too: the size goal's search for a model."""
    sized: dict[float, Sized] = field(default_factory=dict)
    models: dict[float, OnnxAdapter] = field(default_factory=dict)
    """The float models of candidates, before they are rounded."""
    built: dict[float, Candidate] = field(default_factory=dict)
    verdicts: dict[float, dict[str, tuple[Certificate, Score]]] = field(default_factory=dict)
    """By candidate: of the artefact and of the file, on the certify split."""
    looked: dict[float, Certificate] = field(default_factory=dict)
    """By candidate: of the artefact on the split where it was seen first."""

    @property
    def budget(self) -> Budget:
        """The drop allowed."""
        return self.loop.budget

    @property
    def before(self) -> dict[str, Score]:
        """The original's scores."""
        return self.loop.before

    @property
    def count(self) -> int:
        """Full evaluations so far."""
        return self.loop.count

    @property
    def metric(self) -> Metric:
        """What must not drop."""
        return self.loop.metric

    @property
    def splits(self) -> Splits:
        """The data."""
        return self.loop.splits

    def cost(self, slope: float) -> float:
        """Milliseconds, as measured."""
        return self.candidate(slope).milliseconds

    def predicted(self, stage: int) -> float:
        """Milliseconds of a stage, from the whole one's as measured and what the table says of the difference."""
        whole = self.candidate(WHOLE)
        nodes = {node: name for name, node in self.whole.nodes.items()}
        floats = {nodes.get(node, node) for node in whole.fast.floats}
        integers = set(nodes.values()) - floats if whole.fast.integers else None
        before = priced(self.problem.groups, self.problem.layers, self.costs, integers)
        # Alone a node may take longer than among others: no more is saved than the share of what the table has.
        scale = min(1.0, whole.milliseconds / before)
        return whole.milliseconds - scale * (before - self.stages[stage].milliseconds)

    def candidate(self, key: float) -> Candidate:
        """The candidate of a name, made once."""
        if key not in self.built:
            make = self._float if key == FLOAT else self._coarser if key in self.sized else self._made
            self.built[key] = make(key)
        return self.built[key]

    def _float(self, key: float) -> Candidate:
        """The model as it came."""
        plain = self.original.model().SerializeToString()
        fast = Fast(plain, False, (), "float")
        call = Runtime(plain, self.task.threads).once(self.task.batch)
        latency = latencies({"float": call})["float"]
        archive = untouched(self.original, self.coder)
        return Candidate(key, archive, fast, latency, latency.milliseconds, None, {}, 0.0)

    def _made(self, key: float) -> Candidate:
        """A stage's candidate: channels out, refitted, trained where its name says so, in codes, timed."""
        index, started = int(key), perf_counter()
        stage = self.stages[index]
        keep = self.problem.keep(stage)
        smaller: Any = self.base
        channels, share, made = {}, 0.0, self.whole
        if keep:
            smaller, report = apart(self.base, self.subject, keep)
            channels, share = dict(report.channels), report.share
        if keep and key != index:  # the whole model stays what drops are measured from
            self._train(smaller, index)
        if keep:
            made = coded(smaller, self.loop.splits.calibrate, self.coder)
            ranged(made, self.integers)
        self.models[key] = smaller
        islands = [node for name, node in made.nodes.items() if name not in stage.integers]
        fast = quickest(made, self.task, self.integers.harmful, islands)
        latency = self.timed(fast)
        milliseconds = latency.ratio * self.candidate(FLOAT).milliseconds
        predicted = None if index == 0 else self.predicted(index)
        self.loop.ledger.add(
            "made", index=index, trained=key != index, channels=channels, share=share, how=fast.how,
            milliseconds=milliseconds, predicted_milliseconds=predicted, ratio=latency.ratio,
            seconds=perf_counter() - started,
        )  # fmt: skip
        return Candidate(key, made.archive, fast, latency, milliseconds, predicted, channels, share)

    def _coarser(self, key: float) -> Candidate:
        """The same channels as another's, in fewer bits; the artefact is made of what the file decodes to."""
        sized = self.sized[key]
        like, archive = self.candidate(sized.of), sized.loop.candidate(sized.slope).data
        made = coded(from_archive(read_archive(archive)), self.loop.splits.calibrate, self.coder)  # type: ignore[arg-type]
        ranged(made, self.integers)
        islands = [node for name, node in made.nodes.items() if name not in self.stages[int(sized.of)].integers]
        fast = quickest(made, self.task, self.integers.harmful, islands)
        latency = self.timed(fast)
        milliseconds = latency.ratio * self.candidate(FLOAT).milliseconds
        return replace(like, key=key, archive=archive, fast=fast, latency=latency, milliseconds=milliseconds)

    def _train(self, smaller: Any, index: int) -> None:
        """In place."""
        assert self.training is not None
        retrain(
            smaller, self.training.teacher, self.training.settings, classification=self.loop.kind != "regression",
            rng=generator(self.training.seed, f"latency/{index}"), progress=self.loop.progress,
        )  # fmt: skip

    def timed(self, fast: Fast) -> Latency:
        """An artefact beside the float model."""
        made = {"float": self.candidate(FLOAT).fast, "this": fast}
        calls = {name: Runtime(each.data, self.task.threads).once(self.task.batch) for name, each in made.items()}
        return latencies(calls)["this"]

    def evaluate(self, slope: float, split: str) -> tuple[Candidate, Certificate, Score, float]:
        """One full evaluation of a candidate's artefact; on the certify split of its file too: the worse verdict holds.

        Both are claims about one candidate, which passes where both do, so that the level stays what it is.
        """
        candidate, started = self.candidate(slope), perf_counter()
        stage = f"candidate of {candidate.milliseconds:.3g} ms on {split}"
        verdict, after, moved = self.loop.compared(Runtime(candidate.fast.data, self.task.threads).run, split, stage)
        self.looked.setdefault(slope, verdict)
        if split == "certify":
            twin = from_archive(read_archive(candidate.archive))
            other, again, _ = self.loop.compared(twin.run, split, "its file")
            self.verdicts[slope] = {"artefact": (verdict, after), "file": (other, again)}
        self.loop.ledger.add(
            "candidate", index=self.shown(slope), trained=candidate.trained, split=split, evaluation=self.loop.count,
            bytes=len(candidate.archive), ratio=self.loop.bytes_before / len(candidate.archive),
            milliseconds=candidate.milliseconds, predicted_milliseconds=candidate.predicted,
            latency_ratio=candidate.latency.ratio, value=after.value, drop=verdict.drop, lower=verdict.lower,
            upper=verdict.upper, kl=moved, lost=verdict.lost, gained=verdict.gained, n=verdict.n,
            seconds=perf_counter() - started, choices=read_archive(candidate.archive).choices(),
        )  # fmt: skip
        if split == "certify" and self._worse(other, verdict):
            return candidate, other, again, moved
        return candidate, verdict, after, moved

    def _worse(self, one: Certificate, other: Certificate) -> bool:
        """Which of two verdicts decides."""
        if self.budget.guarantee == "bound":
            return one.upper > other.upper
        return one.drop > other.drop

    def shown(self, key: float) -> str:
        """A candidate's name for people."""
        if key in self.sized:
            return f"{self.shown(self.sized[key].of)}, smaller {int(key - Sized.FIRST) + 1}"
        return "float" if key == FLOAT else f"{int(key)}"

    def trial(self, key: float) -> Trial:
        """One evaluation on the select split, as the search wants it: the slope is the stage's distortion."""
        candidate, verdict, after, moved = self.evaluate(key, "select")
        found = Found(verdict, self.loop.before["select"], after, moved, verdict.n)
        return self.loop.tried(self.distortion(int(key)), found, sharpen=not candidate.trained)

    def distortion(self, stage: int) -> float:
        """Nats that a stage is predicted to cost; never zero, which has no logarithm."""
        return max(self.stages[stage].distortion, 1e-9 * (1 + stage))
