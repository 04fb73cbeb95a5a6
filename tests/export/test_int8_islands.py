"""Convolutions beside dense layers in integers, by what each does alone; float nodes keep their own weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from static_int8 import opened

from adapters.onnx_models import model, node, random
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.exports.base import Task
from attar.exports.int8_islands import harmless_first, most_integers, multiplied
from attar.exports.int8_search import EVALUATIONS
from attar.exports.int8_start import dynamic_nodes
from attar.exports.onnx import int8 as onnx_int8
from attar.exports.onnx.int8 import OnnxInt8
from attar.exports.products import DYNAMIC
from attar.exports.qdq import CORE
from attar.exports.timing import Latency
from attar.plan.latency import Work
from attar.types import Dataset

CONVS = 6


def chain(outlier: int | None = None) -> onnx.ModelProto:
    """Six convolutions, each behind a sigmoid, and a dense layer; one reads a channel far beyond the others."""
    nodes, weights, x = [], {}, "x"
    for k in range(CONVS):
        weights[f"w{k}"] = random(8, 8, 3, 3)
        if k == outlier:
            weights["far"] = np.array([3000.0] + [1.0] * 7, np.float32).reshape(8, 1, 1)
            weights[f"w{k}"][:, 0] /= 3000
            nodes.append(node("Mul", f"{x} far", "wide"))
            nodes.append(node("Relu", "wide", "reached"))
            x = "reached"
        nodes += [node("Conv", f"{x} w{k}", f"c{k}", pads=[1] * 4), node("Sigmoid", f"c{k}", f"s{k}")]
        x = f"s{k}"
    nodes += [node("GlobalAveragePool", x, "p"), node("Flatten", "p", "f"), node("MatMul", "f v", "y")]
    return model(nodes, {**weights, "v": random(8, 6) * 4}, [8, 6, 6])


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset({"x": np.random.default_rng(0).normal(size=(200, 8, 6, 6)).astype(np.float32)})


def dynamic_too(proto: onnx.ModelProto, data: Dataset):
    adapter, work, judge = opened(proto, data)
    work.ops, work.kernels = CORE, dict.fromkeys(dynamic_nodes(work), DYNAMIC)
    return adapter, work, judge


def quantised(made: bytes) -> set[str]:
    """Names of convolutions with integer weights."""
    graph = onnx.load_from_string(made).graph
    makers = {name: one.op_type for one in graph.node for name in one.output}
    return {one.name for one in graph.node if one.op_type == "Conv" and makers.get(one.input[1]) == "DequantizeLinear"}


def test_what_does_harm_comes_last(data):
    _, work, judge = dynamic_too(chain(outlier=3), data)
    order = harmless_first(work, judge, dict(data.take([0]).inputs), 0.0)
    assert sorted(order) == sorted(f"Conv_c{k}" for k in range(CONVS))
    alone = {name: judge(work.build([one for one in order if one != name])) for name in order}
    assert max(alone, key=alone.__getitem__) == order[-1]  # all do the same work
    assert [alone[name] for name in order] == sorted(alone.values())


@pytest.mark.parametrize("bears", range(CONVS))
def test_the_most_are_found_by_halving(bears):
    order, asked = [f"n{k}" for k in range(CONVS)], []

    def passes(some):
        asked.append(len(some))
        return len(some) <= bears

    assert most_integers(order, passes, 8) == order[:bears] and len(asked) <= 3
    assert len(most_integers(order, passes, 1)) <= bears
    assert most_integers([], passes, 8) == [] and most_integers(order, passes, 0) == []


@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_convolutions_join_only_where_the_graph_is_faster(data, monkeypatch, ratio):
    monkeypatch.setattr(onnx_int8, "KEPT", np.inf)
    monkeypatch.setattr(
        onnx_int8, "latencies", lambda calls: {name: Latency(1, ratio, 0, 0, 1) for name in calls}
    )  # fmt: skip
    asked = []

    def acceptable(made: bytes) -> bool:
        asked.append(len(quantised(made)))
        return asked[-1] <= 2

    adapter = OnnxAdapter.open(chain())
    made = OnnxInt8.make(Task(adapter, data, False, acceptable, dict(data.take([0]).inputs)))
    assert len(asked) <= EVALUATIONS and made.facts["route"] == DYNAMIC
    assert len(quantised(made.data)) == (2 if ratio < 1 else 0)
    assert len(made.facts["float_nodes"]) == (CONVS - 2 if ratio < 1 else 0)
    assert "MatMulInteger" in {one.op_type for one in onnx.load_from_string(made.data).graph.node}


def test_float_nodes_have_the_weights_that_they_came_with(data):
    _, work, _ = dynamic_too(chain(), data)
    plain = {t.name: numpy_helper.to_array(t) for t in work.plain.values()}
    assert {f"w{k}" for k in range(CONVS)} <= set(plain)
    made = onnx.load_from_string(work.build(["Conv_c1", "Conv_c4"]))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    for name in ("w1", "w4"):
        assert np.array_equal(stored[name], plain[name])
    rounded = {tensor.name: numpy_helper.to_array(tensor) for tensor in work.model.graph.initializer}
    assert not np.array_equal(rounded["w1"], plain["w1"])
    assert "w0" not in stored and "w2" not in stored


def test_multiply_adds_of_a_work():
    work = Work("Conv", (("group", (1,)), ("strides", (2, 2))), (1, 8, 8), (16, 4, 3, 3))
    assert multiplied(work) == 16 * 4 * 9 * 16
    assert multiplied(Work("MatMul", (), (3,), (10, 20))) == 600


def test_routes_are_compared_by_the_ranges_that_they_have(data, monkeypatch):
    """Ranges become better for all routes while the first one is refined."""
    adapter, work, judge = dynamic_too(chain(), data)
    dynamic = list[bool]()
    monkeypatch.setattr(onnx_int8, "refined", lambda *_: 0.0)
    monkeypatch.setattr(onnx_int8, "first_floats", lambda work, *_: dynamic.append(bool(work.kernels)) or [])
    monkeypatch.setattr(onnx_int8, "HOPELESS", 1e9)
    onnx_int8.landed(work, judge, Task(adapter, data, False, lambda made: False, {"x": data.inputs["x"][:1]}))
    moved = {}
    for route in (onnx_int8.STATIC, DYNAMIC):
        onnx_int8.enter(work, route)
        moved[route] = judge(work.build())
    assert moved[DYNAMIC] < moved[onnx_int8.STATIC] and dynamic == [True]
