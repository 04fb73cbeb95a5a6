"""Bytes beside milliseconds: the fastest structure again with coarser codes, for what is left of the drop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from attar import measuring
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.job import Job
from attar.latency.candidate import FLOAT, SIZED
from attar.latency.race import Race, Sized
from attar.run.ledger import Ledger
from attar.search.bracket import Target, land, sequence
from attar.search.course import BOLDEST, SAFEST, first_slope
from attar.search.loop import Loop

LOOKS = 3
"""Coarser candidates that are tested on the certify split."""
SHARE = 0.5
"""Of the drop, what the time may take; bytes get the rest."""


def sizing(job: Job, outer: Loop) -> Callable[[OnnxAdapter], Loop]:
    """What makes the size goal's own search of a model with fewer channels, with the original's scores."""

    def made(model: OnnxAdapter) -> Loop:
        inner = replace(job, adapter=OnnxAdapter.open(model.model()))
        subject, _, kind, measure = measuring.measured(inner, outer.progress)
        subject, _ = subject.corrected(first_slope(subject), measure, outer.progress)
        loop = Loop(
            subject, job.splits, job.metric, job.budget, kind, Ledger(), outer.progress, outer.original,
            outer.bytes_before, kept=outer.kept, marks=outer.marks,
        )  # fmt: skip
        loop.before = dict(outer.before)
        return loop

    return made


def with_smaller(
    race: Race, order: Sequence[float], target: Target, most: int, interrupted: Callable[[], bool]
) -> list[float]:
    """An order for the certify split with coarser codes of its last structure behind it, each a smaller file."""
    last = order[-1]
    if race.sizing is None or last == FLOAT or interrupted():
        return list(order)
    inner = race.sizing(race.smaller(last)[0])
    trials = land(inner.trial, first_slope(inner.subject), target, most, interrupted, inner.finish)
    step = (SAFEST - BOLDEST) / (LOOKS - 1)
    slopes = sequence(trials, target, [SAFEST - step * look for look in range(LOOKS)])
    race.loop.ledger.add("sized", of=race.shown(last), slopes=slopes, trials=[asdict(trial) for trial in trials])
    race.loop.count += inner.count
    kept, size = list(order), len(race.candidate(last).archive)
    for number, slope in enumerate(slopes):
        key = SIZED + number
        race.sized[key] = Sized(last, inner, slope)
        if len(race.candidate(key).archive) < size:
            kept.append(key)
            size = len(race.candidate(key).archive)
    return kept
