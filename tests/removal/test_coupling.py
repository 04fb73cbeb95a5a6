# ruff: noqa: E501
"""Labels through a neutral graph: what is united, what is offset, what must stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import UsageError
from attar.structure.base import canonical, checked, kept_positions
from attar.structure.graph import Along, Contract, Graph, Join, Multiply, Opaque, Part, Permute, Reshape, Vector
from attar.structure.groups import coupled
from attar.structure.reshaping import relabelled, runs
from attar.types import Layer

N = 1009
"""The number of examples."""


def dense(place, x, y, weight, **more):
    return Multiply(place, (x,), (y,), weight, 0, 1, -1, -1, **more)


def graph(nodes, values, tensors, outputs=("y",), unknown=None):
    sizes = {name: (N, *shape) for name, shape in values.items()}
    return Graph(nodes, sizes, tensors, outputs, N, unknown or {})


def groups_of(*args, **kwargs):
    return {g.name: g for g in coupled(graph(*args, **kwargs)).structure.groups}


def places(group):
    return {(m.tensor, m.axis): m.index.tolist() for m in group.members}


def test_a_hidden_layer():
    nodes = [dense("a", "x", "h", "w", vectors=(Vector("b", ((0, 1),)),)), dense("c", "h", "y", "v")]
    (group,) = groups_of(nodes, {"x": (3,), "h": (4,), "y": (2,)}, {"w": (4, 3), "b": (4,), "v": (2, 4)}).values()
    each = [[0], [1], [2], [3]]
    assert places(group) == {("w", 0): each, ("b", 0): each, ("v", 1): each}
    assert [m.side for m in group.members] == ["out", "with", "in"]


def test_inputs_and_outputs_must_stay():
    structure = coupled(graph([dense("a", "x", "y", "w")], {"x": (3,), "y": (4,)}, {"w": (4, 3)})).structure
    assert structure.groups == ()
    assert structure.fixed == {"w": "an output of the model"}


def test_a_sum_with_the_input_must_stay():
    nodes = [dense("a", "x", "h", "w"), Along("sum", ("h", "x"), ("s",)), dense("c", "s", "y", "v")]
    values, tensors = {"x": (4,), "h": (4,), "s": (4,), "y": (2,)}, {"w": (4, 4), "v": (2, 4)}
    structure = coupled(graph(nodes, values, tensors)).structure
    assert structure.groups == ()
    assert structure.fixed["w"] == "combined by sum with what has no channels to remove"


def test_a_weight_used_in_an_unknown_way_must_stay():
    nodes = [dense("a", "x", "h", "w"), dense("c", "h", "y", "v")]
    values, tensors = {"x": (3,), "h": (4,), "y": (2,)}, {"w": (4, 3), "v": (2, 4)}
    structure = coupled(graph(nodes, values, tensors, unknown={"v": "read by Sort"})).structure
    assert structure.fixed["w"] == "read by Sort"


def test_a_value_of_unknown_size_must_stay():
    nodes = [dense("a", "x", "h", "w"), Along("b", ("h",), ("g",)), dense("c", "h", "y", "v")]
    values, tensors = {"x": (3,), "h": (4,), "y": (2,)}, {"w": (4, 3), "v": (2, 4)}
    assert coupled(graph(nodes, values, tensors)).structure.fixed["w"] == "its sizes are not known"


def test_a_part_of_a_value():
    """[a, b] = split(h); y = v [b, a]: the two halves are two runs of columns, in the other order."""
    nodes = [
        dense("a", "x", "h", "w"), Part("cut", ("h",), ("p", "q"), -1), Join("put", ("q", "p"), ("r",), -1),
        dense("c", "r", "y", "v"),
    ]  # fmt: skip
    values = {"x": (3,), "h": (6,), "p": (2,), "q": (4,), "r": (6,), "y": (2,)}
    (group,) = groups_of(nodes, values, {"w": (6, 3), "v": (2, 6)}).values()
    assert places(group)["v", 1] == [[4], [5], [0], [1], [2], [3]]


def test_join_with_what_has_no_channels():
    nodes = [dense("a", "x", "h", "w"), Join("put", ("x", "h"), ("r",), -1), dense("c", "r", "y", "v")]
    (group,) = groups_of(nodes, {"x": (3,), "h": (4,), "r": (7,), "y": (2,)}, {"w": (4, 3), "v": (2, 7)}).values()
    assert places(group)["v", 1] == [[3], [4], [5], [6]]


def test_broadcast_over_channels_must_stay():
    nodes = [
        dense("a", "x", "h", "w"),
        dense("b", "x", "g", "u"),
        Along("m", ("h", "g"), ("s",)),
        dense("c", "s", "y", "v"),
    ]
    values = {"x": (3,), "h": (4,), "g": (1,), "s": (4,), "y": (2,)}
    structure = coupled(graph(nodes, values, {"w": (4, 3), "u": (1, 3), "v": (2, 4)})).structure
    assert [g.name for g in structure.groups] == ["w"]
    assert structure.fixed["u"] == "broadcast by m"


def test_products_of_values():
    """Heads stay together, what is summed between two values stays whole."""
    nodes = [dense("a", "x", "h", "w"), dense("b", "x", "g", "u"), Permute("t", ("g",), ("gt",), (0, 2, 1)),
             Contract("m", ("h", "gt"), ("s",)), Opaque("o", ("s",), ("y",), "read by o")]  # fmt: skip
    values = {"x": (5, 3), "h": (5, 4), "g": (5, 4), "gt": (4, 5), "s": (5, 5), "y": (1,)}
    structure = coupled(graph(nodes, values, {"w": (4, 3), "u": (4, 3)})).structure
    assert structure.fixed["w"] == structure.fixed["u"] == "summed by m with another value"


def test_a_lookup_multiplies_nothing():
    nodes = [Multiply("e", ("x",), ("h",), "table", 1, None, -1, -1), dense("c", "h", "y", "v")]
    found = coupled(graph(nodes, {"x": (5,), "h": (5, 4), "y": (5, 2)}, {"table": (9, 4), "v": (2, 4)})).structure
    assert found.products["table"].macs == 0
    assert found.products["v"].macs == 5 * 8
    assert found.groups[0].name == "table"


def test_a_reshape_that_keeps_its_numbers():
    nodes = [dense("a", "x", "h", "w"), Reshape("r", ("h",), ("f",), (1,)), dense("c", "f", "y", "v")]
    structure = coupled(
        graph(nodes, {"x": (2, 3), "h": (2, 4), "f": (8,), "y": (2,)}, {"w": (4, 3), "v": (2, 8)})
    ).structure
    assert "size written in code" in structure.fixed["w"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((N, 4, 6), (N, 24), [((0,), (0,)), ((1, 2), (1,))]),
        ((N, 24), (N, 4, 6), [((0,), (0,)), ((1,), (1, 2))]),
        ((N, 4, 1, 1), (N, 4), [((0,), (0,)), ((1, 2, 3), (1,))]),
        ((N, 4), (N, 1, 4), [((0,), (0,)), ((1,), (1, 2))]),
        ((N, 5, 4), (5 * N, 4), [((0, 1), (0,)), ((2,), (1,))]),
        ((N, 6), (N, 5), None),
    ],
)
def test_runs(before, after, expected):
    found = runs(before, after)
    assert (None if found is None else [(tuple(a), tuple(b)) for a, b in found]) == expected


@settings(deadline=None)
@given(st.integers(2, 4), st.integers(1, 4), st.integers(1, 3))
def test_labels_through_a_flatten_and_back(channels, height, width):
    labels = np.arange(channels)
    sizes, flat = (N, channels, height, width), (N, channels * height * width)
    united = []
    (_, made) = relabelled((None, labels, None, None), sizes, flat, lambda a, b: united.append((a, b)))
    np.testing.assert_array_equal(made, np.repeat(labels, height * width))
    back = relabelled((None, made), flat, sizes, lambda a, b: united.append((a, b)))
    np.testing.assert_array_equal(back[1], labels)
    assert back[2:] == (None, None)
    assert not united


def test_taking_apart_unites_what_stays_together():
    united = []
    made = relabelled((None, np.arange(6)), (N, 6), (N, 2, 3), lambda a, b: united.append((a.tolist(), b.tolist())))
    assert made[1].tolist() == [0, 3]
    assert made[2] is None
    assert united == [([[0, 1, 2], [3, 4, 5]], [[0], [3]])]


def test_channels_do_not_survive_a_merge_with_examples():
    assert relabelled((np.arange(3), np.arange(4)), (3, 4), (12,), lambda a, b: None) is None


def test_keep_is_checked():
    (group,) = groups_of([dense("a", "x", "h", "w"), dense("c", "h", "y", "v")], {"x": (3,), "h": (4,), "y": (2,)}, {"w": (4, 3), "v": (2, 4)}).values()  # fmt: skip
    assert checked((group,), {})["w"].tolist() == [0, 1, 2, 3]
    assert checked((group,), {"w": [2, 0]})["w"].tolist() == [0, 2]
    for keep in ([], [4], [-1], [1, 1]):
        with pytest.raises(UsageError, match="channels to keep"):
            checked((group,), {"w": keep})
    with pytest.raises(UsageError, match="must be one of the model's"):
        checked((group,), {"nothing": [0]})
    kept = kept_positions((group,), {"w": np.array([1, 2])}, {"w": (4, 3)})
    assert {key: value.tolist() for key, value in kept.items()} == {("w", 0): [1, 2]}


def test_canonical_rows_and_columns():
    layer = Layer("w", "conv", 8, 4 * 9, (8, 4, 3, 3))
    assert canonical(layer, 4, np.array([[0], [2]]), "in").reshape(2, -1)[1].tolist() == list(range(18, 27))
    assert canonical(layer, 8, np.array([[3]]), "out").ravel().tolist() == [3]
