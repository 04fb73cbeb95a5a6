"""int8 without ranges: dense layers and LSTMs whose activations become integers as they come, and the choice of it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from adapters.onnx_models import model, node, random, recurrent
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.errors import ModelError
from attar.exports import int8_floats
from attar.exports.base import Task
from attar.exports.int8_search import EVALUATIONS
from attar.exports.int8_start import dynamic_nodes, rounded
from attar.exports.onnx import int8 as onnx_int8
from attar.exports.onnx.int8 import OnnxInt8
from attar.exports.onnx.runtime import Runtime
from attar.exports.products import DYNAMIC
from attar.exports.qdq import prepared
from attar.exports.recurrent import lstm_nodes
from attar.exports.timing import Latency
from attar.types import Dataset


def encoder() -> onnx.ModelProto:
    """Embeddings, a norm, a gated layer with an outlier channel, a norm, a classifier."""
    gain = np.ones(64, np.float32)
    gain[3] = 6
    nodes = [
        node("Gather", "table x", "e"), node("LayerNormalization", "e gain shift", "a"),
        node("MatMul", "a w1", "b"), node("Add", "b b1", "c"), node("Relu", "c", "d"), node("MatMul", "d w2", "f"),
        node("Add", "f a", "g"), node("LayerNormalization", "g gain shift", "h"),
        node("ReduceMean", "h", "m", axes=[1], keepdims=0), node("Gemm", "m w3 b3", "y", transB=1),
    ]  # fmt: skip
    weights = {
        "table": random(200, 64), "gain": gain, "shift": random(64), "w1": random(64, 128), "b1": random(128),
        "w2": random(128, 64), "w3": random(10, 64), "b3": random(10),
    }  # fmt: skip
    return model(nodes, weights, [12], kind=onnx.TensorProto.INT64)


@pytest.fixture(scope="module")
def data():
    return Dataset({"x": np.random.default_rng(0).integers(0, 200, (300, 12))})


def task(adapter, data, acceptable=lambda _: True) -> Task:
    return Task(adapter, data, True, acceptable, dict(data.take([0]).inputs))


def faster(monkeypatch, *names: str) -> None:
    """Latencies by these names, the first the least; whatever is not named takes as long as the last."""

    def told(calls):
        times = {name: 1.0 + names.index(name) if name in names else 1.0 + len(names) for name in calls}
        first = next(iter(times.values()))
        return {name: Latency(time, time / first, 0, 0, 1) for name, time in times.items()}

    monkeypatch.setattr(onnx_int8, "latencies", told)
    monkeypatch.setattr(int8_floats, "latencies", told)


def ops(data: bytes) -> list[str]:
    return [one.op_type for one in onnx.load_from_string(data).graph.node]


def near(adapter, made: bytes, batch, part: float) -> bool:
    wanted, got = adapter.run(batch), Runtime(made).run(batch)
    return bool(np.abs(got - wanted).mean() < part * np.abs(wanted).mean())


def test_the_faster_route_is_taken(data, monkeypatch):
    adapter = OnnxAdapter.open(encoder())
    faster(monkeypatch, DYNAMIC, "static")
    made = OnnxInt8.make(task(adapter, data))
    found = ops(made.data)
    assert made.facts["route"] == DYNAMIC and found.count("MatMulInteger") == 3 and "GatherBlockQuantized" in found
    assert "QuantizeLinear" not in found and made.facts["dynamic_nodes"]
    assert near(adapter, made.data, next(data.batches(64)), 0.08)
    faster(monkeypatch, "static", DYNAMIC)
    made = OnnxInt8.make(task(adapter, data))
    assert made.facts["route"] == "static" and "MatMulInteger" not in ops(made.data)
    assert near(adapter, made.data, next(data.batches(64)), 0.3)


def test_one_activation_is_made_integers_once():
    nodes = [node("MatMul", "x w1", "a"), node("MatMul", "x w2", "b"), node("Add", "a b", "y")]
    proto = model(nodes, {"w1": random(40, 16), "w2": random(40, 16)}, [40])
    data = Dataset({"x": np.random.default_rng(0).normal(size=(100, 40)).astype(np.float32)})
    work = rounded(prepared(proto), data)
    work.ops, work.kernels = (), dict.fromkeys(dynamic_nodes(work), DYNAMIC)
    assert ops(work.build()).count("DynamicQuantizeLinear") == 1 and ops(work.build()).count("MatMulInteger") == 2


def test_the_other_route_serves_where_the_faster_one_fails(data, monkeypatch):
    adapter = OnnxAdapter.open(encoder())
    faster(monkeypatch, "static", DYNAMIC)
    made = OnnxInt8.make(task(adapter, data, lambda made: "MatMulInteger" in ops(made)))
    assert made.facts["route"] == DYNAMIC and not made.facts["float_nodes"]


def test_what_does_harm_gets_finer_activations(data, monkeypatch):
    """A dense node that goes back has its codes in MatMulNBits, not its floats."""
    adapter = OnnxAdapter.open(encoder())
    faster(monkeypatch, DYNAMIC, "static")
    asked = []

    def acceptable(made: bytes) -> bool:
        asked.append(made)
        return ops(made).count("MatMulNBits") >= 2

    made = OnnxInt8.make(task(adapter, data, acceptable))
    if made.facts["route"] == DYNAMIC:
        assert ops(made.data).count("MatMulNBits") >= 2 and len(made.facts["float_nodes"]) >= 2
        kept = {tensor.name for tensor in onnx.load_from_string(made.data).graph.initializer}
        assert not {"w1", "w2", "w3"} & kept
    assert len(asked) <= EVALUATIONS


def test_dense_layers_alone_may_be_integers(monkeypatch):
    """Where convolutions do not bear it in either route, they stay in float before any dense layer does."""
    nodes = [
        node("Conv", "x w1", "a"), node("Relu", "a", "b"), node("GlobalAveragePool", "b", "c"),
        node("Flatten", "c", "d"), node("Gemm", "d w2", "y"),
    ]  # fmt: skip
    adapter = OnnxAdapter.open(model(nodes, {"w1": random(8, 3, 3, 3), "w2": random(8, 64)}, [3, 8, 8]))
    data = Dataset({"x": np.random.default_rng(0).normal(size=(100, 3, 8, 8)).astype(np.float32)})
    monkeypatch.setattr(onnx_int8, "KEPT", np.inf)
    asked = []

    def acceptable(made: bytes) -> bool:
        asked.append(ops(made))
        return "QuantizeLinear" not in asked[-1]

    made = OnnxInt8.make(task(adapter, data, acceptable))
    assert made.facts["route"] == DYNAMIC and made.facts["integer_operators"] == [] and len(asked) == 5
    assert "MatMulInteger" in ops(made.data) and "QuantizeLinear" not in ops(made.data)


def test_passes_over_the_select_split_are_few_where_nothing_passes(data):
    asked = []
    made = OnnxInt8.make(task(OnnxAdapter.open(encoder()), data, lambda made: bool(asked.append(made))))
    assert 1 < len(asked) <= EVALUATIONS
    assert set(made.facts["float_nodes"]) >= set(made.facts["dynamic_nodes"])


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_an_lstm_has_integer_weights(direction):
    # From operator set 14 on the runtime itself writes the layout, which its integer node does not know.
    adapter = OnnxAdapter.open(recurrent(direction=direction, layout=0))
    data = Dataset({"x": np.random.default_rng(0).normal(size=(200, 6, 4)).astype(np.float32)})
    work = rounded(prepared(adapter.model()), data)
    work.ops, work.kernels = (), dict.fromkeys(dynamic_nodes(work), DYNAMIC)
    made = onnx.load_from_string(work.build())
    assert [one.op_type for one in made.graph.node].count("DynamicQuantizeLSTM") == 1
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    assert {array.dtype for name, array in stored.items() if name.endswith("codes")} == {np.dtype(np.int8)}
    before = next(numpy_helper.to_array(t) for t in recurrent(direction=direction).graph.initializer if t.name == "w")
    codes, scales = stored["w_codes"], stored["w_scales"]
    assert np.abs(codes.transpose(0, 2, 1) * scales[..., None] - before).max() < 0.02
    assert near(adapter, made.SerializeToString(), next(data.batches(50)), 0.05)
    assert ops(work.build(list(work.kernels))).count("LSTM") == 1


def test_a_gru_stays_in_float_and_is_named(monkeypatch):
    monkeypatch.setattr(onnx_int8, "KEPT", np.inf)  # whatever is fast here
    nodes = [*recurrent("GRU").graph.node, node("MatMul", "z v", "y")]
    nodes[2].output[0] = "z"
    weights = {t.name: numpy_helper.to_array(t) for t in recurrent("GRU").graph.initializer}
    proto = model(nodes, {**weights, "v": random(5, 20)}, [6, 4])
    data = Dataset({"x": np.random.default_rng(0).normal(size=(100, 6, 4)).astype(np.float32)})
    adapter = OnnxAdapter.open(proto)
    made = OnnxInt8.make(task(adapter, data))
    assert "GRU stays in float: onnxruntime has no integer kernel for it" in made.notes
    assert "GRU" in ops(made.data) and near(adapter, made.data, next(data.batches(50)), 0.1)
    with pytest.raises(ModelError, match="weights in float32"):
        OnnxInt8.check(OnnxAdapter.open(recurrent("GRU")))


def test_peepholes_and_another_layout_stay():
    proto = recurrent()
    assert len(lstm_nodes(proto)) == 1
    proto.graph.node[1].attribute.append(onnx.helper.make_attribute("layout", 1))
    assert not lstm_nodes(proto)
    proto = recurrent()
    proto.graph.initializer.append(numpy_helper.from_array(random(1, 15), "p"))
    proto.graph.node[1].input.extend(["", "", "", "p"])
    assert not lstm_nodes(proto)
