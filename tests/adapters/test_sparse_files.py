"""Plain models with sparse weights: what runtimes and attar read, what is smaller, and files that lie."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import attar
from adapters.onnx_models import model, node, random
from attar import stored
from attar.adapters.keras.adapter import KerasAdapter
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.adapters.torch.adapter import FactorySpec, TorchAdapter
from attar.errors import FormatError, ModelError, OutputError
from attar.run.progress import Silent
from kits.adapter_laws import LAWS, Case

ROOT = Path(__file__).parents[2]
IMAGES = {"x": np.random.default_rng(0).normal(size=(4, 3, 6, 6)).astype(np.float32)}


def thin(array, share=0.1, seed=0):
    """The array with this share of its entries left."""
    return np.where(np.random.default_rng(seed).random(array.shape) < share, array, 0).astype(array.dtype)


def net(kind=np.float32):
    """A sparse convolution, a dense one and a sparse dense layer, with a value that is a negative zero."""
    nodes = [
        node("Cast", "x", "c", to=helper.np_dtype_to_tensor_dtype(np.dtype(kind))),
        node("Conv", "c w1 b1", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "r"),
        node("Conv", "r w2", "d"),
        node("Flatten", "d", "f"),
        node("Gemm", "f w3 b3", "g"),
        node("Cast", "g", "y", to=1),
    ]
    w3 = thin(random(8 * 16, 10), seed=1)
    w3[0, 0] = -0.0
    weights = {"w1": thin(random(8, 3, 3, 3)), "b1": random(8), "w2": random(8, 8, 3, 3), "w3": w3, "b3": random(10)}
    made = model(nodes, {name: value.astype(kind) for name, value in weights.items()}, [3, 6, 6])
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10]))
    return made


def by_runtime(path, batch=IMAGES):
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, dict(batch))[0]


def sparse_file(tmp_path, kind=np.float32):
    adapter = OnnxAdapter.open(net(kind))
    adapter.save(tmp_path / "plain.onnx")
    return adapter, adapter.save_sparse(tmp_path / "sparse.onnx"), tmp_path / "sparse.onnx"


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_runtimes_read_sparse_initializers(tmp_path, kind) -> None:
    adapter, changed, path = sparse_file(tmp_path, kind)
    assert set(changed) == {"w1", "w3"}
    assert path.stat().st_size < (tmp_path / "plain.onnx").stat().st_size
    proto = onnx.load(path)
    onnx.checker.check_model(proto)
    assert {item.values.name for item in proto.graph.sparse_initializer} == {"w1", "w3"}
    assert proto.ir_version >= 5
    np.testing.assert_array_equal(by_runtime(path), by_runtime(tmp_path / "plain.onnx"))
    for name, (before, after) in changed.items():
        item = next(item for item in proto.graph.sparse_initializer if item.values.name == name)
        assert item.ByteSize() == after < before
    again = OnnxAdapter.open(path)
    assert [layer.name for layer in again.layers()] == [layer.name for layer in adapter.layers()]
    for layer in adapter.layers():
        assert adapter.read(layer.name).matrix.tobytes() == again.read(layer.name).matrix.tobytes()
    np.testing.assert_array_equal(again.run(IMAGES), adapter.run(IMAGES))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_a_sparse_file_is_a_model_like_others(tmp_path, law) -> None:
    path = sparse_file(tmp_path)[2]
    law(Case(OnnxAdapter, lambda: path, [IMAGES], by_runtime, by_runtime))


def test_what_is_dense_or_an_input_stays(tmp_path) -> None:
    proto = net()
    proto.graph.input.append(helper.make_tensor_value_info("w3", TensorProto.FLOAT, [128, 10]))
    assert set(OnnxAdapter.open(proto).save_sparse(tmp_path / "one.onnx")) == {"w1"}
    filled = net()
    for tensor in filled.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.ones(tuple(tensor.dims), np.float32), tensor.name))
    assert OnnxAdapter.open(filled).save_sparse(tmp_path / "none.onnx") == {}
    OnnxAdapter.open(filled).save(tmp_path / "plain.onnx")
    assert (tmp_path / "none.onnx").read_bytes() == (tmp_path / "plain.onnx").read_bytes()


def sparse_proto(tmp_path):
    path = sparse_file(tmp_path)[2]
    proto = onnx.load(path)
    return proto, next(item for item in proto.graph.sparse_initializer if item.values.name == "w3")


def test_indices_by_axis_are_read_too(tmp_path) -> None:
    proto, item = sparse_proto(tmp_path)
    linear = numpy_helper.to_array(item.indices)
    pairs = np.stack(np.unravel_index(linear, tuple(item.dims)), 1).astype(np.int64)
    item.indices.CopyFrom(numpy_helper.from_array(pairs))
    onnx.checker.check_model(proto)
    np.testing.assert_array_equal(OnnxAdapter.open(proto).read("w3").matrix, OnnxAdapter.open(net()).read("w3").matrix)


def hurt(what, item):
    linear = numpy_helper.to_array(item.indices).copy()
    if what == "beyond":
        linear[-1] = 128 * 10
    elif what == "negative":
        linear[0] = -1
    elif what == "falling":
        linear[:2] = linear[1::-1]
    elif what == "twice":
        linear[1] = linear[0]
    elif what == "few":
        linear = linear[:-1]
    elif what == "narrow":
        linear = linear.astype(np.int32)
    elif what == "axis":
        linear = np.stack(np.unravel_index(linear, tuple(item.dims)), 1).astype(np.int64)
        linear[3, 1] = 10
    elif what == "huge":
        item.dims[0] = 1 << 50
    elif what == "below zero":
        item.dims[0] = -128
    item.indices.CopyFrom(numpy_helper.from_array(linear))
    if what == "truncated":
        item.indices.raw_data = item.indices.raw_data[:-3]
    if what == "cut values":
        item.values.raw_data = item.values.raw_data[:-4]


@pytest.mark.parametrize(
    "what",
    [
        "beyond",
        "negative",
        "falling",
        "twice",
        "few",
        "narrow",
        "axis",
        "huge",
        "below zero",
        "truncated",
        "cut values",
    ],
)
def test_files_that_lie_are_refused(tmp_path, what) -> None:
    proto, item = sparse_proto(tmp_path)
    hurt(what, item)
    with pytest.raises(FormatError, match="tensor 'w3"):
        OnnxAdapter.open(proto)


def test_external_ones_are_left_alone_with_the_reason(tmp_path) -> None:
    proto, item = sparse_proto(tmp_path)
    item.values.ClearField("raw_data")
    item.values.data_location = TensorProto.EXTERNAL
    item.values.external_data.add(key="location", value="data.bin")
    assert OnnxAdapter.open(proto).skipped()["w3"] == "a sparse tensor"


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Path:
    """lenet300, pruned to a tenth of its weights, in an archive; and the same without its graph for PyTorch."""
    folder = tmp_path_factory.mktemp("archives")
    rng = np.random.default_rng(0)
    data = {"x": rng.random((120, 1, 28, 28), np.float32)}, rng.integers(0, 10, 120)
    settings = {"pruned": {"share": 0.9, "pattern": "free"}}
    fields = {"max_drop": 90, "guarantee": "estimate", "evaluations": 2, "methods": ["pruned"], "settings": settings}
    model = OnnxAdapter.open(ROOT / "examples/models/lenet300.onnx")
    name = model.inputs()[0].name
    attar.compress(model.model(), ({name: data[0]["x"]}, data[1]), **fields).save(folder / "net.attar")
    return folder


def test_expand_sparse(archives, tmp_path) -> None:
    notes: list[str] = []

    class Noting(Silent):
        def note(self, text):
            notes.append(text)

    plain = stored.expand(archives / "net.attar", tmp_path / "plain.onnx")
    sparse = stored.expand(archives / "net.attar", tmp_path, sparse=True, progress=Noting())
    assert sparse == tmp_path / "net.onnx"
    assert (archives / "net.attar").stat().st_size < sparse.stat().st_size < 0.6 * plain.stat().st_size
    batch = {ort.InferenceSession(str(plain)).get_inputs()[0].name: np.ones((3, 1, 28, 28), np.float32)}
    np.testing.assert_array_equal(by_runtime(sparse, batch), by_runtime(plain, batch))
    assert "fc1.weight" in notes[0] and "bytes instead of" in notes[0]
    command = [sys.executable, "-m", "attar", "expand", archives / "net.attar", "-o", tmp_path / "cli.onnx", "--sparse"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "cli.onnx") and "sparse: fc1.weight" in done.stderr
    assert (tmp_path / "cli.onnx").read_bytes() == sparse.read_bytes()


def test_what_has_no_layout_is_refused(archives, tmp_path, monkeypatch) -> None:
    monkeypatch.delattr(OnnxAdapter, "save_sparse")
    with pytest.raises(ModelError, match="Received a onnx model, whose files have none"):
        stored.expand(archives / "net.attar", tmp_path / "n.onnx", sparse=True)
    assert list(tmp_path.iterdir()) == []
    for name in ("save_sparse", "sparse_suffixes"):
        assert not hasattr(KerasAdapter, name)


class Net(torch.nn.Module):
    """Two sparse layers of which the second has its weight from the first, a small dense one, and a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.a, self.b = torch.nn.Embedding(9, 40), torch.nn.Linear(40, 40), torch.nn.Linear(40, 40)
        self.out = torch.nn.Linear(40, 5)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.b(torch.relu(self.a(self.table(x))))).sum(1))


def tied() -> Net:
    torch.manual_seed(0)
    model = Net()
    for weight in (model.a.weight, model.table.weight):
        weight.data[torch.rand(weight.shape) > 0.1] = 0
    return model


def test_state_dicts_with_compressed_rows(tmp_path) -> None:
    model, batch = tied(), {"x": np.arange(12).reshape(4, 3) % 9}
    adapter = TorchAdapter.open(model)
    expected = adapter.run(batch)
    plain, path = tmp_path / "plain.pt", tmp_path / "sparse.pt"
    adapter.save(plain)
    changed = adapter.save_sparse(path)
    assert set(changed) == {"a.weight", "b.weight"} and all(after < before for before, after in changed.values())
    assert path.stat().st_size < plain.stat().st_size
    state = torch.load(path, weights_only=True)
    assert state["a.weight"].layout == torch.sparse_csr and state["a.weight"].col_indices().dtype == torch.int32
    assert {state[name].layout for name in state if name not in changed} == {torch.strided}
    for name, value in torch.load(plain, weights_only=True).items():
        torch.testing.assert_close(state[name].to_dense(), value, rtol=0, atol=0)
    x = torch.tensor(batch["x"])
    dense, assigned = Net(), Net()
    dense.load_state_dict({name: value.to_dense() for name, value in state.items()})
    assigned.load_state_dict(state, assign=True)
    for made in (dense, assigned):
        torch.testing.assert_close(made(x).detach().numpy(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(x).detach().numpy(), expected, rtol=1e-5, atol=1e-5)
    again = TorchAdapter.open(FactorySpec(f"{__name__}:Net", path))
    np.testing.assert_array_equal(again.run(batch), expected)


def test_only_state_dicts_have_compressed_rows(tmp_path) -> None:
    with pytest.raises(OutputError, match=r"Received '\.safetensors' for a module"):
        TorchAdapter.open(tied()).save_sparse(tmp_path / "sparse.safetensors")
    script = TorchAdapter.open(torch.jit.trace(tied(), torch.zeros(2, 3, dtype=torch.long)))
    assert script.sparse_suffixes == ()
    full = TorchAdapter.open(Net())
    assert full.save_sparse(tmp_path / "dense.pt") == {}


def test_expand_of_a_state_dict(archives, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(stored, "from_archive", lambda *_: TorchAdapter.open(tied()))
    path = stored.expand(archives / "net.attar", tmp_path, into=Net(), sparse=True)
    assert path == tmp_path / "net.pt" and torch.load(path, weights_only=True)["a.weight"].layout == torch.sparse_csr
    with pytest.raises(OutputError, match="Rename the output"):
        stored.expand(archives / "net.attar", tmp_path / "n.safetensors", into=Net(), sparse=True)
    assert [each.name for each in tmp_path.iterdir()] == ["net.pt"]
