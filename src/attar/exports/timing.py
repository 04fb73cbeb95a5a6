"""How long models take beside each other: interleaved, so that a noisy machine troubles all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

LEAST_ROUNDS, LEAST_SECONDS, MOST_SECONDS = 15, 0.4, 20.0
"""Rounds that are run at least, and how long all of them together take at least and, about, at most."""
WARM = 3


@dataclass(frozen=True)
class Latency:
    """Of one model: median milliseconds of a call, and its ratio to the first model's with the middle half's spread."""

    milliseconds: float
    ratio: float
    low: float
    high: float
    rounds: int


def latencies(calls: Mapping[str, Callable[[], Any]]) -> dict[str, Latency]:
    """Medians over rounds in which each call is run once, in turn; ratios are taken within a round."""
    for _ in range(WARM):
        for call in calls.values():
            call()
    rounds: list[list[float]] = []
    started = perf_counter()
    while (spent := perf_counter() - started) < MOST_SECONDS and (len(rounds) < LEAST_ROUNDS or spent < LEAST_SECONDS):
        rounds.append([_timed(call) for call in calls.values()])
    times = np.array(rounds)
    ratios = times / times[:, :1]
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75], axis=0)
    return {
        name: Latency(1e3 * float(np.median(times[:, k])), float(middle[k]), float(low[k]), float(high[k]), len(rounds))
        for k, name in enumerate(calls)
    }


def least(found: Mapping[str, Latency], names: Sequence[str], noise: float) -> int:
    """Which of the names takes the least time: the first, unless another is faster beyond `noise`, a share of the time.

    That is so in three rounds of four. found: as `latencies` gives it for calls with the first name in front.
    """
    first = found[names[0]].ratio
    surely = [k for k, name in enumerate(names) if found[name].ratio < (1 - noise) * first and found[name].high < first]
    return min(surely, key=lambda k: found[names[k]].ratio, default=0)


def _timed(call: Callable[[], Any]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start
