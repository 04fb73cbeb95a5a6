"""Times of models beside each other, and which of them is surely the fastest."""

from __future__ import annotations

import pytest

from attar.exports.timing import Latency, latencies, least


def test_timing_is_interleaved_and_relative_to_the_first():
    order = []
    found = latencies({"a": lambda: order.append("a"), "b": lambda: order.append("b")})
    assert order[:6] == ["a", "b"] * 3 and found["a"].ratio == 1 and found["b"].rounds >= 15


def told(*spreads: tuple[float, float, float]) -> dict[str, Latency]:
    return {f"c{k}": Latency(1, middle, low, high, 15) for k, (low, middle, high) in enumerate(spreads)}


@pytest.mark.parametrize(("spreads", "best"), [
    ([(1, 1, 1), (0.7, 0.8, 0.9), (0.65, 0.7, 0.75)], 2),
    ([(1, 1, 1), (0.94, 0.96, 0.98)], 0),  # within noise
    ([(1, 1, 1), (0.4, 0.7, 1.2)], 0),  # on a machine that says now this, now that
    ([(1, 1, 1), (0.4, 0.7, 1.2), (0.8, 0.9, 0.95)], 2),
    ([(2, 2, 2), (1.7, 1.8, 1.9)], 1),
    ([(1, 1, 1)], 0),
])  # fmt: skip
def test_another_choice_has_to_be_faster_most_of_the_time(spreads, best):
    found = told(*spreads)
    assert least(found, list(found), 0.05) == best
