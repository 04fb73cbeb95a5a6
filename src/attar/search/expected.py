"""A sharper estimate of a drop than counting flips: what flips cost on average, by the original's own probabilities.

Whether a flipped answer was right is a coin toss that the original has put odds on: most flips are between two classes
that it finds almost as likely, and cost almost nothing on average. With its probabilities in place of the labels (Rao
and Blackwell) the estimate has a third of the standard error; but it is as wrong as the odds are, which are therefore
calibrated by a temperature on the labels (Guo et al. 2017, section 4.2), and what is left of their error is allowed
for. It only guides the search: certificates count labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from attar.evaluate.base import IGNORED, Floats, Metric
from attar.evaluate.targets import aligned, is_single, log_probabilities, log_softmax
from attar.types import Array, Score

DOUBT = 0.35
"""Standard deviation of the expected drop's own error, relative to it, as on the example models."""
COOLEST, HOTTEST = 0.2, 10.0
"""Bounds of the temperature."""


def sharpened(drop: float, error: float, before: Score, after: Score, metric: Metric) -> tuple[float, float]:
    """The drop and its standard error, from the counted ones and, where the metric has it, the expected drop.

    The two are weighed by their precision; both errors are in the metric's unit.
    """
    expected = getattr(metric, "expected", None)
    if expected is None or before.labels is None or is_single(before.outputs) or not np.isfinite(after.outputs).all():
        return drop, error
    scores, target = aligned(before.outputs, before.labels)
    changed, _ = aligned(after.outputs, before.labels)
    counted = target != IGNORED
    probabilities = calibrated(scores[counted], target[counted])
    each = expected(scores[counted], probabilities) - expected(changed[counted], probabilities)
    mean = float(each.mean())
    doubt = max(DOUBT * abs(mean), abs(drop - mean) - 2 * error)  # a count that noise cannot explain is believed
    noise = float(each.std()) / float(np.sqrt(before.n))
    own = doubt * doubt + noise * noise
    trust = own / max(own + error * error, 1e-300)
    return mean + trust * (drop - mean), float(np.sqrt(trust)) * error


def calibrated(outputs: Array, labels: NDArray[np.int64]) -> Floats:
    """Probabilities [n, classes] of outputs [n, classes], at the temperature that the labels [n] are likeliest at."""
    logs, rows = log_probabilities(outputs), np.arange(len(labels))

    def surprise(log_temperature: float) -> float:
        return -float(log_softmax(logs / np.exp(log_temperature))[rows, labels].mean())

    bounds = (float(np.log(COOLEST)), float(np.log(HOTTEST)))
    found = minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return np.asarray(np.exp(log_softmax(logs / np.exp(float(found.x)))))
