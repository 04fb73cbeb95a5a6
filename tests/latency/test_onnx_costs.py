"""Costs of works in onnxruntime: what is found in a graph, and graphs of one node in every format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from attar.exports.onnx.costs import AROUND, HALF, _milliseconds, graph_of, measured, place, works
from attar.plan.latency import FLOAT, FORMATS, INT8, ISLAND, Work

CONV = Work("Conv", (("group", (1,)), ("kernel_shape", (3, 3)), ("pads", (1, 1, 1, 1))), (1, 12, 12), (16, 8, 3, 3))
DEPTHWISE = Work("Conv", (("group", (8,)), ("kernel_shape", (3, 3)), ("strides", (2, 2))), (2, 12, 12), (8, 1, 3, 3))
GEMM = Work("Gemm", (("transB", (1,)),), (4,), (10, 32))
MATMUL = Work("MatMul", (), (2, 5), (32, 10))
TURNED = Work("ConvTranspose", (("kernel_shape", (2, 2)), ("strides", (2, 2))), (1, 6, 6), (8, 4, 2, 2))
SAME = Work("Conv", (("auto_pad", (1,)), ("kernel_shape", (3, 3))), (1, 7, 7), (8, 4, 3, 3))


def opened(work: Work) -> tuple[ort.InferenceSession, list[str]]:
    """The session, and the operators that it runs."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(graph_of(work).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, [node.op_type for node in graph_of(work).graph.node]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("work", [CONV, DEPTHWISE, GEMM, MATMUL, SAME])
def test_a_node_alone_runs_in_every_format(work: Work, kind: str) -> None:
    work = replace(work, format=kind)
    onnx.checker.check_model(graph_of(work))
    session, operators = opened(work)
    spec = session.get_inputs()[0]
    x = np.ones(spec.shape, np.float32 if kind == FLOAT else np.uint8)
    (y,) = session.run(None, {spec.name: x})
    rows = work.weight[1] if work.op == "MatMul" else work.weight[0]
    assert y.shape[1 if work.op == "Conv" else -1] == rows
    assert y.dtype == x.dtype and operators.count(work.op) == 1
    assert measured(work) > 0


def test_floats_alone_for_operators_without_integer_kernels() -> None:
    session, _ = opened(TURNED)
    assert session.get_outputs()[0].shape == [1, 4, 12, 12]
    assert measured(TURNED) > 0 and measured(TURNED, threads=2) > 0


def run_as(work: Work, path: Path) -> set[str]:
    """The operators that are left when the runtime has fused what it fuses."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    ort.InferenceSession(graph_of(work).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize(
    ("kind", "kernels"),
    [(INT8, {"QLinearConv"}), (ISLAND, {"DequantizeLinear", "Conv", "QuantizeLinear"}), (FLOAT, {"Conv"})],
)
@pytest.mark.parametrize("work", [CONV, DEPTHWISE])
def test_the_runtime_runs_what_is_priced(work: Work, kind: str, kernels: set[str], tmp_path: Path) -> None:
    assert run_as(replace(work, format=kind), tmp_path / "run.onnx") - set(AROUND) == kernels


def event(name: str, op: str, microseconds: float) -> dict[str, object]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "args": {"op_name": op}, "dur": microseconds}


def test_times_are_those_of_the_usual_runs_of_every_kernel_but_what_graphs_share() -> None:
    slow = [event("conv", "Conv", 900), event("conv", "Conv", 11), event("conv", "Conv", 9), event("conv", "Conv", 700)]
    rest = [event("in", "DequantizeLinear", 4), event("turn", "ReorderInput", 5000)]
    other = [{"cat": "Session", "name": "model_run", "dur": 9999}]
    assert _milliseconds([*slow, *rest, *other]) == pytest.approx(((9 + 11) / 2 + HALF + 4 + HALF) / 1e3)


def small_net() -> onnx.ModelProto:
    """A convolution, a depthwise one, pooling and a dense layer, for any number of examples."""
    rng = np.random.default_rng(0)
    store = {
        "w": rng.normal(size=(8, 3, 3, 3)), "b": rng.normal(size=8), "d": rng.normal(size=(8, 1, 3, 3)),
        "f": rng.normal(size=(8, 5)), "unused": rng.normal(size=(2, 2)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "d"], ["e"], group=8, auto_pad="SAME_UPPER"),
        helper.make_node("GlobalAveragePool", ["e"], ["p"]),
        helper.make_node("Flatten", ["p"], ["l"]),
        helper.make_node("MatMul", ["l", "f"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in store.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_works_of_a_graph_for_a_batch() -> None:
    found = works(small_net(), {"x": np.zeros((4, 3, 16, 16), np.float32)})
    assert {name: (w[0].op, w[0].x, w[0].weight) for name, w in found.items()} == {
        "w": ("Conv", (4, 16, 16), (8, 3, 3, 3)),
        "d": ("Conv", (4, 8, 8), (8, 1, 3, 3)),
        "f": ("MatMul", (4,), (8, 5)),
    }
    assert dict(found["w"][0].attributes)["strides"] == (2, 2)
    assert found["d"][0].groups == 8 and dict(found["d"][0].attributes)["auto_pad"] == (1,)
    for some in found.values():
        opened(some[0])


def test_the_place_names_runtime_and_processor() -> None:
    where = place()
    assert ort.__version__ in where["runtime"] and where["cpu"] and where == place()
