"""The planner of milliseconds: steps of kernels, one currency for channels and formats, the same plan every time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.plan.latency import FLOAT, INT8, ISLAND, Channels, Weighted, Work, descent, priced, sized

CONV = Work("Conv", (("group", (1,)), ("kernel_shape", (3, 3))), (1, 8, 8), (32, 16, 3, 3))
DEPTHWISE = Work("Conv", (("group", (32,)), ("kernel_shape", (3, 3))), (1, 8, 8), (32, 1, 3, 3))


def blocks(work: Work) -> float:
    """A runtime that works on whole blocks of 16 outputs; integers take half as long, islands as long as floats."""
    rows = -(-work.weight[0] // 16) * 16
    speed = {FLOAT: 1.0, INT8: 0.5, ISLAND: 1.0}[work.format]
    return speed * rows * work.weight[1] * 1e-3


def problem() -> tuple[list[Channels], list[Weighted]]:
    groups = [
        Channels("a", (32, 24, 16, 8), (0.0, 0.01, 0.02, 0.5)),
        Channels("b", (64, 48, 32, 16), (0.0, 0.2, 0.4, 0.9)),
    ]
    layers = [
        Weighted("one", (replace(CONV, weight=(32, 16, 3, 3)),), (("a", 0, 1),), 1e-4),
        Weighted("two", (replace(CONV, weight=(64, 32, 3, 3)),), (("b", 0, 1), ("a", 1, 1)), 1e-4),
        Weighted("three", (replace(CONV, weight=(10, 64, 3, 3)),), (("b", 1, 1),), 1e9),
    ]
    return groups, layers


def test_a_step_that_saves_nothing_is_leapt_over() -> None:
    groups, layers = problem()
    lonely = [Weighted("one", layers[0].works, (("a", 0, 1),))]
    lefts = [stage.left["a"] for stage in descent(groups[:1], lonely, blocks, integers=False)]
    assert lefts == [32, 16]  # 24 takes as long as 32, and 8 as long as 16


def test_channels_and_formats_share_one_currency() -> None:
    """Cheap integers come first, then cheap channels; integers that cost more than all channels come last."""
    groups, layers = problem()
    stages = descent(groups, layers, blocks)
    assert stages[0].integers == frozenset() and stages[2].integers == {"one", "two"}
    assert all(stage.left == stages[0].left for stage in stages[:3])
    assert stages[-1].integers == {"one", "two", "three"} and stages[-1].distortion > 1e8
    assert "three" not in stages[-2].integers and stages[-2].left == {"a": 8, "b": 16}
    slopes = [stage.slope for stage in stages[1:]]
    assert slopes[0] == min(slopes) and slopes[-1] == max(slopes)


def test_every_stage_is_faster_and_its_milliseconds_are_those_of_its_layers() -> None:
    groups, layers = problem()
    stages = descent(groups, layers, blocks)
    named = {group.name: group for group in groups}
    for before, after in pairwise(stages):
        assert after.milliseconds < before.milliseconds and after.distortion >= before.distortion
    for stage in stages:
        total = 0.0
        for layer in layers:
            work = sized(layer, layer.works[0], named, stage.left)
            total += blocks(replace(work, format=INT8 if layer.name in stage.integers else ISLAND))
        assert stage.milliseconds == pytest.approx(total)


@given(st.permutations(range(3)), st.permutations(range(2)))
def test_the_order_of_layers_and_groups_does_not_matter(layer_order, group_order) -> None:
    groups, layers = problem()
    expected = descent(groups, layers, blocks)
    found = descent([groups[i] for i in group_order], [layers[i] for i in layer_order], blocks)
    assert [(dict(s.left), s.integers) for s in found] == [(dict(s.left), s.integers) for s in expected]


@given(st.dictionaries(st.integers(0, 500), st.floats(1e-3, 10.0), max_size=40))
def test_a_plan_follows_from_its_costs_alone(noise) -> None:
    groups, layers = problem()

    def costs(work: Work) -> float:
        return noise.get(sum(map(ord, work.key)) % 500, 1.0) * blocks(work)

    assert descent(groups, layers, costs) == descent(groups, layers, costs)
    times = [stage.milliseconds for stage in descent(groups, layers, costs)]
    assert times == sorted(times, reverse=True)


def test_depthwise_convolutions_have_as_many_groups_as_channels() -> None:
    smaller = DEPTHWISE.resized((24, 1, 3, 3))
    assert smaller.groups == 24 and DEPTHWISE.groups == 32
    grouped = replace(CONV, attributes=(("group", (4,)),), weight=(32, 4, 3, 3))
    assert grouped.resized((32, 2, 3, 3)).groups == 4
    assert smaller.key != DEPTHWISE.key and replace(smaller, format=INT8).key != smaller.key


def test_what_the_whole_model_costs_in_each_form() -> None:
    groups, layers = problem()
    float_graph = priced(groups, layers, blocks, None)
    assert priced(groups, layers, blocks, {"one", "two", "three"}) == pytest.approx(float_graph / 2)
    assert priced(groups, layers, blocks, ()) == pytest.approx(float_graph)


def test_a_weight_used_twice_counts_twice() -> None:
    _, layers = problem()
    twice = replace(layers[0], works=layers[0].works * 2)
    assert priced([], [replace(twice, axes=())], blocks, None) == 2 * priced(
        [], [replace(layers[0], axes=())], blocks, None
    )
