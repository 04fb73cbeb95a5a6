"""First operators in float together, where what lies between them is what 8 bits cannot hold."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.onnx_models import model, node, random
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.exports.int8_ranges import best_rule, judge_of
from attar.exports.int8_search import EVALUATIONS, FIRST, first_floats, floats_within, within_drop, worst_first
from attar.exports.int8_start import measured
from attar.types import Dataset


class Chain:
    """Ten operators in a row: a tensor between two of them adds noise while one of the two is in integers."""

    operators = tuple(range(10))

    def __init__(self, noise: dict[int, float]) -> None:
        self.noise = noise
        """By the operator that reads the tensor."""

    def build(self, floats=()) -> float:
        return 0.1 + sum(noise for reader, noise in self.noise.items() if not {reader - 1, reader} <= {-1, *floats})


def judge(built: float) -> float:
    return built


@pytest.mark.parametrize(("noise", "wanted"), [
    ({1: 1.0}, [0, 1]), ({0: 1.0}, [0]), ({0: 0.5, 1: 0.3, 2: 0.3}, [0, 1, 2]), ({5: 1.0}, []), ({}, []),
    ({1: 1.0, 3: 1.0}, [0, 1]),
])  # fmt: skip
def test_the_first_ones_are_taken_together_where_that_brings_outputs_nearer(noise, wanted):
    work = Chain(noise)
    assert first_floats(work, work.operators, judge) == wanted and len(wanted) <= FIRST


def test_a_model_of_two_is_never_in_float_as_a_whole():
    assert first_floats(Chain({1: 1.0}), (0, 1), judge) == []


def test_others_are_ordered_with_the_first_ones_in_float():
    work = Chain({1: 1.0, 4: 0.1, 5: 0.2})
    order = worst_first(work, work.operators, judge, kept=[0, 1])
    assert sorted(order) == list(range(2, 10))
    tested = []

    def acceptable(built: float) -> bool:
        tested.append(built)
        return built < 0.25

    found = within_drop(work, work.operators, judge, acceptable)
    assert found[:2] == [0, 1] and work.build(found) < 0.25 and len(tested) <= EVALUATIONS
    assert floats_within(work, work.operators, judge, lambda built: built < 0.45, EVALUATIONS) == [0, 1]


def test_a_wide_tensor_between_two_convolutions():
    """Channels of very different widths: either convolution alone in float leaves the tensor in 8 bits."""
    weights = {"w1": random(8, 3, 3, 3), "w2": random(8, 8, 1, 1), "w3": random(8, 8, 1, 1), "w4": random(8, 8, 1, 1)}
    weights["w1"][0] *= 300
    weights["w2"][:, 0] /= 300
    nodes = [node("Conv", "x w1", "a0"), node("Relu", "a0", "a")]
    for k, (before, after) in enumerate(("ab", "bc"), 2):
        nodes += [node("Conv", f"{before} w{k}", f"{after}0"), node("Relu", f"{after}0", after)]
    proto = model([*nodes, node("Conv", "c w4", "y")], weights, [3, 8, 8])
    data = Dataset({"x": np.random.default_rng(0).normal(size=(100, 3, 8, 8)).astype(np.float32)})
    adapter = OnnxAdapter.open(proto)
    work = measured(adapter, data)
    told = judge_of(adapter.run, data, classes=False)
    whole = best_rule(work, told)
    first = first_floats(work, work.operators, told)
    assert first == work.operators[:2] and told(work.build(first)) < 0.1 * whole
    assert told(work.build(first[:1])) > 0.5 * whole < 2 * told(work.build(first[1:]))
