"""Nodes that are kept in float between integers keep their weights in onnxruntime, which would round them itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from adapters.onnx_models import model, node, random
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.exports.int8_ranges import Int8, judge_of, with_ranges
from attar.exports.int8_start import measured
from attar.exports.onnx.runtime import Runtime
from attar.exports.onnx.unfused import unfused
from attar.exports.rescaled import Rescaled
from attar.types import Dataset

Floats = NDArray[np.float32]
CONV, GEMM, TURNED = random(6, 4, 3, 3), random(40, 16), random(4, 6, 2, 2)
OF_ONE = random(6, 1, 3, 3)


def between(op: str, weight: Floats, shape: list[int], relu: bool = False, **attributes: Any) -> onnx.ModelProto:
    """One float node between integers, with a weight that one scale for all of it serves badly."""
    weight = weight * np.exp(3 * np.random.default_rng(1).normal(size=weight.shape)).astype(np.float32)
    store = {
        "w": weight, "s": np.array(0.05, np.float32), "z": np.array(120, np.uint8),
        "t": np.array(0.02 * np.linalg.norm(weight), np.float32), "u": np.array(120, np.uint8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xf"]),
        helper.make_node(op, ["xf", "w"], ["a"], **attributes),
        *([helper.make_node("Relu", ["a"], ["b"])] if relu else []),
        helper.make_node("QuantizeLinear", ["b" if relu else "a", "t", "u"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "t", "u"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * len(shape))],
        [numpy_helper.from_array(values, name) for name, values in store.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(proto: onnx.ModelProto, x: Floats, fused: bool = True) -> tuple[Floats, ort.InferenceSession]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not fused:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0], session


CASES: dict[str, tuple[str, Floats, list[int], dict[str, Any]]] = {
    "Conv": ("Conv", CONV, [16, 4, 9, 9], {}),
    "grouped": ("Conv", random(8, 2, 3, 3), [16, 4, 9, 9], {"group": 2}),
    "before Relu": ("Conv", CONV, [16, 4, 9, 9], {"relu": True}),
    "one dimension": ("Conv", random(6, 4, 3), [16, 4, 33], {}),
    "ConvTranspose": ("ConvTranspose", TURNED, [16, 4, 9, 9], {}),
    "Gemm": ("Gemm", random(16, 40), [32, 16], {}),
    "turned Gemm": ("Gemm", GEMM, [32, 16], {"transB": 1}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_runtime_gives_what_the_file_says(case: str) -> None:
    """Without its optimisations the runtime does what is written; with them it must do so still."""
    op, weight, shape, attributes = CASES[case]
    proto = between(op, weight, shape, **attributes)
    x = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    wanted, _ = run(proto, x, fused=False)
    rounded, _ = run(proto, x)
    kept = unfused(proto)
    onnx.checker.check_model(kept, full_check=True)
    assert np.array_equal(run(kept, x, fused=False)[0], wanted)
    got, _ = run(kept, x)
    assert (got != wanted).mean() < 0.01  # sums are added in another order
    assert (rounded != wanted).any(), "onnxruntime leaves such nodes alone now: unfused.py can go"


def test_what_cannot_be_or_need_not_be_is_left() -> None:
    one = between("Conv", OF_ONE, [2, 1, 5, 5])
    before = one.SerializeToString(deterministic=True)
    assert unfused(one).SerializeToString(deterministic=True) == before
    turned = between("Gemm", random(4, 10), [4, 3], transA=1)
    assert [n.op_type for n in unfused(turned).graph.node].count("DequantizeLinear") == 2
    integers = between("Conv", CONV, [16, 4, 9, 9])
    integers.graph.initializer[0].CopyFrom(numpy_helper.from_array(CONV.astype(np.float16), "w"))
    assert len(unfused(integers).graph.initializer) == 5


def with_a_float_between() -> tuple[OnnxAdapter, Int8, Dataset]:
    nodes = [
        node("Conv", "x w1", "a"), node("Relu", "a", "b"), node("Conv", "b w2", "c"), node("Relu", "c", "d"),
        node("Conv", "d w3", "y"),
    ]  # fmt: skip
    proto = model(nodes, {"w1": random(4, 3, 3, 3), "w2": CONV, "w3": random(5, 6, 2, 2)}, [3, 8, 8])
    adapter = OnnxAdapter.open(proto)
    data = Dataset({"x": np.random.default_rng(0).normal(size=(200, 3, 8, 8)).astype(np.float32)})
    return adapter, measured(adapter, data), data


def test_an_export_keeps_its_floats_and_ranges_are_replaced_in_all_their_copies() -> None:
    adapter, work, data = with_a_float_between()
    with_ranges(work, judge_of(adapter.run, data, classes=False))
    middle = next(n.name for n in work.model.graph.node if n.input[1:2] == ["w2"])
    built = onnx.load_from_string(work.build([middle]))
    stored = {t.name: numpy_helper.to_array(t) for t in built.graph.initializer}
    reader = next(n for n in built.graph.node if n.name == middle)
    source = next(n for n in built.graph.node if n.output[0] == reader.input[0])
    assert stored[source.input[1]].shape == (4,) and stored[reader.input[1]].dtype == np.float32
    batch = dict(data.take(range(20)).inputs)
    assert np.abs(run(built, batch["x"])[0] - run(built, batch["x"], fused=False)[0]).mean() < 1e-3

    changed = Rescaled(work.build([middle]))
    name = source.input[0].removesuffix("_QuantizeLinear_Output")
    assert name in changed
    low, high = work.ranges[name]
    changed.put(name, (low * 0.6, high * 0.6))
    work.ranges[name] = (low * 0.6, high * 0.6)
    wanted = Runtime(work.build([middle])).run(batch)
    assert np.abs(Runtime(changed.data()).run(batch) - wanted).mean() < 0.003 * wanted.std()
