"""How long one node with a weight takes in onnxruntime, by its shape and format: measured in a graph of its own.

The runtime's profile gives the time of the kernel without that of the graph around it (turned layouts, reordered
blocks), which whole graphs share between nodes.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from attar.adapters.onnx.session import feed_of, fixed_batch, parts, runtime
from attar.exports.onnx.runtime import Runtime
from attar.exports.onnx.unfused import unfused
from attar.exports.qdq import CORE
from attar.plan.latency import FLOAT, INT8, Work
from attar.types import Array

OPS = (*CORE, "ConvTranspose")
KEPT = ("dilations", "group", "kernel_shape", "pads", "strides", "output_padding", "transB", "auto_pad")
AROUND = ("Transpose", "ReorderInput", "ReorderOutput")
"""What is done once for many nodes."""
LEAST_RUNS, MOST_RUNS, SECONDS = 12, 200, 0.012
SHARE = 0.5
"""Of the runs of a kernel, the fastest, that count: other processes only ever make them slower."""
HALF = 0.5
"""Profiles are in whole microseconds, rounded down."""
OPSET = 17
SINGLE = ("group", "transB", "auto_pad")
"""Attributes that are one number."""
PADS = {b"NOTSET": 0, b"SAME_UPPER": 1, b"SAME_LOWER": 2, b"VALID": 3}


def works(model: onnx.ModelProto, batch: Mapping[str, Array]) -> dict[str, list[Work]]:
    """The works of each stored weight, for a batch of these examples; nodes of unknown shapes are left out."""
    known = _shapes(model, batch)
    stored = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == 1}
    found: dict[str, list[Work]] = {}
    for node in model.graph.node:
        if node.op_type not in OPS or len(node.input) < 2 or node.input[1] not in stored:
            continue
        shape, weight = known.get(node.input[0]), stored[node.input[1]]
        if shape is None or (node.op_type not in ("Conv", "ConvTranspose") and len(weight) != 2):
            continue
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name in KEPT}
        if "auto_pad" in given:
            given["auto_pad"] = PADS[given["auto_pad"]]
        values = {k: tuple(v) if isinstance(v, list) else (int(v),) for k, v in sorted(given.items())}
        x = (shape[0], *shape[2:]) if node.op_type.startswith("Conv") else shape[:-1]
        found.setdefault(node.input[1], []).append(Work(node.op_type, tuple(values.items()), x, weight))
    return found


def _shapes(model: onnx.ModelProto, batch: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Shapes of all activations, where they are known, for a batch as the adapter takes it."""
    opened = Runtime(model.SerializeToString())
    feed = feed_of(batch, opened.inputs, opened.axes)
    values = next(parts(feed, fixed_batch(opened.inputs, feed), lambda _: feed.count))[0].values
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for value in [*fixed.graph.input, *fixed.graph.output]:
        dims = value.type.tensor_type.shape.dim
        if value.name in values:
            for dim, size in zip(dims, values[value.name].shape, strict=True):
                dim.dim_value = size
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    found = {}
    for value in [*inferred.value_info, *inferred.input, *inferred.output]:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            found[value.name] = tuple(int(dim.dim_value) for dim in dims)
    return found


def measured(work: Work, threads: int = 1) -> float:
    """Milliseconds of the work's kernels; for a float island those of what turns integers into floats and back too."""
    model = graph_of(work)
    with tempfile.TemporaryDirectory() as folder:
        ort = runtime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        spec = session.get_inputs()[0]
        x = np.random.default_rng(0).integers(0, 255, spec.shape).astype(np.uint8)
        feed = {spec.name: x if work.format != FLOAT else (x / np.float32(255)).astype(np.float32)}
        started, runs = perf_counter(), 0
        while runs < LEAST_RUNS or (runs < MOST_RUNS and perf_counter() - started < SECONDS):
            session.run(None, feed)
            runs += 1
        events = json.loads(Path(session.end_profiling()).read_bytes())
    return _milliseconds(events)


def _milliseconds(events: list[dict[str, Any]]) -> float:
    """The sum over kernels of what each usually takes."""
    times: dict[str, list[float]] = {}
    for event in events:
        name = str(event.get("name"))
        if event.get("cat") == "Node" and name.endswith("_kernel_time") and event["args"]["op_name"] not in AROUND:
            times.setdefault(name, []).append(float(event["dur"]))
    fastest = [np.sort(each)[: max(int(SHARE * len(each)), 1)] for each in times.values()]
    return float(sum(each.mean() + HALF for each in fastest)) / 1e3


def graph_of(work: Work) -> onnx.ModelProto:
    """A graph of this node alone: float in and out for FLOAT, otherwise uint8 in and out."""
    nodes, store, bias = _weights(work)
    given, made, kind = ("x", "y", onnx.TensorProto.FLOAT)
    if work.format != FLOAT:
        given, made, kind = ("xf", "yf", onnx.TensorProto.UINT8)
        store |= {"sx": np.array(1 / 64, np.float32), "sy": np.array(0.1, np.float32), "zx": np.array(128, np.uint8)}
        nodes.append(helper.make_node("DequantizeLinear", ["x", "sx", "zx"], [given]))
    nodes.append(helper.make_node(work.op, [given, "w", *bias], [made], **_attributes(work)))
    if work.format != FLOAT:
        nodes.append(helper.make_node("QuantizeLinear", [made, "sy", "zx"], ["y"]))
    shape = _inputs(work)
    free = [None] * len(shape)
    ends = [helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", kind, free)]
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in store.items()]
    graph = helper.make_graph(nodes, "work", ends[:1], ends[1:], tensors)
    return unfused(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8))


def _weights(work: Work) -> tuple[list[onnx.NodeProto], dict[str, Array], list[str]]:
    """Weight "w" and bias, stored as floats or made of stored integers; the bias's name, if the node takes one."""
    rng, (rows, axis), shape = np.random.default_rng(0), _outputs(work), work.weight
    bias = [] if work.op == "MatMul" else ["b"]
    if work.format != INT8:
        floats = {"w": (0.1 * rng.normal(size=shape)).astype(np.float32), "b": np.zeros(rows, np.float32)}
        return [], {name: floats[name] for name in ("w", *bias)}, bias
    store: dict[str, Array] = {
        "wq": rng.integers(-127, 127, shape).astype(np.int8), "ws": np.full(rows, 0.01, np.float32),
        "wz": np.zeros(rows, np.int8),
    }  # fmt: skip
    nodes = [helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["w"], axis=axis)]
    if bias:
        store |= {"bq": np.zeros(rows, np.int32), "bs": np.full(rows, 0.01 / 64, np.float32),
                  "bz": np.zeros(rows, np.int32)}  # fmt: skip
        nodes.append(helper.make_node("DequantizeLinear", ["bq", "bs", "bz"], bias, axis=0))
    return nodes, store, bias


def _attributes(work: Work) -> dict[str, Any]:
    """As the node has them."""
    found: dict[str, Any] = {name: values[0] if name in SINGLE else list(values) for name, values in work.attributes}
    if "auto_pad" in found:
        found["auto_pad"] = next(name for name, code in PADS.items() if code == found["auto_pad"])
    return found


def _outputs(work: Work) -> tuple[int, int]:
    """How many output channels, and the weight's axis that has them."""
    if work.op == "ConvTranspose":
        return work.weight[1] * work.groups, 1
    turned = dict(work.attributes).get("transB", (0,))[0]
    axis = 0 if work.op == "Conv" or turned else 1
    return work.weight[axis], axis


def _inputs(work: Work) -> list[int]:
    """The input's shape."""
    if work.op == "Conv":
        return [work.x[0], work.weight[1] * work.groups, *work.x[1:]]
    if work.op == "ConvTranspose":
        return [work.x[0], work.weight[0], *work.x[1:]]
    turned = dict(work.attributes).get("transB", (0,))[0]
    return [*work.x, work.weight[1 if turned else 0]]


def place() -> dict[str, str]:
    """What measured times depend on beside the work: the runtime and the processor with its instructions."""
    names = [platform.machine(), platform.processor()]
    info = Path("/proc/cpuinfo")
    if info.is_file():
        wanted = ("model name", "cpu family", "model", "stepping", "flags", "Features")
        first = info.read_text(errors="replace").split("\n\n")[0].splitlines()
        names += [line for line in first if line.split(":")[0].strip() in wanted]
    return {"runtime": f"onnxruntime {runtime().__version__}", "cpu": "\n".join(names)}
