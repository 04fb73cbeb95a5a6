"""The goal `latency`, as api asks for it: a check before any work, and a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter

from attar.job import Job
from attar.latency import stage
from attar.latency.result import Handed, event, handed
from attar.run.ledger import Ledger
from attar.run.progress import Progress


class LatencyGoal:
    """Milliseconds, or milliseconds and bytes."""

    @staticmethod
    def check(job: Job) -> None:
        """That the goal can be met at all; raises ModelError, UsageError."""
        stage.check(job)

    @staticmethod
    def run(
        job: Job, names: Mapping[str, str], ledger: Ledger, progress: Progress, interrupted: Callable[[], bool]
    ) -> Handed:
        """From a checked job to what is handed back; the ledger gets its result."""
        started = perf_counter()
        found = stage.raced(job, ledger, progress, interrupted)
        progress.stage("reading the file back", 1)
        made = handed(job, found, names)
        ledger.add("result", **event(job, found, made, perf_counter() - started, names))
        return made
