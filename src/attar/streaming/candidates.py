"""Candidates of a streamed run: a file each, measured as it is on the disk, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
from scipy.special import ndtri

import attar
from attar.archive import Archive, read_archive
from attar.archive.streamed import write_streamed
from attar.evaluate.budget import Budget
from attar.evaluate.certificate import certify
from attar.evaluate.score import score
from attar.opening import decode
from attar.run.kept import key_of
from attar.run.ledger import Ledger
from attar.search.bracket import Trial
from attar.search.divergence import divergence, kind_of
from attar.search.expected import sharpened
from attar.streaming.base import Model, Part, Stream, flow
from attar.streaming.original import Known
from attar.streaming.rounding import Pass
from attar.types import Array, Certificate, Score


@dataclass(frozen=True)
class Candidate:
    """One file: where it is, and what it was predicted to be."""

    slope: float
    path: Path
    rate_bits: float
    distortion: float
    weights: int

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size

    @property
    def bits(self) -> float:
        """Bits of the file for each weight of a layer."""
        return 8 * self.size_bytes / max(self.weights, 1)


@dataclass
class Candidates:
    """What candidates, named by their slopes, are tested with; see search/in_order.py."""

    stream: Stream
    known: Known
    stage: Path
    ledger: Ledger
    outputs: Mapping[str, Array]
    """The original's, by split."""
    before: dict[str, Score] = field(default_factory=dict)
    built: dict[float, Candidate] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        for split, made in self.outputs.items():
            data = getattr(self.stream.job.splits, split)
            self.before[split] = score(played(made), data, self.stream.job.metric, None)

    @property
    def budget(self) -> Budget:
        """The drop allowed."""
        return self.stream.job.budget

    def cost(self, slope: float) -> float:
        """Bytes of the file."""
        return self.candidate(slope).size_bytes

    def candidate(self, slope: float) -> Candidate:
        """The candidate of a slope: a pass over the model, once."""
        if slope not in self.built:
            made = Pass(self.stream, self.known, slope)
            made.run()
            if made.gains:
                blocks = [{"part": number, **asdict(gain)} for number, gain in sorted(made.gains.items())]
                self.ledger.add("blocks", slope=slope, steps=self.stream.settings.recovery, blocks=blocks)
            place = self.stage / f".candidate-{len(self.built)}"
            layers = self.stream.layers()
            write_streamed(
                place,
                layers=(made.coded(layer.name) for layer in layers),
                remainder=made.remainder,
                skeleton=self.stream.model.skeleton(),
                meta={"framework": self.stream.model.framework, "attar": attar.__version__},
            )
            sections = made.sections.values()
            self.built[slope] = Candidate(
                slope, place, sum(s.rate_bits for s in sections), sum(s.distortion for s in sections),
                sum(layer.size for layer in layers),
            )  # fmt: skip
        return self.built[slope]

    def evaluate(self, slope: float, split: str) -> tuple[Candidate, Certificate, Score, float]:
        """One full evaluation of a candidate's file on one split, written to the ledger."""
        candidate, started, job = self.candidate(slope), perf_counter(), self.stream.job
        before, self.count = self.before[split], self.count + 1
        made = measured(self.stream, candidate, split)
        after = score(played(made), getattr(job.splits, split), job.metric, before.outputs)
        verdict = certify(before, after, job.metric, self.budget.limit(before.value), self.budget.confidence)
        kind = kind_of(before.outputs, classification=True)
        moved = float(divergence(before.outputs, after.outputs, kind).mean())
        self.ledger.add(
            "candidate", index=1 + list(self.built).index(slope), trained=False, split=split, slope=slope,
            evaluation=self.count,
            predicted={"bytes": candidate.rate_bits / 8, "distortion": candidate.distortion},
            bytes=candidate.size_bytes, ratio=job.bytes_before / candidate.size_bytes,
            value=after.value, drop=verdict.drop, lower=verdict.lower, upper=verdict.upper, limit=verdict.max_drop,
            kl=moved, lost=verdict.lost, gained=verdict.gained, n=verdict.n, seconds=perf_counter() - started,
        )  # fmt: skip
        return candidate, verdict, after, moved

    def trial(self, slope: float) -> Trial:
        """One evaluation on the select split, as the search for the drop wants it."""
        _, verdict, after, moved = self.evaluate(slope, "select")
        error = max(verdict.upper - verdict.drop, 0.0) / float(ndtri(self.budget.confidence))
        drop, better = sharpened(verdict.drop, error, self.before["select"], after, self.stream.job.metric)
        return Trial(slope, moved, drop, error * float(np.sqrt(verdict.n)), better)


def played(outputs: Array) -> Callable[[Mapping[str, Array]], Array]:
    """A model's run whose outputs are there already, batch by batch in order."""
    done = 0

    def run(batch: Mapping[str, Array]) -> Array:
        nonlocal done
        start, done = done, done + len(next(iter(batch.values())))
        return outputs[start:done]

    return run


def measured(stream: Stream, candidate: Candidate, split: str) -> Array:
    """A file's outputs on a split, each part decoded when windows come to it; kept."""
    course = stream.course(candidate.slope)
    key = key_of("outputs", stream.mark, course, split)
    unit = stream.kept.get(key)
    if unit is not None:
        return unit[1]["outputs"]
    archive = read_archive(candidate.path)
    stream.progress.stage(f"candidate of {candidate.size_bytes:,} bytes on {split}", stream.model.parts)
    name = f"measured-{course}-{split}"
    found = flow(stream, {name: stream.ids(split)}, decoded(stream.model, archive), scored=[name])[name]
    stream.kept.put(key, split, {"outputs": found})
    return found


def decoded(model: Model, archive: Archive) -> Callable[[int], AbstractContextManager[Part]]:
    """Parts of a model with the weights of an archive."""
    rest = archive.remainder()

    @contextmanager
    def opened(number: int) -> Iterator[Part]:
        with model.part(number, blank=True) as part:
            for name, owner in model.stored(number):
                part.write(name, decode(archive, owner))
            part.restore(rest)
            yield part

    return opened
