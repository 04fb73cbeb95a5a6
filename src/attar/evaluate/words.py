"""Word error rate: what a model writes down of speech, beside what was said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attar.errors import DataError
from attar.evaluate.base import Floats, MeanMetric
from attar.types import Array

NONE = -1
"""What fills up rows of words."""


class Wer(MeanMetric):
    """Words that must be put in, left out or changed, in per cent of those that were said in all examples together.

    Outputs and labels are words as numbers, [n, words], filled up with NONE: an adapter's `transcripts`. An example's
    value is its edits over the mean number of words said, so that the mean is the rate of the whole set.
    """

    name = "wer"
    unit = "points"
    higher_is_better = False
    needs_labels = False
    transcribes = True
    """It looks at transcripts in the place of a model's outputs."""

    def examples(self, outputs: Array, labels: Array | None, original: Array | None) -> Floats | None:  # noqa: ARG002
        """100 times the edits of each example over the mean number of words said [n]; raises DataError without any."""
        assert labels is not None
        said = (labels != NONE).sum(1)
        if not said.sum():
            raise DataError("metric 'wer': words must be said. Received recordings with none. Add their transcripts.")
        edits = [edits_of(one[one != NONE], other[other != NONE]) for one, other in zip(outputs, labels, strict=True)]
        return np.asarray(100 * np.array(edits, np.float64) / said.mean())


def edits_of(written: Sequence[int] | Array, said: Sequence[int] | Array) -> int:
    """Fewest words put in, left out and changed between two rows (Levenshtein 1966).

    >>> edits_of([1, 2, 3], [1, 3, 4])
    2
    """
    row = np.arange(len(said) + 1)
    for place, word in enumerate(written, 1):
        step = np.minimum(row[1:] + 1, row[:-1] + (np.asarray(said) != word))
        # A word left out costs one more than the place before: a running minimum of what falls by one a place.
        whole = np.concatenate([[place], step]) - np.arange(len(said) + 1)
        row = np.minimum.accumulate(whole) + np.arange(len(said) + 1)
    return int(row[-1])
