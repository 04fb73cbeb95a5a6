"""What the splits of a job cannot show, whatever the search does."""

from __future__ import annotations

from attar.evaluate.certificate import least_bound
from attar.job import Job


def forewarned(job: Job) -> list[str]:
    """What these splits cannot show, said up front."""
    if not hopeless(job):
        return []
    n, unit = len(job.splits.certify), " points" if job.metric.unit == "points" else ""
    least = least_bound(job.metric, n, job.budget.confidence)
    return [
        f"certify: {n:,} examples cannot certify a drop of {job.budget.max_drop:g}{unit}, even of an unchanged model; "
        f"the least they can is {least:.2g}{unit}. The search goes by the drop that it sees."
    ]


def hopeless(job: Job) -> bool:
    """Whether a bound is asked for that no candidate can have."""
    limit = job.budget.max_drop
    if limit is None or job.budget.guarantee != "bound":
        return False
    return least_bound(job.metric, len(job.splits.certify), job.budget.confidence) > limit
