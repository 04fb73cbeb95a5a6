"""Whole runs on ONNX models: what goes through the archive comes back as the same graph, and runs alike."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import attar
from adapters import onnx_models as models

RNG = np.random.default_rng(0)
STATES = {"x": RNG.normal(size=(200, 4)), "state": RNG.normal(size=(200, 1, 5)), "gain": np.ones(200)}
CASES = {
    "state": STATES,  # several inputs, one with its examples on the second axis
    "norm_first": {"x": RNG.normal(size=(200, 6, 6, 6))},  # a norm that stays, in the remainder
    "lstm_bidirectional": {"x": RNG.normal(size=(200, 6, 4))},
    "branches": {"x": RNG.normal(size=(200, 4))},
    "half": {"x": RNG.normal(size=(200, 5))},
}


def norm_first():
    """A batch norm in front of a transposed convolution, and a second output."""
    nodes = [
        models.node("BatchNormalization", "x gamma beta mean var", "n"),
        models.node("ConvTranspose", "n w b", "h", group=2),
        models.node("GlobalAveragePool", "h", "y"),
    ]
    weights = {**models.batch_norm(6), "w": models.random(6, 4, 3, 3), "b": models.random(8)}
    made = models.model(nodes, weights, [6, 6, 6])
    made.graph.output.append(onnx.helper.make_tensor_value_info("h", models.FLOAT, ["n", 8, "height", "width"]))
    made.metadata_props.add(key="author", value="kept")
    return made


def quantised():
    """Products between QuantizeLinear and DequantizeLinear, with weights in int8 and biases in int32."""
    nodes, stored = [], {"zero": np.int8(0), "zero32": np.int32(0)}

    def quantise(name, scale):
        stored[f"s_{name}"] = np.float32(scale)
        nodes.append(models.node("QuantizeLinear", f"{name} s_{name} zero", f"q_{name}"))
        nodes.append(models.node("DequantizeLinear", f"q_{name} s_{name} zero", f"d_{name}"))

    def layer(name, read, shape):
        stored[f"i_{name}"] = RNG.integers(-90, 90, shape).astype(np.int8)
        stored[f"b_{name}"] = RNG.integers(-900, 900, shape[-1:]).astype(np.int32)
        stored[f"s_{name}"], stored[f"sb_{name}"] = np.float32(0.01), np.float32(3e-4)
        nodes.append(models.node("DequantizeLinear", f"i_{name} s_{name} zero", f"w_{name}"))
        nodes.append(models.node("DequantizeLinear", f"b_{name} sb_{name} zero32", f"c_{name}"))
        nodes.append(models.node("Gemm", f"{read} w_{name} c_{name}", name))

    quantise("x", 0.03)
    layer("h", "d_x", (12, 24))
    quantise("h", 0.05)
    layer("z", "d_h", (24, 6))
    quantise("z", 0.06)
    nodes[-1].output[0] = "y"
    return models.model(nodes, stored, [12])


def test_drops_of_a_quantised_model_are_from_what_its_file_answers():
    """Onnxruntime computes a QDQ graph in the stored integers, and quantises floats in their place in its own way."""
    model, other = quantised(), RNG.normal(size=(200, 12))
    x = {"x": RNG.normal(size=(200, 12)).astype(np.float32)}
    expected = ort.InferenceSession(model.SerializeToString()).run(None, x)[0]
    result = attar.compress(model, other, certify=x, metric="cosine", max_drop=0.2, guarantee="estimate", evaluations=2)
    np.testing.assert_array_equal(result.before.outputs, expected)
    np.testing.assert_array_equal(attar.evaluate(model, x, "cosine", against=model).outputs, expected)


@pytest.mark.parametrize("name", CASES)
def test_a_run_hands_back_the_same_graph(name, tmp_path):
    made = {"norm_first": norm_first, "state": models.stateful}
    model = made.get(name, models.MODELS.get(name))()
    result = attar.compress(model, CASES[name], metric="cosine", max_drop=0.2, guarantee="estimate", evaluations=2)
    result.save(tmp_path / "m.attar")
    loaded = attar.load(tmp_path / "m.attar")
    for got in (loaded, result.model):
        for field in ("input", "output"):
            assert list(getattr(got.graph, field)) == list(getattr(model.graph, field))
        assert [(n.name, n.op_type) for n in got.graph.node] == [(n.name, n.op_type) for n in model.graph.node]
        assert list(got.opset_import) == list(model.opset_import)
        assert list(got.metadata_props) == list(model.metadata_props)
    assert loaded.SerializeToString(deterministic=True) == result.model.SerializeToString(deterministic=True)
    before, after = (ort.InferenceSession(one.SerializeToString()) for one in (model, loaded))
    kind = np.float16 if name == "half" else np.float32
    feed = {key: np.asarray(value[:2], kind) for key, value in CASES[name].items()}
    if name == "state":
        feed |= {"state": feed["state"].transpose(1, 0, 2), "gain": np.array(1, np.float32)}
    for expected, got in zip(before.run(None, feed), after.run(None, feed), strict=True):
        assert expected.shape == got.shape
        assert np.sum(expected * got) > 0.8 * np.linalg.norm(expected) * np.linalg.norm(got)
