"""What the gradients of ONNX models cover, that they follow writes, and what is said where there are none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from adapters import onnx_models as models
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.errors import ModelError
from attar.types import Weight
from kits.adapter_laws import Case, law_pullback

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"


def ones(outputs):
    return np.ones_like(outputs)


def normed():
    """A folded norm, a layer norm in one piece and one in parts, and a transposed convolution with a loose bias."""
    nodes = [
        models.node("Conv", "x w0 b0", "h"),
        models.node("BatchNormalization", "h gamma beta mean var", "s"),
        models.node("ConvTranspose", "s w1 b1", "t"),
        models.node("Tanh", "t", "a"),
        models.node("LayerNormalization", "a gain shift", "n", axis=-1),
        models.node("ReduceMean", "n", "m", axes=[-1]),
        models.node("Sub", "n m", "c"),
        models.node("Mul", "c gain2", "g"),
        models.node("Add", "g shift2", "k"),
        models.node("Mul", "k half", "y"),
    ]
    weights = {"w0": models.random(4, 3, 3), "b0": models.random(4), **models.batch_norm(4)}
    weights |= {"w1": models.random(4, 5, 3), "b1": models.random(5), "half": np.float32(0.5)}
    weights |= {name: models.random(8) + 1 for name in ("gain", "shift", "gain2", "shift2")}
    return models.model(nodes, weights, [3, 8])


def batch(*shape, seed=0):
    return {"x": np.random.default_rng(seed).normal(size=shape).astype(np.float32)}


def test_what_is_trained():
    """Scales and biases by their role; no statistics, scalars, or what a folded layer says already."""
    found = OnnxAdapter.open(normed()).pullback(batch(2, 3, 8), ones)
    assert set(found.layers) == {"w0", "w1"}
    assert set(found.others) == {"b1", "gain", "shift", "gain2", "shift2"}


@pytest.mark.parametrize("name", ["b1", "gain", "shift", "gain2", "shift2"])
def test_others_by_differences(name):
    adapter, given = OnnxAdapter.open(normed()), batch(2, 3, 8)
    seed = np.random.default_rng(4).normal(size=adapter.run(given).shape).astype(np.float32)
    gradient = adapter.pullback(given, lambda _: seed).others[name]
    rest, values = dict(adapter.remainder()), []
    step = np.float32(1e-2 / np.linalg.norm(gradient))
    for sign in (1, -1):
        adapter.restore({**rest, name: rest[name] + sign * step * gradient})
        values.append(float((adapter.run(given).astype(np.float64) * seed).sum()))
    expected = 2 * float(step) * float(np.square(gradient).sum())
    assert abs(values[0] - values[1] - expected) < 0.02 * expected


@pytest.mark.parametrize("name", ["conv_norm", "lstm", "tied_transposed", "half_weights", "branches", "in_function"])
def test_weights_are_read_anew(name):
    """After a write, the gradients are those of a model that is opened so."""
    adapter = OnnxAdapter.open(models.MODELS[name]())
    spec = adapter.inputs()[0]
    given = {spec.name: np.random.default_rng(1).normal(size=(3, *spec.shape[1:])).astype(spec.dtype)}
    adapter.pullback(given, ones)
    for layer in adapter.layers():
        if layer.tied_to is None:
            weight = adapter.read(layer.name)
            adapter.write(layer.name, Weight(0.5 * weight.matrix, weight.bias))
    found, fresh = adapter.pullback(given, ones), OnnxAdapter.open(adapter.model()).pullback(given, ones)
    assert set(found.layers) == set(fresh.layers)
    for layer, weight in found.layers.items():
        np.testing.assert_allclose(weight.matrix, fresh.layers[layer].matrix, rtol=1e-5, atol=1e-6)


def test_small_gradients_of_half_floats_do_not_vanish():
    adapter = OnnxAdapter.open(models.half())
    found = adapter.pullback({"x": np.ones((2, 5), np.float16)}, lambda y: np.full_like(y, 1e-9))
    np.testing.assert_allclose(found.layers["w"].matrix, 2e-9, rtol=1e-6)


def test_batches_of_fixed_size_count_each_example_once():
    """Five examples through a model for two: the sixth is a repetition."""
    adapter = OnnxAdapter.open(models.fixed_batch())
    whole = batch(5, 2, 4, 4)
    found = adapter.pullback(whole, ones).layers["w"].matrix
    each = [adapter.pullback({"x": whole["x"][i : i + 1]}, ones).layers["w"].matrix for i in range(5)]
    np.testing.assert_allclose(found, sum(each), atol=1e-5)


def test_a_weight_that_does_not_matter_is_missing():
    nodes = [models.node("MatMul", "x w", "y"), models.node("MatMul", "x v", "z")]
    model = models.model(nodes, {"w": models.random(5, 7), "v": models.random(5, 6)}, [5])
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    assert set(OnnxAdapter.open(model).pullback(batch(3, 5), ones).layers) == {"w"}


def test_operators_without_a_gradient_are_named():
    nodes = [models.node("MatMul", "x w", "h"), models.node("NonZero", "h", "z"), models.node("Cast", "z", "y", to=1)]
    adapter = OnnxAdapter.open(models.model(nodes, {"w": models.random(5, 7)}, [5]))
    with pytest.raises(ModelError, match=r"operator NonZero .*--no-train"):
        adapter.pullback(batch(3, 5), ones)
    nodes[1:] = [models.node("ArgMax", "h", "z", axis=1), models.node("Cast", "z", "y", to=1)]
    adapter = OnnxAdapter.open(models.model(nodes, {"w": models.random(5, 7)}, [5]))
    with pytest.raises(ModelError, match="must have a gradient"):
        adapter.pullback(batch(3, 5), ones)


def test_what_the_cotangent_raises_is_the_callers():
    def failing(_):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        OnnxAdapter.open(models.matmul()).pullback(batch(2, 3, 5), failing)


def test_without_torch_it_says_what_to_install():
    """And nothing else of the adapter needs it."""
    code = (
        "import sys; sys.modules['torch'] = None; import numpy as np;"
        "from pathlib import Path; from attar.adapters.onnx.adapter import OnnxAdapter;"
        "from attar.errors import ModelError\n"
        f"adapter = OnnxAdapter.open(Path({str(EXAMPLES / 'lenet300.onnx')!r})); name = adapter.inputs()[0].name\n"
        "batch = {name: np.zeros((2, 1, 28, 28), np.float32)}; adapter.run(batch)\n"
        "try: adapter.pullback(batch, np.ones_like)\n"
        "except ModelError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "attar[torch]" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["lenet300", "lenet5", "dwcnn", "resnet20"])
def test_the_examples(name):
    path = EXAMPLES / f"{name}.onnx"
    given = {OnnxAdapter.open(path).inputs()[0].name: batch(2, *OnnxAdapter.open(path).inputs()[0].shape[1:])["x"]}
    law_pullback(Case(OnnxAdapter, lambda: path, [given], None, None))
