"""Which examples a candidate lost and which it gained."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError
from attar.evaluate.metrics import Accuracy
from attar.types import Array, Score


def flips(before: Score, after: Score, labels: Array | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the examples right before and wrong after, and of those wrong before and right after.

    Right is the highest score at the label; without labels, the original's answer (then nothing can be gained). An
    example of several positions counts by its share of right ones. Raises DataError where scores do not fit, or labels
    are not classes (a regression has no flips).
    """
    if before.n != after.n or before.outputs.shape != after.outputs.shape:
        raise DataError(f"flips: both scores must be of the same examples. Received {before.n} and {after.n}.")
    if labels is None:
        from attar.evaluate.relative import Agreement

        same = Agreement().compare(after.outputs, before.outputs)
        return np.flatnonzero(same < 100), np.zeros(0, np.int64)
    accuracy = Accuracy()
    first = accuracy.examples(before.outputs, labels, before.outputs)
    second = accuracy.examples(after.outputs, labels, before.outputs)
    assert first is not None and second is not None
    return np.flatnonzero(second < first), np.flatnonzero(second > first)
