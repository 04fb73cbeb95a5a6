"""The one loop: evaluate a candidate on the select split, ask for the next slope, then certify once, safest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from time import perf_counter

import numpy as np
from scipy.special import ndtri

from attar.adapters.base import Adapter
from attar.archive import read_archive
from attar.evaluate.base import Metric
from attar.evaluate.budget import Budget
from attar.evaluate.certificate import certify
from attar.evaluate.score import score
from attar.run.kept import Kept, key_of
from attar.run.ledger import Ledger
from attar.run.progress import Progress
from attar.search.bracket import Target, Trial, drop_at, land, sequence, shown, slope_of, solve
from attar.search.divergence import Kind, divergence
from attar.search.expected import sharpened
from attar.search.in_order import Outcome, certify_in_order, front
from attar.search.remember import Again
from attar.search.subject import Candidate, Subject
from attar.types import Array, Certificate, Score, Splits

FIRST_KL = 0.01
"""Predicted KL, in nats, of the first candidate."""
SAFEST, BOLDEST, STEP = 2.5, -1.0, 1.5
"""Odds of the candidates tested on the certify split: the first should pass unless luck is SAFEST standard deviations
against it (1 % of runs), the last only if luck is one for it; in even steps, of at most STEP."""
SURE = 2
"""Candidates that were only rounded which are tested beside those that were trained."""
SELECT_SHARE = 1 / 2
"""Share of the evaluations that the search itself may spend."""


def first_slope(subject: Subject) -> float:
    """The slope of the first candidate: that of a predicted KL of FIRST_KL, at high resolution."""
    return 2 * float(np.log(2)) * FIRST_KL / max(subject.weight_count, 1)


@dataclass
class Loop:
    """One run's evaluations; `count` goes up with every pass of a candidate over a split."""

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
    """What was seen on the certify split."""
    slowest: float = 0.0
    """Seconds that the slowest candidate took, from its making to its score."""

    def originals(self) -> None:
        """Score the original on select and certify."""
        for name in ("select", "certify"):
            data = getattr(self.splits, name)
            self.progress.stage(f"original on {name}", len(data))
            again = self._again(self.original, self.marks.get("original", ""), name)
            self.before[name] = score(again, data, self.metric, None, progress=self.progress.step)
            again.keep(self.before[name].outputs)

    def _again(self, adapter: Adapter, mark: str, split: str) -> Again:
        """A model's run over a split: what an earlier run has kept of its outputs is not computed again."""
        return Again(self.kept, key_of("outputs", mark, self.marks.get(split, "")), adapter.run)

    def limit(self) -> float:
        """The drop allowed, in the metric's unit."""
        return self.budget.limit(self.before["select"].value)

    def candidate(self, slope: float) -> Candidate:
        """The candidate of a slope, built once."""
        if slope not in self.built:
            self.built[slope] = self.subject.build(slope, self.progress)
        return self.built[slope]

    def evaluate(self, slope: float, split: str) -> tuple[Candidate, Certificate, Score, float]:
        """One full evaluation of a candidate's decoded bytes on one split, written to the ledger."""
        begun = perf_counter()
        candidate, started = self.candidate(slope), perf_counter()
        self.subject.put(candidate)
        again = self._again(self.subject.adapter, key_of("candidate", candidate.data), split)
        stage = f"candidate of {candidate.size_bytes:,} bytes on {split}"
        verdict, after, moved = self.compared(again, split, stage)
        again.keep(after.outputs)
        self.slowest = max(self.slowest, perf_counter() - begun)
        if split == "certify":
            self.certified.append((candidate, after))
        self.ledger.add(
            "candidate", index=1 + list(self.built).index(slope), trained=candidate.trained, split=split, slope=slope,
            evaluation=self.count,
            predicted={"bytes": candidate.plan.rate_bits / 8, "distortion": candidate.plan.distortion},
            bytes=candidate.size_bytes, ratio=self.bytes_before / candidate.size_bytes,
            value=after.value, drop=verdict.drop, lower=verdict.lower, upper=verdict.upper,
            kl=moved, lost=verdict.lost, gained=verdict.gained, n=verdict.n, seconds=perf_counter() - started,
            choices=read_archive(candidate.data).choices(),
        )  # fmt: skip
        return candidate, verdict, after, moved

    def needed(self) -> float:
        """Seconds that a further trial and the certificate after it may take."""
        share = len(self.splits.certify) / max(len(self.splits.select), 1)
        return self.slowest * (1 + max(share, 1.0))

    def compared(self, run: Run, split: str, stage: str) -> tuple[Certificate, Score, float]:
        """What a model's outputs on a split are beside the original's: a full evaluation."""
        data, before = getattr(self.splits, split), self.before[split]
        self.progress.stage(stage, len(data))
        after = score(run, data, self.metric, before.outputs, progress=self.progress.step)
        self.count += 1
        verdict = certify(before, after, self.metric, self.budget.limit(before.value), self.budget.confidence)
        return verdict, after, float(divergence(before.outputs, after.outputs, self.kind).mean())

    def cost(self, slope: float) -> float:
        """What a search makes less: bytes of the file."""
        return self.candidate(slope).size_bytes

    def trial(self, slope: float, *, sharpen: bool = True) -> Trial:
        """One evaluation on the select split, as the search wants it; sharpen: see search/expected.py."""
        _, verdict, after, moved = self.evaluate(slope, "select")
        return self.tried(slope, (verdict, after, moved), sharpen=sharpen)

    def tried(self, slope: float, found: tuple[Certificate, Score, float], *, sharpen: bool) -> Trial:
        """The same of what a comparison found."""
        verdict, after, moved = found
        z = float(ndtri(self.budget.confidence))
        error = max(verdict.upper - verdict.drop, 0.0) / z
        drop, better = verdict.drop, error
        if sharpen:
            drop, better = sharpened(verdict.drop, error, self.before["select"], after, self.metric)
        return Trial(slope, moved, drop, error * float(np.sqrt(verdict.n)), better)


Run = Callable[[Mapping[str, Array]], Array]
Extend = Callable[[float, Target, Callable[[], bool]], list[Trial]]
"""(slope landed on, target, interrupted) -> trials of further candidates, already built (search/recovery.py)."""


def search(
    loop: Loop, most: int = 8, interrupted: Callable[[], bool] = lambda: False, extend: Extend | None = None, *,
    alone: bool = False,
) -> Outcome[Candidate]:  # fmt: skip
    """Land on the budget with at most `most` full evaluations, certification included.

    extend adds candidates of its own, which are tested with the safest of the others, or alone.
    """
    limit, bound = loop.limit(), loop.budget.guarantee == "bound"
    power = 0.5 if loop.metric.relative_to_original and loop.metric.unit == "points" else 1.0
    confidence = loop.budget.confidence if bound else 0.5
    target = Target(limit, len(loop.splits.certify), confidence, power=power)
    share = max(1, round(most * SELECT_SHARE))
    trials = land(loop.trial, first_slope(loop.subject), target, share, interrupted)
    looks = 1 if interrupted() else most - len(trials)
    step = min(STEP, (SAFEST - BOLDEST) / max(looks - 1, 1))
    odds = [SAFEST - step * look for look in range(looks)]
    if not bound:
        # What the search itself expects to be beyond the limit is not tried: it would pass by luck alone.
        odds = [max(sigmas, 0.0) for sigmas in odds]
    loop.ledger.add("landed", slope=slope_of(solve(trials, target)), limit=limit, trials=[asdict(t) for t in trials])
    slopes = sequence(trials, target, odds)
    further = extend(slope_of(solve(trials, target)), target, interrupted) if extend is not None else []
    if not further:
        return certify_in_order(loop, slopes, interrupted)
    expected = {} if alone else {slope: drop_at(trials, slope, target) for slope in slopes[1:SURE]}
    expected |= {trial.slope: shown(trial, target, 0) for trial in further}
    safest = min(expected, key=lambda slope: expected[slope]) if alone else slopes[0]
    return certify_in_order(loop, front(loop, safest, expected), interrupted)
