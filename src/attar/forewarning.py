"""What the splits of a job cannot show, whatever the search does, and what their labels give away."""

from __future__ import annotations

import numpy as np

from attar.evaluate.certificate import least_bound
from attar.job import Job
from attar.types import Score


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


def misnumbered(before: Score) -> str | None:
    """A warning where the original answers right less often than the most frequent class alone would; None otherwise.

    before: percent of right answers, with a class number for each example.
    """
    labels = before.labels
    if before.metric != "accuracy" or labels is None or labels.shape not in ((before.n,), (before.n, 1)):
        return None
    counts = np.unique(labels, return_counts=True)[1]
    most = 100 * int(counts.max()) / before.n
    if len(counts) < 2 or before.value >= most:
        return None
    return (
        f"labels: the model is right in {before.value:.1f} % of {before.n:,} examples, where the most frequent class "
        f"alone would be in {most:.1f} %. See whether classes are numbered as its outputs are, and inputs scaled as in "
        "training."
    )
