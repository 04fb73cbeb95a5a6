"""What the ONNX adapter keeps of a model, gives back, refuses, and how it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from adapters import onnx_models as models
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.adapters.onnx.watch import perturbable
from attar.errors import DataError, ModelError
from attar.types import Weight


def test_computed_weights_become_tensors_and_their_nodes_go():
    adapter = OnnxAdapter.open(models.weight_norm())
    (layer,) = adapter.layers()
    assert (layer.name, layer.has_bias) == ("w", True)
    assert not adapter.remainder()
    assert [n.op_type for n in adapter.model().graph.node] == ["Conv"]
    v, g = models.random(16, 3, 3, 3).reshape(16, -1), models.random(16, 1, 1, 1).reshape(16, 1)
    expected = g * v / np.linalg.norm(v, axis=1, keepdims=True)
    np.testing.assert_allclose(adapter.read("w").matrix, expected, atol=1e-6)
    np.testing.assert_array_equal(adapter.read("w").bias, 2 * models.random(16))


def test_depth_is_no_limit():
    """Two thousand nodes in a row, some of which come before the first layer."""
    nodes = [models.node("Tanh", "x" if i == 0 else f"h{i - 1}", f"h{i}") for i in range(1000)]
    nodes += [models.node("MatMul", f"h{i - 1} w", f"h{i}") for i in range(1000, 2000)]
    model = models.model([*nodes, models.node("Identity", "h1999", "y")], {"w": models.random(4, 4)}, [4])
    assert len(OnnxAdapter.open(model).layers()) == 1000


def test_dequantised_weights_are_what_the_operator_sees():
    adapter = OnnxAdapter.open(models.dequantized())
    tensors = {t.name: numpy_helper.to_array(t) for t in models.dequantized().graph.initializer}
    whole = tensors["q"].astype(np.float32) - tensors["zero"][:, None]
    np.testing.assert_array_equal(adapter.read("d").matrix, whole * tensors["scale"][:, None])
    assert not adapter.remainder()
    assert not adapter.skipped()


def test_what_is_left_alone_has_a_reason():
    nodes = [
        models.node("MatMulInteger", "i q", "h"),
        models.node("Cast", "h", "f", to=TensorProto.FLOAT),
        models.node("MatMul", "f tiny", "m"),
        models.node("Mul", "m grid", "p"),
        models.node("MatMul", "p w", "y"),
        models.node("Cast", "x", "i", to=TensorProto.INT8),
    ]
    nodes.insert(0, nodes.pop())
    weights = {
        "q": np.ones((4, 3), np.int8),
        "tiny": models.random(3, 4),
        "grid": models.random(1, 4),
        "w": models.random(4, 5),
        "unread": models.random(5, 5),
    }
    adapter = OnnxAdapter.open(models.model(nodes, weights, [4]))
    assert [layer.name for layer in adapter.layers()] == ["w"]
    skipped = adapter.skipped()
    assert set(skipped) == {"q", "tiny", "grid", "unread"}
    assert skipped["q"] == "integer weights, read by MatMulInteger"
    assert skipped["tiny"] == skipped["grid"] == "fewer than 16 weights"
    assert "nothing" in skipped["unread"]


def test_types_that_numpy_lacks_are_kept_as_bits():
    model = models.matmul()
    kept = models.random(3, 4).astype("bfloat16")
    model.graph.initializer.append(models.tensor(kept, "unread"))
    adapter = OnnxAdapter.open(model)
    assert adapter.remainder()["unread"].dtype == np.uint16
    twin = OnnxAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    stored = next(t for t in twin.model().graph.initializer if t.name == "unread")
    assert (stored.data_type, stored.raw_data) == (TensorProto.BFLOAT16, kept.tobytes())


def test_inputs_leave_out_weights_and_keep_order():
    adapter = OnnxAdapter.open(models.listed_inputs())
    assert [spec.name for spec in adapter.inputs()] == ["x"]
    assert [value.name for value in adapter.model().graph.input] == ["x", "w", "c"]


def decorated():
    """A model with everything that must survive: metadata, doc strings, free sizes, a custom operator's domain."""
    model = models.matmul_add_then_relu_gemm()
    model.producer_name, model.doc_string, model.model_version = "someone", "what it is", 7
    model.graph.doc_string = "a graph"
    for holder, key in ((model, "author"), (model.graph, "note")):
        holder.metadata_props.add(key=key, value="kept")
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File x.py, line 3" * 50)
    model.graph.node[0].metadata_props.add(key="mine", value="kept")
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["n", 8]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4]))
    model.opset_import.append(helper.make_opsetid("com.example", 3))
    return model


def rebuilt(model):
    adapter = OnnxAdapter.open(model)
    twin = OnnxAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    for layer in adapter.layers():
        if layer.tied_to is None:
            twin.write(layer.name, adapter.read(layer.name))
    return twin.model()


def test_structure_and_metadata_survive():
    model = decorated()
    found = rebuilt(model)
    assert [n.name for n in found.graph.node] == [n.name for n in model.graph.node]
    assert list(found.graph.input) == list(model.graph.input)
    assert list(found.graph.output) == list(model.graph.output)
    assert list(found.opset_import) == list(model.opset_import)
    assert [(p.key, p.value) for p in found.metadata_props] == [("author", "kept")]
    assert [(p.key, p.value) for p in found.graph.metadata_props] == [("note", "kept")]
    assert [p.key for p in found.graph.node[0].metadata_props] == ["mine"]
    for name in ("ir_version", "producer_name", "doc_string", "model_version"):
        assert getattr(found, name) == getattr(model, name)
    assert found.graph.doc_string == "a graph"
    stored = {t.name: numpy_helper.to_array(t) for t in found.graph.initializer}
    for tensor in model.graph.initializer:
        np.testing.assert_array_equal(stored[tensor.name], numpy_helper.to_array(tensor))
    onnx.checker.check_model(found)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_remainder_may_come_as_float16(dtype):
    """As `attar.methods.keep.narrowed` makes it; the model keeps its types."""
    half = models.random(1, 5, dtype=np.float16)
    model = models.model(
        [models.node("Mul", "x scale", "h"), models.node("MatMul", "h w", "y")],
        {"scale": half.astype(dtype), "w": models.random(5, 6, dtype=dtype)},
        [5],
        kind=TensorProto.FLOAT if dtype == np.float32 else TensorProto.DOUBLE,
    )
    adapter = OnnxAdapter.open(model)
    adapter.restore({"scale": 2 * half})
    assert adapter.remainder()["scale"].dtype == dtype
    np.testing.assert_array_equal(adapter.remainder()["scale"], (2 * half).astype(dtype))
    with pytest.raises(ModelError, match="it must be float"):
        adapter.restore({"scale": half.astype(np.int32)})


def test_shapes_stay_in_the_skeleton_where_a_layer_needs_them():
    """The rank of a custom operator's output is known from value_info alone."""
    nodes = [helper.make_node("Odd", ["x"], ["o"], domain="com.example"), models.node("MatMul", "o w", "y")]
    model = models.model(nodes, {"w": models.random(3, 4, 5)}, [3, 2, 4])
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.value_info.append(helper.make_tensor_value_info("o", TensorProto.FLOAT, ["n", 3, 2, 4]))
    adapter = OnnxAdapter.open(model)
    assert adapter.layers()[0].groups == 3
    assert OnnxAdapter.rebuild(adapter.skeleton(), adapter.remainder()).layers() == adapter.layers()
    with pytest.raises(ModelError, match="onnxruntime must be able to run it"):
        adapter.run({"x": np.zeros((1, 3, 2, 4), np.float32)})


def test_write_refuses_before_anything_changes():
    adapter = OnnxAdapter.open(models.matmul())
    before = adapter.read("w")
    for weight in (
        Weight(np.zeros((5, 7), np.float32), before.bias),
        Weight(before.matrix + 1, np.zeros(3, np.float32)),
    ):
        with pytest.raises(ModelError, match=r"must be \[7, 5\]"):
            adapter.write("w", weight)
    np.testing.assert_array_equal(adapter.read("w").matrix, before.matrix)
    with pytest.raises(ModelError, match="has no bias"):
        OnnxAdapter.open(models.embedding()).write("w", Weight(models.random(4, 6), np.zeros(4, np.float32)))


def test_bias_is_kept_where_none_is_given():
    adapter = OnnxAdapter.open(models.matmul())
    before = adapter.read("w")
    adapter.write("w", Weight(before.matrix * 2))
    np.testing.assert_array_equal(adapter.read("w").bias, before.bias)


def test_data_that_do_not_fit_are_refused_with_both_shapes():
    adapter = OnnxAdapter.open(models.gemm())
    with pytest.raises(DataError, match=r"x \[2, 4\]"):
        adapter.run({"anything": np.zeros((2, 4), np.float32)})
    with pytest.raises(DataError, match="fractions"):
        OnnxAdapter.open(models.embedding()).run({"x": np.full((2, 5), 0.5)})
    assert adapter.run({"x": np.zeros((2, 5))}).shape == (2, 7)  # float64 is converted
    with pytest.raises(DataError, match="perturbation"):
        adapter.run({"x": np.zeros((2, 5), np.float32)}, {"w": np.zeros((2, 3), np.float32)})


def test_inputs_by_name_and_scalars():
    given = [
        helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 4]),
        helper.make_tensor_value_info("s", TensorProto.FLOAT, []),
    ]
    nodes = [models.node("Mul", "a s", "h"), models.node("MatMul", "h w", "y")]
    adapter = OnnxAdapter.open(models.model(nodes, {"w": models.random(4, 5)}, [], inputs=given))
    assert [spec.name for spec in adapter.inputs()] == ["a", "s"]
    a = models.random(3, 4, seed=2)
    expected = 2 * a @ models.random(4, 5)
    np.testing.assert_allclose(adapter.run({"a": a, "s": np.full(3, 2.0)}), expected, atol=1e-6)
    np.testing.assert_allclose(adapter.run({"a": a, "s": np.float32(2)}), expected, atol=1e-6)
    with pytest.raises(DataError, match="input 's'"):
        adapter.run({"a": a})


def test_examples_may_lie_along_another_axis():
    """A recurrent state is [layers, n, hidden] in the graph; batches have the examples first everywhere."""
    model = models.stateful()
    rng = np.random.default_rng(1)
    x, state = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(6, 1, 5)).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString())
    expected = session.run(["y"], {"x": x, "state": state.transpose(1, 0, 2), "gain": np.array(2, np.float32)})[0]
    adapter = OnnxAdapter.open(model)
    assert [spec.shape for spec in adapter.inputs()] == [(None, 4), (None, 1, 5), ()]
    assert adapter.can_perturb("v")  # before any data
    batch = {"x": x, "state": state, "gain": np.full(6, 2.0)}
    np.testing.assert_allclose(adapter.run(batch), expected, atol=1e-6)
    moved = adapter.run(batch, {"v": np.ones((6, 4), np.float32)})
    np.testing.assert_allclose(moved, expected + 1, atol=1e-6)
    stats = adapter.moments([batch])
    assert (stats["w"].samples, stats["r"].samples) == (6, 6)
    np.testing.assert_allclose(stats["r"].mean[0], state[:, 0].mean(0), atol=1e-6)


@pytest.mark.parametrize("last", ["Identity", "ReduceMean"])
def test_the_first_output_must_have_the_examples_first(last):
    model = models.time_major()
    model.graph.node[-1].CopyFrom(models.node(last, "s", "y", **({"keepdims": 0} if last == "ReduceMean" else {})))
    adapter = OnnxAdapter.open(model)
    with pytest.raises(DataError, match="output 'y': its first axis must be that of the 3 examples"):
        adapter.run({"x": np.zeros((3, 7, 4), np.float32)})


def test_captures_of_large_batches_come_in_pieces(monkeypatch):
    from attar.adapters.onnx import captured
    from attar.adapters.onnx import run as onnx_run

    adapter = OnnxAdapter.open(models.conv_large())
    x = models.random(40, 2, 14, 13, seed=3)
    whole = np.concatenate([c.x for c in adapter.capture([{"x": x}])], axis=2)
    monkeypatch.setattr(onnx_run, "CAPTURE_BYTES", 2**16)
    monkeypatch.setattr(captured, "COLUMN_BYTES", 2**15)
    pieces = list(adapter.capture([{"x": x}]))
    assert len(pieces) > 10
    assert max(c.x.nbytes for c in pieces) <= 2**15
    np.testing.assert_array_equal(np.concatenate([c.x for c in pieces], axis=2), whole)


@pytest.mark.parametrize("name", ["conv2d", "matmul", "matmul_folded_batch", "embedding", "fixed_batch"])
def test_perturbation_is_possible_before_any_data(name):
    adapter = OnnxAdapter.open(models.MODELS[name]())
    assert all(adapter.can_perturb(layer.name) for layer in adapter.layers())
    assert not adapter.can_perturb("no such layer")


def test_bad_data_do_not_spoil_later_runs():
    adapter = OnnxAdapter.open(models.gemm())
    with pytest.raises(DataError):
        adapter.run({"x": np.zeros((2, 4), np.float32)})
    assert adapter.can_perturb("w")
    adapter.run({"x": np.zeros((2, 5), np.float32)}, {"w": np.zeros((2, 7), np.float32)})


def test_a_session_is_made_anew_for_another_layer_and_for_other_weights(monkeypatch):
    from attar.adapters.onnx import run as onnx_run

    made = []
    monkeypatch.setattr(onnx_run, "perturbable", lambda *given: made.append(0) or perturbable(*given))
    adapter = OnnxAdapter.open(models.matmul_add_then_relu_gemm())
    x = models.random(3, 6)
    for layer in ("w", "w", "v", "v", "w"):
        rows = adapter.read(layer).matrix.shape[0]
        adapter.run({"x": x}, {layer: np.zeros((3, rows), np.float32)})
    assert len(made) == 3
    adapter.write("w", adapter.read("w"))
    adapter.run({"x": x}, {"w": np.zeros((3, 8), np.float32)})
    assert len(made) == 4


def test_layers_can_be_read_without_onnxruntime():
    """In a fresh interpreter in which importing onnxruntime fails."""
    model = Path(__file__).parents[2] / "examples" / "models" / "lenet300.onnx"
    code = f"""
import sys, pathlib
sys.modules["onnxruntime"] = None
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.errors import ModelError
assert "onnx" not in sys.modules and not OnnxAdapter.accepts(object())
adapter = OnnxAdapter.open(pathlib.Path({str(model)!r}))
name = adapter.layers()[0].name
adapter.write(name, adapter.read(name))
adapter.skeleton()
import numpy
try:
    adapter.run({{"x": numpy.zeros((1, 1, 28, 28), "float32")}})
except ModelError as error:
    assert "pip install 'attar[onnx]'" in str(error)
else:
    raise SystemExit("ran without onnxruntime")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
