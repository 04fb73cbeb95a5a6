"""Float graphs with fewer operators: the same outputs, and nothing folded that something else sees."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from adapters.onnx_models import model, node, random
from attar.exports.onnx.runtime import Runtime
from attar.exports.tidy import tidied


def kinds(made: onnx.ModelProto) -> Counter[str]:
    return Counter(one.op_type for one in made.graph.node)


def same(nodes, weights, shape=(4, 6, 6), **options):
    """The model and its tidy form, which is checked to say the same on noise."""
    given_model = model(nodes, weights, list(shape), **options)
    before = given_model.SerializeToString()
    made = tidied(onnx.load_from_string(before))
    x = {"x": np.random.default_rng(1).normal(0, 2, (3, *shape)).astype(np.float32)}
    wanted, got = Runtime(before).run(x), Runtime(made.SerializeToString()).run(x)
    assert np.abs(wanted - got).max() <= 2e-5 * max(np.abs(wanted).max(), 1)
    return made


def scalar(value: float) -> np.ndarray:
    return np.array([value], np.float32)


def test_arithmetic_behind_a_convolution_goes_into_it():
    nodes = [
        node("Conv", "x w b", "a"), node("Mul", "k a", "c"), node("Add", "c d", "e"), node("Sub", "e k", "f"),
        node("Div", "f s", "g"), node("Relu", "g", "y"),
    ]  # fmt: skip
    weights = {"w": random(8, 4, 3, 3), "b": random(8), "k": scalar(2.5), "d": random(8, 1, 1), "s": random(1, 8, 1, 1)}
    made = same(nodes, weights)
    assert kinds(made) == {"Conv": 1, "Relu": 1}
    assert {tensor.name for tensor in made.graph.initializer} == {"w", "b"}


def test_a_convolution_without_a_bias_gets_one():
    made = same([node("Conv", "x w", "a"), node("Add", "a d", "y")], {"w": random(8, 4, 1, 1), "d": scalar(0.5)})
    assert kinds(made) == {"Conv": 1} and len(made.graph.node[0].input) == 3


def test_a_bias_takes_no_name_that_somebody_else_reads():
    nodes = [
        node("Conv", "x w", "a"), node("Add", "a d", "b"), node("Sigmoid", "b", "c"), node("Conv", "c v w_bias", "y"),
    ]  # fmt: skip
    weights = {"w": random(4, 4, 1, 1), "d": scalar(0.5), "v": random(4, 4, 1, 1), "w_bias": random(4)}
    made = same(nodes, weights)
    biases = [one.input[2] for one in made.graph.node if one.op_type == "Conv"]
    assert len(set(biases)) == 2 and "w_bias" in biases


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("padded", [False, True])
def test_arithmetic_before_a_convolution(groups, padded):
    """Zeros around a picture are not shifted with it: of an offset before a padded one only the factor goes."""
    nodes = [
        node("Sigmoid", "x", "s"), node("Mul", "s k", "a"), node("Add", "a d", "b"),
        node("Conv", "b w", "y", group=groups, pads=[int(padded)] * 4),
    ]  # fmt: skip
    weights = {"w": random(8, 4 // groups, 3, 3), "k": random(1, 4, 1, 1) + 2, "d": random(4, 1, 1)}
    made = same(nodes, weights)
    assert kinds(made) == {"Sigmoid": 1, "Conv": 1, **({"Add": 1} if padded else {})}


def test_nothing_is_divided_by_a_factor_near_zero():
    nodes = [
        node("Sigmoid", "x", "s"), node("Mul", "s k", "a"), node("Add", "a d", "b"),
        node("Conv", "b w", "y", pads=[1, 1, 1, 1]),
    ]  # fmt: skip
    made = same(nodes, {"w": random(8, 4, 3, 3), "k": scalar(1e-6), "d": scalar(1.0)})
    assert kinds(made) == {"Sigmoid": 1, "Mul": 1, "Add": 1, "Conv": 1}


@pytest.mark.parametrize("form", ["divided", "multiplied", "inside"])
def test_hard_swish_in_four_operators_becomes_two(form):
    last = {
        "divided": [node("Mul", "x c", "m"), node("Div", "m six", "h")],
        "multiplied": [node("Mul", "c x", "m"), node("Mul", "sixth m", "h")],
        "inside": [node("Div", "c six", "m"), node("Mul", "x m", "h")],
    }[form]
    nodes = [node("Add", "x three", "p"), node("Clip", "p zero six0", "c"), *last, node("Conv", "h w", "y")]
    weights = {
        "three": scalar(3), "six": scalar(6), "sixth": scalar(1 / 6), "zero": np.float32(0), "six0": np.float32(6),
        "w": random(8, 4, 1, 1),
    }  # fmt: skip
    made = same(nodes, weights)
    assert kinds(made) == {"HardSigmoid": 1, "Mul": 1, "Conv": 1}


@pytest.mark.parametrize("change", [{"three": 2}, {"six": 5}, {"six0": 5}, {"zero": -1}])
def test_other_gates_stay(change):
    values = {"three": 3, "six": 6, "zero": 0, "six0": 6, **change}
    nodes = [
        node("Add", "x three", "p"), node("Clip", "p zero six0", "c"), node("Mul", "x c", "m"),
        node("Div", "m six", "h"), node("Relu", "h", "y"),
    ]  # fmt: skip
    ends = {name: np.float32(values[name]) for name in ("zero", "six0")}
    made = same(nodes, {"three": scalar(values["three"]), "six": scalar(values["six"]), **ends})
    assert "HardSigmoid" not in kinds(made)


def test_what_something_else_sees_stays():
    """Outputs of the graph, tensors with two readers, and weights of two convolutions."""
    nodes = [
        node("Conv", "x w", "a"), node("Mul", "a k", "b"), node("Conv", "x w", "c"), node("Add", "a c", "d"),
        node("Add", "b d", "y"),
    ]  # fmt: skip
    made = same(nodes, {"w": random(8, 4, 1, 1), "k": scalar(3.0)})
    assert kinds(made)["Mul"] == 1
    nodes = [node("Conv", "x w", "a"), node("Mul", "a k", "b"), node("Conv", "x w", "c"), node("Add", "b c", "y")]
    made = same(nodes, {"w": random(8, 4, 1, 1), "k": scalar(3.0)})
    assert kinds(made) == {"Conv": 2, "Add": 1} and len({one.input[1] for one in made.graph.node[:2]}) == 2


def test_constants_that_change_the_shape_or_come_from_outside_stay():
    made = same([node("Conv", "x w", "a"), node("Add", "a d", "y")], {"w": random(8, 4, 1, 1), "d": random(6)})
    assert kinds(made)["Add"] == 1
    given_model = model([node("Conv", "x w", "a"), node("Mul", "a k", "y")], {"w": random(8, 4, 1, 1), "k": scalar(2)},
                        [4, 6, 6])  # fmt: skip
    given_model.graph.input.append(onnx.helper.make_tensor_value_info("k", 1, [1]))
    assert kinds(tidied(given_model))["Mul"] == 1


STEPS = st.lists(st.tuples(st.sampled_from(["Mul", "Add", "Sub", "Div"]), st.booleans(), st.booleans()), max_size=5)


@settings(max_examples=40, deadline=None)
@given(before=STEPS, after=STEPS, padded=st.booleans(), seed=st.integers(0, 99))
def test_any_chain_says_the_same(before, after, padded, seed):
    rng, nodes, weights, x = np.random.default_rng(seed), [node("Sigmoid", "x", "s")], {"w": random(6, 3, 3, 3)}, "s"

    def chain(steps, channels):
        nonlocal x
        for op, wide, first in steps:
            name = f"k{len(weights)}"
            shape = (channels, 1, 1) if wide else (1,)
            weights[name] = np.asarray(rng.uniform(0.5, 2, shape) * rng.choice([-1, 1]), np.float32)
            pair = f"{name} {x}" if first and op in ("Mul", "Add") else f"{x} {name}"
            x = f"t{len(weights)}"
            nodes.append(node(op, pair, x))

    chain(before, 3)
    nodes.append(node("Conv", f"{x} w", "conv", pads=[int(padded)] * 4))
    x = "conv"
    chain(after, 6)
    nodes.append(node("Relu", x, "y"))
    made = same(nodes, weights, (3, 5, 5))
    left = sum(count for op, count in kinds(made).items() if op in ("Mul", "Add", "Sub", "Div"))
    assert left <= (2 * len(before) if padded else 0)
    assert all(np.isfinite(numpy_helper.to_array(tensor)).all() for tensor in made.graph.initializer)
