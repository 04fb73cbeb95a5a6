"""Every export format over every kind of operator: an artefact that runs, or a clear refusal; never anything else."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper

from adapters.onnx_models import MODELS, model, node, random, recurrent
from attar import registry
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.errors import ModelError
from attar.exports import timing
from attar.exports.base import Task
from attar.types import Dataset


def attention() -> onnx.ModelProto:
    """A block of a transformer over embeddings, with two inputs of integers and free sizes."""
    heads = {"split": np.array([0, 0, 4, 16]), "whole": np.array([0, 0, 64]), "eighth": np.float32(0.25)}
    nodes = [node("Gather", "table ids", "e"), node("LayerNormalization", "e gain shift", "a", axis=-1)]
    for part in "qkv":
        turned = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
        nodes += [
            node("MatMul", f"a w{part}", f"{part}m"), node("Add", f"{part}m b{part}", f"{part}b"),
            node("Reshape", f"{part}b split", f"{part}s"), node("Transpose", f"{part}s", f"{part}t", perm=turned),
        ]  # fmt: skip
    nodes += [
        node("MatMul", "qt kt", "s0"), node("Mul", "s0 eighth", "s1"), node("Cast", "mask", "m0", to=1),
        node("Unsqueeze", "m0 axes", "m1"), node("Add", "s1 m1", "s2"), node("Softmax", "s2", "p", axis=-1),
        node("MatMul", "p vt", "c0"), node("Transpose", "c0", "c1", perm=[0, 2, 1, 3]),
        node("Reshape", "c1 whole", "c2"), node("MatMul", "c2 wo", "o"), node("Add", "o e", "r"),
        node("MatMul", "r w1", "h0"), node("Relu", "h0", "h1"), node("MatMul", "h1 w2", "h2"),
        node("ReduceMean", "h2", "y", axes=[1], keepdims=0),
    ]  # fmt: skip
    weights = {name: random(64, 64, seed=k) for k, name in enumerate(("wq", "wk", "wv", "wo"))}
    weights |= {f"b{part}": random(64) for part in "qkv"} | {"w1": random(64, 96), "w2": random(96, 64)}
    weights |= {"table": random(100, 64), "gain": random(64) + 1, "shift": random(64), "axes": np.array([1, 2])} | heads
    int64 = onnx.TensorProto.INT64
    given = [helper.make_tensor_value_info(name, int64, ["n", "t"]) for name in ("ids", "mask")]
    return model(nodes, weights, [], inputs=given)


def speech() -> onnx.ModelProto:
    """A convolution, a bidirectional LSTM, a GRU and a classifier."""
    first, last = recurrent(direction="bidirectional"), recurrent("GRU")
    weights = {f"{t.name}1": onnx.numpy_helper.to_array(t) for t in first.graph.initializer}
    weights |= {"w2": random(1, 15, 10), "r2": random(1, 15, 5), "b2": random(1, 30), "wc": random(4, 3, 3)}
    weights |= {"one": np.array([1]), "zero": np.array([0]), "flat": np.array([0, 0, 10]), "wd": random(5, 40)}
    assert len(last.graph.node) == 3
    nodes = [
        node("Conv", "x wc", "f", pads=[1, 1]), node("Relu", "f", "g"), node("Transpose", "g", "t", perm=[2, 0, 1]),
        helper.make_node("LSTM", ["t", "w1", "r1", "b1"], ["s"], name="lstm", hidden_size=5, direction="bidirectional"),
        node("Transpose", "s", "s1", perm=[0, 2, 1, 3]), node("Reshape", "s1 flat", "s2"),
        helper.make_node("GRU", ["s2", "w2", "r2", "b2"], ["", "h"], name="gru", hidden_size=5),
        node("Squeeze", "h zero", "q"), node("MatMul", "q wd", "y"),
    ]  # fmt: skip
    return model(nodes, weights, [3, 12])


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Which of two files is the faster is nothing here: 15 rounds tell as well as 0.4 seconds of them."""
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)


WHOLE = {"attention": attention, "speech": speech}


def examples(adapter: OnnxAdapter) -> Dataset:
    """40 examples of the model's inputs: noise, or small ids."""
    rng = np.random.default_rng(0)
    found = {}
    for spec in adapter.inputs():
        shape, dtype = (40, *(size or 5 for size in spec.shape[1:])), np.dtype(spec.dtype)
        noise = rng.normal(size=shape) if dtype.kind == "f" else rng.integers(0, 3, shape)
        found[spec.name] = noise.astype(dtype)
    return Dataset(found)


@pytest.mark.parametrize("name", [*MODELS, *WHOLE])
@pytest.mark.parametrize("to", list(registry.names("export")))
def test_an_artefact_or_a_refusal(to, name):
    adapter = OnnxAdapter.open({**MODELS, **WHOLE}[name]())
    data = examples(adapter)
    exporter = registry.get("export", to)
    try:
        exporter.check(adapter)
        made = exporter.make(Task(adapter, data, False, lambda _: True, dict(data.take([0]).inputs)))
    except ModelError as refused:
        assert to in str(refused) or "Received" in str(refused)
        return
    batch = next(data.batches(16))
    wanted, got = adapter.run(batch), exporter.runtime(made.data, 1).run(batch)
    scale = np.abs(wanted).mean() + 0.1 * wanted.std() + 1e-6
    assert got.shape == wanted.shape and np.abs(got - wanted).mean() < (0.5 if to == "onnx-int4" else 0.15) * scale


@pytest.mark.parametrize("name", list(WHOLE))
@pytest.mark.parametrize("to", [name for name in registry.names("export") if name.startswith("onnx")])
def test_it_opens_without_attar(tmp_path, to, name):
    """In a process in which attar cannot be imported: the same outputs from the file alone."""
    adapter = OnnxAdapter.open(WHOLE[name]())
    data, exporter = examples(adapter), registry.get("export", to)
    try:
        exporter.check(adapter)
        made = exporter.make(Task(adapter, data, False, lambda _: True, dict(data.take([0]).inputs)))
    except ModelError as refused:
        assert to == "onnx-fp16", refused
        return
    batch = next(data.batches(16))
    (tmp_path / "model.onnx").write_bytes(made.data)
    np.savez(tmp_path / "given.npz", **batch)
    np.save(tmp_path / "wanted.npy", exporter.runtime(made.data, 1).run(batch))
    script = (
        "import sys; sys.modules['attar'] = None\n"
        "import numpy as np, onnxruntime as ort\n"
        "s = ort.InferenceSession('model.onnx', providers=['CPUExecutionProvider'])\n"
        "y = s.run(None, dict(np.load('given.npz')))[0]\n"
        "assert np.allclose(y, np.load('wanted.npy'), rtol=1e-3, atol=1e-3)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
