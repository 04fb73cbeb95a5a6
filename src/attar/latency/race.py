"""The candidates of a latency goal: stages of a plan made into artefacts, timed beside the float model, and judged.

Where the run keeps its work, candidates that an earlier one made and timed are not made again (latency/kept.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from attar.adapters.onnx.adapter import OnnxAdapter
from attar.archive import read_archive
from attar.evaluate.base import Metric
from attar.evaluate.budget import Budget
from attar.exports.base import Task
from attar.exports.onnx.runtime import Runtime
from attar.exports.timing import Latency, latencies
from attar.latency import kept
from attar.latency.candidate import BOLDER, FLOAT, SIZED, WHOLE, Candidate, is_trained
from attar.latency.made import Coded, Fast, Integers, coded, quickest, ranged, untouched
from attar.latency.problem import Problem
from attar.opening import from_archive
from attar.plan.latency import Costs, Stage, priced
from attar.recover.retrain import retrain
from attar.recover.settings import RecoverySettings
from attar.recover.teacher import Teacher
from attar.run.executor import generator
from attar.run.kept import key_of
from attar.search import remember
from attar.search.bracket import Trial
from attar.search.loop import Found, Loop, Run
from attar.structure.importance import Subject
from attar.structure.remove import apart
from attar.types import Certificate, Score, Splits


@dataclass(frozen=True)
class Training:
    """What candidates are trained with."""

    teacher: Teacher
    settings: RecoverySettings
    seed: int


@dataclass(frozen=True)
class Sized:
    """A candidate with the channels of another and coarser codes: that one, the search that codes, and the slope."""

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
    mark: str = ""
    """A hash of all that candidates are made of and timed with, but for what is theirs alone."""
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

    @property
    def bolder(self) -> bool:
        """Whether integers with fewer nodes in float were near the drop."""
        return self.integers.bold is not None

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
            self.built[key] = kept.candidate(self.loop.kept, self._name(key), lambda: make(key))
        return self.built[key]

    def _name(self, key: float) -> str:
        """What a candidate is kept under."""
        if key == FLOAT:
            return key_of("fast", self.mark, key)
        if key in self.sized:
            sized = self.sized[key]
            return key_of("fast", self.mark, self._name(sized.of), sized.loop.candidate(sized.slope).data)
        stage = self.stages[int(key)]
        parts = [self._training_parts()] if is_trained(key) else []
        return key_of("fast", self.mark, key, stage.left, sorted(stage.integers), parts)

    def _training_parts(self) -> list[Any]:
        """What training depends on besides the model."""
        assert self.training is not None
        teacher = self.training.teacher
        return [remember.data_mark(teacher.data), str(self.training.settings), str(teacher.changes), self.loop.kind,
                self.training.seed, self.loop.marks.get("model")]  # fmt: skip

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
        smaller, channels, share = self.smaller(key)
        made = self.whole
        if channels:
            made = coded(smaller, self.loop.splits.calibrate, self.coder)
            ranged(made, self.integers)
        islands = [node for name, node in made.nodes.items() if name not in stage.integers]
        harmful = self.integers.bold if key == BOLDER else self.integers.harmful
        fast = quickest(made, self.task, harmful or (), islands)
        latency = self.timed(fast)
        milliseconds = latency.ratio * self.candidate(FLOAT).milliseconds
        predicted = None if index == 0 else self.predicted(index)
        self.loop.ledger.add(
            "made", index=index, trained=is_trained(key), channels=channels, share=share, how=fast.how,
            milliseconds=milliseconds, predicted_milliseconds=predicted, ratio=latency.ratio,
            seconds=perf_counter() - started,
        )  # fmt: skip
        return Candidate(key, made.archive, fast, latency, milliseconds, predicted, channels, share)

    def smaller(self, key: float) -> tuple[OnnxAdapter, dict[str, tuple[int, int]], float]:
        """The float model of a stage's candidate, channels before and after, the share of multiply-adds that went."""
        index = int(key)
        keep = self.problem.keep(self.stages[index])
        if not keep:  # the whole model stays what drops are measured from
            return self.base, {}, 0.0
        found: Any = apart(self.base, self.subject, keep)
        smaller, report = found
        if is_trained(key):
            remember.retrained(
                self.loop.kept, smaller, lambda: self._train(smaller, index), *self._training_parts()
            )  # fmt: skip
        return smaller, dict(report.channels), report.share

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
        verdict, after, moved = self._compared(
            Runtime(candidate.fast.data, self.task.threads).run, candidate.fast.data, split, stage
        )
        self.looked.setdefault(slope, verdict)
        if split == "certify":
            twin = from_archive(read_archive(candidate.archive))
            other, again, _ = self._compared(twin.run, candidate.archive, split, "its file")
            self.verdicts[slope] = {"artefact": (verdict, after), "file": (other, again)}
        self.loop.ledger.add(
            "candidate", index=self.shown(slope), trained=candidate.trained, split=split, evaluation=self.loop.count,
            bytes=len(candidate.archive), ratio=self.loop.bytes_before / len(candidate.archive),
            milliseconds=candidate.milliseconds, predicted_milliseconds=candidate.predicted,
            latency_ratio=candidate.latency.ratio, value=after.value, drop=verdict.drop, lower=verdict.lower,
            upper=verdict.upper, limit=verdict.max_drop, kl=moved, lost=verdict.lost, gained=verdict.gained,
            n=verdict.n, seconds=perf_counter() - started, choices=read_archive(candidate.archive).choices(),
        )  # fmt: skip
        if split == "certify" and self._worse(other, verdict):
            return candidate, other, again, moved
        return candidate, verdict, after, moved

    def _compared(self, run: Run, data: bytes, split: str, stage: str) -> tuple[Certificate, Score, float]:
        """What these bytes say on a split beside the original; what an earlier run was told is not asked again."""
        again = remember.Again(self.loop.kept, key_of("outputs", data, self.loop.marks.get(split, "")), run)
        found = self.loop.compared(again, split, stage)
        again.keep(found[1].outputs)
        return found

    def _worse(self, one: Certificate, other: Certificate) -> bool:
        """Which of two verdicts decides."""
        if self.budget.guarantee == "bound":
            return one.upper > other.upper
        return one.drop > other.drop

    def shown(self, key: float) -> str:
        """A candidate's name for people."""
        if key in self.sized:
            return f"{self.shown(self.sized[key].of)}, smaller {int(key - SIZED) + 1}"
        return "float" if key == FLOAT else "0, bolder" if key == BOLDER else f"{int(key)}"

    def trial(self, key: float) -> Trial:
        """One evaluation on the select split, as the search wants it: the slope is the stage's distortion."""
        candidate, verdict, after, moved = self.evaluate(key, "select")
        found = Found(verdict, self.loop.before["select"], after, moved, verdict.n)
        return self.loop.tried(self.distortion(int(key)), found, sharpen=not candidate.trained)

    def distortion(self, stage: int) -> float:
        """Nats that a stage is predicted to cost; never zero, which has no logarithm."""
        return max(self.stages[stage].distortion, 1e-9 * (1 + stage))
