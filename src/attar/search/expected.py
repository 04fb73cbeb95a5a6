"""A sharper estimate of a drop than counting flips: what flips cost on average, by the original's own odds.

Whether a flipped answer was right is a coin toss that the original has put odds on: most flips are between two classes
that it finds almost as likely, and cost almost nothing on average. With odds in place of outcomes (Rao and Blackwell)
the estimate has a third of the standard error; but it is as wrong as the odds are. They are therefore calibrated on the
labels (Platt 1999), there where the flips are: overall a network may be well calibrated and yet doubt too much between
its two best answers. What is left of their error is allowed for. It only guides the search: certificates count labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attar.evaluate.base import IGNORED, Floats, Metric
from attar.evaluate.metrics import TopK
from attar.evaluate.targets import aligned, is_single, log_probabilities
from attar.types import Score

DOUBT = 0.35
"""Standard deviation of the expected drop's own error, relative to it, as on the example models."""
FEWEST = 10
"""Flips, and answers that are as close, below which nothing is known of them."""
REACH = 95
"""Percentile of the flips' margins up to which answers count as close."""
STEEPEST = 20.0
"""Of the curve, per log odds, or per reach where that is less."""


def sharpened(drop: float, error: float, before: Score, after: Score, metric: Metric) -> tuple[float, float]:
    """The drop and its standard error, from the counted ones and, for accuracy, what the flips cost on average.

    The two are weighed by their precision; both errors are in the metric's unit.
    """
    known = isinstance(metric, TopK) and metric.k == 1 and before.labels is not None and not is_single(before.outputs)
    if not known or not np.isfinite(after.outputs).all():
        return drop, error
    assert before.labels is not None
    scores, target = aligned(before.outputs, before.labels)
    counted = target != IGNORED
    logs, target = log_probabilities(scores)[counted], target[counted]
    said = aligned(after.outputs, before.labels)[0][counted].argmax(-1)
    rows = np.arange(len(said))
    margin = logs.max(-1) - logs[rows, said]
    flipped = said != logs.argmax(-1)
    if flipped.sum() < FEWEST:
        return drop, error
    cost = 100 * advantage(margin, logs, target, float(np.percentile(margin[flipped], REACH)))
    mean, noise = float(cost.mean()), float(cost.std() / np.sqrt(before.n))
    doubt = max(DOUBT * abs(mean), abs(drop - mean) - 2 * error)  # a count that noise cannot explain is believed
    own = doubt * doubt + noise * noise
    trust = own / max(own + error * error, 1e-300)
    return mean + trust * (drop - mean), float(np.sqrt(trust)) * error


def advantage(margin: Floats, logs: Floats, labels: NDArray[np.int64], reach: float) -> Floats:
    """How much likelier the first of two answers is to be right than the second, [n], by their margin in log odds.

    Fitted to labels [n] where the two best of logs [n, classes] are at most `reach` apart: the share of labels that
    are one of the two, and a logistic curve through even odds.
    """
    from scipy.optimize import minimize_scalar  # 23 MB in memory, of no use to runs without labels

    best = np.argpartition(logs, -2, -1)[:, -2:]
    pair = np.take_along_axis(logs, best, -1)
    apart = np.abs(pair[:, 1] - pair[:, 0])
    close = apart <= reach
    first = best[np.arange(len(best)), pair.argmax(-1)]
    one = close & (best == labels[:, None]).any(-1)
    if one.sum() < FEWEST:
        return np.asarray(np.tanh(margin / 2))
    signed = np.where(first == labels, 1.0, -1.0)[one] * apart[one]

    def surprise(steepness: float) -> float:
        return float(np.logaddexp(0, -steepness * signed).mean())

    # A network may mean little by its odds, and be right all the same.
    steepest = STEEPEST / float(np.clip(reach, 1e-6, 1))
    steepness = float(minimize_scalar(surprise, bounds=(0, steepest), method="bounded").x)
    return np.asarray(one.sum() / close.sum() * np.tanh(steepness * margin / 2))
