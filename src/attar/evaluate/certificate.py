"""The verdict: how much worse a candidate is on the same examples, with a bound, and how many would be needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from attar.errors import DataError, UsageError
from attar.evaluate import bootstrap
from attar.evaluate.base import Floats, Metric
from attar.evaluate.bounds import mean_upper, paired_upper, share_upper, unseen_upper
from attar.types import Certificate, Score

MOST_EXAMPLES = 10**10
"""Above this many examples none are said to be enough."""


def holds(certificate: Certificate, guarantee: str) -> bool:
    """Whether what a recipe's guarantee asks for holds: the bound, or the point estimate."""
    if guarantee == "bound":
        return certificate.verdict == "certified"
    return certificate.drop <= certificate.max_drop


def certify(before: Score, after: Score, metric: Metric, max_drop: float, confidence: float = 0.95) -> Certificate:
    """The certificate of a candidate's score beside the original's on the same examples, in the same order.

    Right or wrong per example: the score test for paired proportions, exact where nothing changed; agreement, where the
    original is right by definition: the exact binomial bound. Bounded per-example values: the betting bound. Anything
    else: a seeded paired bootstrap, which is approximate. Raises DataError where the scores are not of the same
    examples, UsageError for an impossible max_drop or confidence.
    """
    _check(before, after, metric, max_drop, confidence)
    pair = _binary(before, after, metric)
    if not math.isfinite(after.value):
        return _made(before, after, metric, max_drop, confidence, bounds=(-math.inf, math.inf), bound="bootstrap")
    if pair is not None:
        flips, scale = pair
        return _flipped(before, after, metric, max_drop, confidence, flips=flips, scale=scale)
    if metric.limits is not None and before.per_example is not None and after.per_example is not None:
        bounds = _betting(before.per_example, after.per_example, metric, confidence)
        return _made(before, after, metric, max_drop, confidence, bounds=bounds, bound="betting")
    bounds = bootstrap.bounds(before, after, metric, confidence)
    return _made(before, after, metric, max_drop, confidence, bounds=bounds, bound="bootstrap")


def fixed_sequence(certificates: Sequence[Certificate]) -> int | None:
    """Index of the last certified one before the first that is not; None where the first is not.

    Certificates of candidates in an order fixed before the certify split was looked at (safest first): each is tested
    at the full level, and the chance that the one returned is wrongly certified stays at 1 - confidence (Maurer,
    Hothorn and Lehmacher 1995).
    """
    last: int | None = None
    for index, certificate in enumerate(certificates):
        if certificate.verdict != "certified":
            break
        last = index
    return last


def smallest_certifiable(n: int, rho: float = 0.0, confidence: float = 0.95) -> float:
    """The least drop, in percentage points, that n examples certify where the model loses as often as it gains.

    rho is the share of examples that change sides, 0 for an unchanged model.

    >>> round(smallest_certifiable(10_000), 3), round(smallest_certifiable(10_000, rho=0.02), 3)
    (0.03, 0.234)
    """
    flipped = rho * n / 2
    return float(100 * paired_upper(flipped, flipped, n, confidence))


def least_bound(metric: Metric, n: int, confidence: float = 0.95) -> float:
    """The least upper bound on the drop that n examples can give, an unchanged model's, in the metric's unit.

    Zero where the bound is a bootstrap's, which sees no more than these examples.
    """
    if metric.unit == "points":
        return smallest_certifiable(n, 0.0, confidence)
    return 0.0 if metric.limits is None else _betting(np.zeros(n), np.zeros(n), metric, confidence)[1]


def examples_needed(max_drop: float, drop: float = 0.0, rho: float = 0.0, confidence: float = 0.95) -> int | None:
    """Fewest examples that certify max_drop at an observed drop (both in points) and flip rate rho; None if none do.

    >>> examples_needed(0.5), examples_needed(0.5, drop=0.1, rho=0.02)
    (598, 3537)
    """
    rho = max(rho, abs(drop) / 100)
    lost, gained = (rho + drop / 100) / 2, (rho - drop / 100) / 2

    def upper(n: int) -> float:
        return float(100 * paired_upper(lost * n, gained * n, n, confidence))

    return None if drop >= max_drop else _fewest(upper, max_drop)


def _fewest(upper: Callable[[int], float], limit: float) -> int | None:
    """The least n at which an upper bound that falls with n is within the limit."""
    high = 1
    while upper(high) > limit:
        high *= 2
        if high > MOST_EXAMPLES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if upper(middle) <= limit else (middle, high)
    return high


def _check(before: Score, after: Score, metric: Metric, max_drop: float, confidence: float) -> None:
    """Scores of one metric on the same examples, and numbers that can be."""
    if not (math.isfinite(max_drop) and max_drop >= 0):
        raise UsageError(f"certificate: max_drop must be a number, zero or more. Received {max_drop!r}.")
    if not 0.5 < confidence < 1:
        raise UsageError(f"certificate: confidence must be above 0.5 and below 1. Received {confidence!r}. Use 0.95.")
    names = {before.metric, after.metric, metric.name}
    if len(names) > 1 or before.n != after.n or before.n < 1:
        raise DataError(
            "certificate: both scores must be of one metric on the same examples. Received "
            f"{before.metric} on {before.n} and {after.metric} on {after.n}, for {metric.name}."
        )


def _binary(before: Score, after: Score, metric: Metric) -> tuple[tuple[int, int], float] | None:
    """(lost, gained) and the value of right where every example is at one of two ends, otherwise None."""
    first, second = before.per_example, after.per_example
    if first is None or second is None or (metric.relative_to_original and metric.unit != "points"):
        return None
    ends = metric.limits or (0.0, 1.0)
    found = np.union1d(first, second)
    if not np.isin(found, ends).all() or (metric.limits is None and len(found) < 2):
        return None
    better, worse = int(np.sum(second > first)), int(np.sum(second < first))
    lost, gained = (worse, better) if metric.higher_is_better else (better, worse)
    return (lost, gained), ends[1] - ends[0]


def _flipped(
    before: Score,
    after: Score,
    metric: Metric,
    max_drop: float,
    confidence: float,
    *,
    flips: tuple[int, int],
    scale: float,
) -> Certificate:
    """The certificate of examples that are right or wrong; scale is what a right one is worth."""
    n, (lost, gained), one_sided = before.n, flips, metric.relative_to_original

    def upper(b: float, c: float, size: float) -> float:
        found = share_upper(b, size, confidence) if one_sided else paired_upper(b, c, size, confidence)
        return scale * float(found)

    def unchanged(size: int) -> float:
        return scale * float(unseen_upper(size, confidence))

    high = upper(lost, gained, n)
    low = scale * (1 - float(share_upper(n - lost, n, confidence))) if one_sided else -upper(gained, lost, n)
    drop, even = scale * (lost - gained) / n, (lost + gained) / 2
    short = unchanged(n) > max_drop or (drop < max_drop and not one_sided and upper(even, even, n) > max_drop)
    needed: int | None = None
    if drop < max_drop < high:
        needed = _fewest(lambda size: upper(lost * size / n, gained * size / n, size), max_drop)
    elif short and drop >= max_drop:
        needed = _fewest(unchanged, max_drop)
    bound = "exact" if one_sided or not lost + gained else "score"
    made = _made(before, after, metric, max_drop, confidence, bounds=(low, high), bound=bound)
    return _with_flips(made, flips, short, needed)


def _with_flips(made: Certificate, flips: tuple[int, int], short: bool, needed: int | None) -> Certificate:
    """A certificate with its flips, and the verdict and need that follow from them."""
    certified = made.verdict == "certified"
    verdict = "certified" if certified else "not certifiable" if short else "not certified"
    return replace(made, verdict=verdict, lost=flips[0], gained=flips[1], needed=None if certified else needed)


def _betting(first: Floats, second: Floats, metric: Metric, confidence: float) -> tuple[float, float]:
    """Lower and upper bound on the mean loss per example, from values within the metric's limits."""
    assert metric.limits is not None
    sign = 1.0 if metric.higher_is_better else -1.0
    loss, width = sign * (first - second), metric.limits[1] - metric.limits[0]
    least = 0.0 if metric.relative_to_original else -width  # the original itself has the best value there is
    return -mean_upper(-loss, -width, -least, confidence), mean_upper(loss, least, width, confidence)


def _made(
    before: Score,
    after: Score,
    metric: Metric,
    max_drop: float,
    confidence: float,
    *,
    bounds: tuple[float, float],
    bound: str,
) -> Certificate:
    """Drop, verdict and how many examples are needed, for a bound that narrows like the square root of n."""
    drop = before.value - after.value if metric.higher_is_better else after.value - before.value
    low, high = min(bounds[0], drop), max(bounds[1], drop)
    verdict, needed = "certified" if high <= max_drop else "not certified", None
    if high > max_drop > drop:
        verdict = "not certifiable" if high - drop > max_drop else verdict
        needed = math.ceil(before.n * ((high - drop) / (max_drop - drop)) ** 2)
    return Certificate(
        metric=metric.name,
        before=before.value,
        after=after.value,
        drop=drop,
        lower=low,
        upper=high,
        max_drop=max_drop,
        confidence=confidence,
        n=before.n,
        bound=bound,
        verdict=verdict,
        needed=needed,
    )
