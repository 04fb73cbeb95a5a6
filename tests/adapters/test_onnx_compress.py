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
