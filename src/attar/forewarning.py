"""What the splits of a job cannot show, whatever the search does, and what their labels give away."""

from __future__ import annotations

import numpy as np

from attar.adapters.base import Leading
from attar.evaluate.certificate import least_bound
from attar.job import Job
from attar.types import Score

LISTED = 5
"""Outputs that a note names."""


def forewarned(job: Job) -> list[str]:
    """What these splits cannot show, said up front."""
    return [*_unseen(job), *_uncertifiable(job)]


def _unseen(job: Job) -> list[str]:
    """That the model has more outputs than the metric looks at, where nobody has said which counts."""
    if job.recipe.output_name is not None or not isinstance(job.adapter, Leading):
        return []
    first, *others = [repr(spec.name) for spec in job.adapter.outputs()]
    if not others:
        return []
    told = ", ".join(others[:LISTED]) + (f" and {len(others) - LISTED} more" if len(others) > LISTED else "")
    return [
        f"outputs: the metric looks at {first} alone, and what is certified says nothing of {told}. Name the one that "
        "counts with --output-name."
    ]


def _uncertifiable(job: Job) -> list[str]:
    """That no candidate can have the bound that is asked for."""
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
