"""One run's evaluations: a candidate's decoded bytes on the select or the certify split, each in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
from scipy.special import ndtri

from attar.adapters.base import Adapter, Hearing
from attar.archive import read_archive
from attar.evaluate.base import Metric
from attar.evaluate.budget import Budget
from attar.evaluate.certificate import certify
from attar.evaluate.score import Transcribe, part_of, score
from attar.evaluate.sequential import separable
from attar.run.kept import Kept, key_of
from attar.run.ledger import Ledger
from attar.run.progress import Progress
from attar.search.bracket import Trial
from attar.search.divergence import Kind, divergence
from attar.search.expected import sharpened
from attar.search.in_order import level
from attar.search.pieces import PLAIN, Aim, Hope, Looked, look, order_of
from attar.search.remember import Again
from attar.search.subject import Candidate, Subject
from attar.types import Array, Certificate, Score, Splits


@dataclass(frozen=True)
class Found:
    """What one evaluation saw of a candidate: on so many examples, `new` of them now, with bounds where it stopped."""

    verdict: Certificate
    before: Score
    after: Score
    kl: float
    new: int
    bounds: tuple[float, float] | None = None


@dataclass
class Loop:
    """One run's evaluations; `count` goes up with every candidate that is run over a split, or over part of it."""

    subject: Subject
    splits: Splits
    metric: Metric
    budget: Budget
    kind: Kind
    ledger: Ledger
    progress: Progress
    original: Adapter
    """What drops are measured from; the subject's own, not yet compressed, unless that has lost channels."""
    bytes_before: int = 0
    before: dict[str, Score] = field(default_factory=dict)
    built: dict[float, Candidate] = field(default_factory=dict)
    count: int = 0
    kept: Kept = field(default_factory=Kept)
    marks: dict[str, str] = field(default_factory=dict)
    """Hashes of the original and of the splits, where anything is kept."""
    certified: list[tuple[Candidate, Score]] = field(default_factory=list)
    """What was seen on the whole of the certify split."""
    tested: int = 0
    """Candidates that were begun there."""
    slowest: float = 0.0
    """Seconds that the slowest candidate took, from its making to its score."""
    seed: int = 0
    early_stop: bool = True
    """Whether evaluations on the select split end when they have said enough, where the metric allows it."""
    stopped: dict[float, Array] = field(default_factory=dict)
    """Outputs of evaluations that did, by slope."""
    examples: dict[str, int] = field(default_factory=dict)
    """Examples that candidates were run on, by split."""
    spare: frozenset[float] = frozenset()
    """Slopes of the candidates to fall back on, where there are any."""

    def originals(self, names: Sequence[str] = ("select", "certify")) -> None:
        """Score the original on splits."""
        for name in names:
            data = getattr(self.splits, name)
            self.progress.stage(f"original on {name}", len(data))
            again = self._again(self.original, self.marks.get("original", ""), name)
            self.before[name] = score(
                again, data, self.metric, None, progress=self.progress.step, transcribe=transcriber(self.original)
            )
            again.keep(self.before[name].outputs)

    def _again(self, adapter: Adapter, mark: str, split: str, known: Array | None = None) -> Again:
        """A model's run over a split, but for the first outputs, which are known; those of an earlier run are kept."""
        key = key_of("outputs", mark, self.marks.get(split, ""))
        return Again(self.kept, key, adapter.run, 0 if known is None else len(known))

    def limit(self) -> float:
        """The drop allowed, in the metric's unit."""
        return self.budget.limit(self.before["select"].value)

    def candidate(self, slope: float) -> Candidate:
        """The candidate of a slope, built once."""
        if slope not in self.built:
            self.built[slope] = self.subject.build(slope, self.progress).bare()
        return self.built[slope]

    def evaluate(self, slope: float, split: str) -> tuple[Candidate, Certificate, Score, float]:
        """One full evaluation of a candidate's decoded bytes on one split.

        On the certify split one that is as good as lost is given up, and not certified, unless it is the last hope.
        """
        last = not self.certified and (not self.spare or slope in self.spare)
        seen = self.seen(slope, split, whole=split != "certify" or last or not self.stops)
        return self.candidate(slope), seen.verdict, seen.after, seen.kl

    def seen(self, slope: float, split: str, *, whole: bool) -> Found:
        """One evaluation of a candidate's decoded bytes on one split, or on as much of it as tells, in the ledger."""
        begun = perf_counter()
        candidate, started = self.candidate(slope), perf_counter()
        self.subject.put(candidate)
        stage = f"candidate of {candidate.size_bytes:,} bytes on {split}"
        mark = key_of("candidate", candidate.data)
        if not whole or (split == "select" and slope in self.stopped):
            found = self._in_pieces(slope, split, mark, stage, whole=whole)
        else:
            again = self._again(self.subject.adapter, mark, split)
            verdict, after, moved = self.compared(again, split, stage, self.level(slope, split))
            again.keep(after.outputs)
            found = Found(verdict, self.before[split], after, moved, verdict.n)
        self.slowest = max(self.slowest, perf_counter() - begun)
        self.examples[split] = self.examples.get(split, 0) + found.new
        if split == "certify":
            self.tested += 1
            if found.bounds is None:
                self.certified.append((candidate, found.after))
            else:
                found = replace(found, verdict=replace(found.verdict, verdict="not certified"))
        self._told(candidate, split, found, perf_counter() - started)
        return found

    def _in_pieces(self, slope: float, split: str, mark: str, stage: str, *, whole: bool) -> Found:
        """An evaluation that stops when it is plain on which side of the limit a candidate is (certify: beyond)."""
        before, known = self.before[split], self.stopped.get(slope) if split == "select" else None
        order, data, level = order_of(before.n, self.seed), getattr(self.splits, split), self.level(slope, split)
        again = self._again(self.subject.adapter, key_of("pieces", mark, self.seed), split, known)
        aim = self.aim(split, level)
        self.progress.stage(stage, len(data))
        looked = look(
            again, data, self.metric, before, order, aim, known=known, whole=whole, progress=self.progress.step
        )  # fmt: skip
        again.keep(looked.after.outputs)
        self.count += known is None
        if split == "select":
            self.stopped.pop(slope, None)
            if looked.bounds is not None:
                self.stopped[slope] = looked.after.outputs
        elif looked.bounds is None:  # in the split's own order, as every score that is handed back
            looked = replace(looked, before=before, after=part_of(looked.after, np.argsort(order)))
        return self._of(looked, split, level)

    def level(self, slope: float, split: str) -> float:
        """The confidence of a candidate's bound: on the certify split the error is shared with what is spare."""
        if split != "certify" or not self.spare or not self._bound():
            return self.budget.confidence
        return level(self.budget.confidence, spare=slope in self.spare)

    def aim(self, split: str, level: float) -> Aim:
        """What stops an evaluation on a split, where a bound at a level counts."""
        kind, confidence = Aim if split == "select" else Hope, level if self._bound() else 0.5
        return kind(self.budget.limit(self.before[split].value), len(self.splits.certify), confidence)

    def _of(self, looked: Looked, split: str, level: float) -> Found:
        """What was seen in pieces, as of a split."""
        before, after = looked.before, looked.after
        verdict = self.verdict(before, after, split, level)
        moved = float(divergence(before.outputs, after.outputs, self.kind).mean())
        return Found(verdict, before, after, moved, looked.new, looked.bounds)

    def verdict(self, before: Score, after: Score, split: str, level: float) -> Certificate:
        """The certificate by a bound at a level; it says the confidence of all that may be handed back together."""
        found = certify(before, after, self.metric, self.budget.limit(self.before[split].value), level)
        return replace(found, confidence=self.budget.confidence)

    def _bound(self) -> bool:
        """Whether the bound is what must be within the limit."""
        return self.budget.guarantee == "bound"

    def _told(self, candidate: Candidate, split: str, found: Found, seconds: float) -> None:
        """An evaluation, written to the ledger."""
        verdict, after = found.verdict, found.after
        self.ledger.add(
            "candidate", index=1 + list(self.built).index(candidate.slope), trained=candidate.trained, split=split,
            slope=candidate.slope, evaluation=self.count, examples=found.new, stopped=found.bounds is not None,
            predicted={"bytes": candidate.plan.rate_bits / 8, "distortion": candidate.plan.distortion},
            bytes=candidate.size_bytes, ratio=self.bytes_before / candidate.size_bytes,
            value=after.value, drop=verdict.drop, lower=verdict.lower, upper=verdict.upper, limit=verdict.max_drop,
            kl=found.kl, lost=verdict.lost, gained=verdict.gained, n=verdict.n, seconds=seconds,
            choices=read_archive(candidate.data).choices(),
        )  # fmt: skip

    def needed(self) -> float:
        """Seconds that a further trial and the certificate after it may take."""
        share = len(self.splits.certify) / max(len(self.splits.select), 1)
        return self.slowest * (1 + max(share, 1.0))

    def compared(
        self, run: Run, split: str, stage: str, level: float | None = None
    ) -> tuple[Certificate, Score, float]:
        """What a model's outputs on a split are beside the original's, by a bound at a level: a full evaluation."""
        data, before = getattr(self.splits, split), self.before[split]
        self.progress.stage(stage, len(data))
        told = transcriber(self.subject.adapter)
        after = score(run, data, self.metric, before.outputs, progress=self.progress.step, transcribe=told)
        self.count += 1
        verdict = self.verdict(before, after, split, level or self.budget.confidence)
        return verdict, after, float(divergence(before.outputs, after.outputs, self.kind).mean())

    def cost(self, slope: float) -> float:
        """What a search makes less: bytes of the file."""
        return self.candidate(slope).size_bytes

    @property
    def stops(self) -> bool:
        """Whether evaluations on the select split may end early."""
        return self.early_stop and separable(self.metric) and self.before["select"].per_example is not None

    def trial(self, slope: float, *, sharpen: bool = True) -> Trial:
        """One evaluation on the select split, as the search wants it; sharpen: see search/expected.py."""
        return self.tried(slope, self.seen(slope, "select", whole=not self.stops), sharpen=sharpen)

    def finish(self, slope: float, *, sharpen: bool = True) -> Trial:
        """The same on the rest of the split, where it had ended early."""
        return self.tried(slope, self.seen(slope, "select", whole=True), sharpen=sharpen)

    def tried(self, slope: float, seen: Found, *, sharpen: bool) -> Trial:
        """The same of what an evaluation saw. Where it stopped early, its error is that of bounds that allow for it."""
        verdict, z = seen.verdict, float(ndtri(self.budget.confidence))
        error = counted = max(verdict.upper - verdict.drop, 0.0) / z
        if verdict.bound == "betting" and not self._bound():
            # That bound holds for any values within the metric's limits; an estimate varies as its values do.
            error = counted = spread_error(seen.before, seen.after)
        if seen.bounds is not None:
            error = max(error, (seen.bounds[1] - seen.bounds[0]) / 2 / float(ndtri(PLAIN)))
        drop, better = verdict.drop, error
        if sharpen:
            drop, better = sharpened(verdict.drop, error, seen.before, seen.after, self.metric)
        share = 1.0 if seen.bounds is None else seen.after.n / self.before["select"].n
        return Trial(slope, seen.kl, drop, counted * float(np.sqrt(verdict.n)), better, share)


Run = Callable[[Mapping[str, Array]], Array]


def spread_error(before: Score, after: Score) -> float:
    """Standard error of the mean change per example, of scores that are means."""
    assert before.per_example is not None and after.per_example is not None
    return float((after.per_example - before.per_example).std() / np.sqrt(before.n))


def transcriber(adapter: Adapter) -> Transcribe | None:
    """What writes down speech, where an adapter's model does."""
    return adapter.transcripts if isinstance(adapter, Hearing) and adapter.hears else None
