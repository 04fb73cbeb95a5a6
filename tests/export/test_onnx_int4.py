"""4-bit ONNX: what the file's codes stand for is what was judged, in both kernels, whatever the layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import attar
from adapters.onnx_models import model, node, random
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.data.read import read
from attar.errors import ModelError
from attar.exports.base import Task
from attar.exports.codes import packed, table
from attar.exports.onnx.int4 import EVALUATIONS, FINER, OnnxInt4, shortest
from attar.exports.onnx.runtime import Runtime
from attar.exports.products import BLOCKS, DYNAMIC, dense_nodes, modern, with_products
from attar.exports.tables import BLOCK, table_nodes, with_tables
from attar.exports.tables import coded as table_codes
from attar.exports.weights import Weights
from attar.types import Dataset

ROOT = Path(__file__).parents[2]


def net() -> onnx.ModelProto:
    """A MatMul of 70 columns, a Gemm in each orientation with a bias, one without, and a weight that is used twice."""
    nodes = [
        node("MatMul", "x w1", "a"), node("Relu", "a", "b"), node("Gemm", "b w2 b2", "c", transB=1),
        node("Relu", "c", "d"), node("Gemm", "d w3 b3", "e"), node("Gemm", "e w4", "f"), node("MatMul", "f w5", "g"),
        node("MatMul", "g w5", "y"),
    ]  # fmt: skip
    weights = {
        "w1": random(70, 40), "w2": random(33, 40), "b2": random(33), "w3": random(33, 24), "b3": random(24),
        "w4": random(24, 16), "w5": random(16, 16),
    }  # fmt: skip
    return model(nodes, weights, [70])


@pytest.fixture(scope="module")
def data():
    return Dataset({"x": np.random.default_rng(0).normal(size=(300, 70)).astype(np.float32)})


def task(adapter, data, acceptable=lambda _: True):
    return Task(adapter, data, False, acceptable, dict(data.take([0]).inputs))


def coded(bits, block):
    """The net's weights in integers, and the float model that they stand for."""
    inner = OnnxAdapter.open(net())
    layers = {layer.name: layer for layer in inner.layers() if layer.tied_to is None}
    noise = np.random.default_rng(0).normal(size=(300, 70)).astype(np.float32)
    stats = inner.moments(Dataset({"x": noise}).batches(100))
    made = {}
    for name, layer in layers.items():
        before = inner.read(name)
        made[name], rounded = packed(layer, before, stats[name], bits, block)
        assert np.allclose(made[name].matrix, rounded.matrix, rtol=1e-5, atol=1e-7)
        relative = np.square(rounded.matrix - before.matrix).mean() / np.square(before.matrix).mean()
        assert rounded.matrix.shape == before.matrix.shape and relative < (0.05 if bits == 4 else 1e-3)
        inner.write(name, rounded)
    return made, inner


@pytest.mark.parametrize("kernel", [BLOCKS, DYNAMIC])
@pytest.mark.parametrize(("bits", "block"), [(4, 16), (4, 32), (4, 64), (4, 128), (8, 0)])
def test_the_runtime_multiplies_what_the_codes_stand_for(data, bits, block, kernel):
    made, inner = coded(bits, block)
    proto = modern(inner.model())
    with_products(proto, made, {one.name: kernel for one in proto.graph.node})
    ops = [one.op_type for one in proto.graph.node]
    assert ops.count("MatMulNBits" if kernel == BLOCKS else "MatMulInteger") == 6 and "Gemm" not in ops
    batch = next(data.batches(64))
    runtime = Runtime(proto.SerializeToString())
    got, wanted = runtime.run(batch), inner.run(batch)
    # Activations are of 8 bits in both kernels.
    assert np.abs(got - wanted).mean() < 0.03 * np.abs(wanted).mean()
    plain = OnnxAdapter.open(net()).run(batch)
    assert np.abs(got - plain).mean() < (0.5 if bits == 4 else 0.04) * np.abs(plain).mean()
    with_products(proto, made, {})
    assert [one.op_type for one in proto.graph.node] == ops


def test_four_bits_with_multiples_fit_eight(data):
    made, _ = coded(4, 16)
    for one in made.values():
        assert one.codes.min() >= -8 and one.codes.max() <= 7 and np.abs(one.multiples).max() <= 15
        assert one.multiples.all() and (one.unit > 0).all()


def test_the_runtime_folds_codes_when_it_opens_the_file(tmp_path):
    """What is multiplied is an 8-bit weight, whose codes have been unpacked once."""
    import onnxruntime as ort

    made, inner = coded(4, 32)
    proto = modern(inner.model())
    with_products(proto, made, {one.name: DYNAMIC for one in proto.graph.node})
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "folded.onnx"), 4
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    folded = {one.op_type for one in onnx.load(tmp_path / "folded.onnx").graph.node}
    assert "DynamicQuantizeMatMul" in folded or "MatMulIntegerToFloat" in folded
    assert not {"MatMulInteger", "Reshape", "Slice"} & folded


@pytest.mark.parametrize("passing", [1, 2, 3, 4, 5])
def test_the_smallest_file_within_the_drop_is_taken(data, passing):
    """The passing-th file that is tried; the first is of blocks of 32, and where it fails finer ones come."""
    sizes = []

    def picky(made: bytes) -> bool:
        sizes.append(len(made))
        return len(sizes) >= passing

    made = OnnxInt4.make(task(OnnxAdapter.open(net()), data, picky))
    assert len(sizes) <= EVALUATIONS
    if passing == 1:
        assert len(made.data) == min(sizes) and not made.facts["eight_bits"]
    elif passing == 2:
        assert made.facts["block"] == FINER and not made.facts["eight_bits"]
    else:
        assert made.facts["block"] == 32 and made.facts["eight_bits"]


def test_eight_bits_everywhere_where_nothing_passes(data):
    made = OnnxInt4.make(task(OnnxAdapter.open(net()), data, lambda _: False))
    assert sorted(made.facts["eight_bits"]) == ["w1", "w2", "w3", "w4", "w5"]
    adapter, batch = OnnxAdapter.open(net()), next(data.batches(64))
    wanted, got = adapter.run(batch), Runtime(made.data).run(batch)
    assert np.abs(got - wanted).mean() < 0.05 * np.abs(wanted).mean()


@pytest.mark.parametrize("needed", [1, 2, 7, 19, 20])
def test_the_shortest_beginning_is_found_by_halving(needed):
    order, asked = [f"n{k}" for k in range(20)], []

    def passes(some):
        asked.append(len(some))
        return len(some) >= needed

    assert shortest(order, passes, 6) == order[:needed] and len(asked) <= 5
    assert len(shortest(order, passes, 2)) >= needed


def test_embeddings_are_integers_too():
    nodes = [
        node("Gather", "table x", "e"), node("Gather", "odd x", "o"), node("Concat", "e o", "c", axis=-1),
        node("MatMul", "c w", "y"),
    ]  # fmt: skip
    weights = {"table": random(200, 48), "odd": random(2000, 3), "w": random(51, 16)}
    proto = model(nodes, weights, [5], kind=onnx.TensorProto.INT64)
    adapter = OnnxAdapter.open(proto)
    data = Dataset({"x": np.random.default_rng(0).integers(0, 200, (64, 5))})
    assert set(table_nodes(proto).values()) == {"table"}
    for kept, bits in (([], 4), (["table", "w"], 8)):
        work = Weights(adapter.model(), data)
        chosen = {name: 8 if name in kept else 4 for name in ("table", "w")}
        made = onnx.load_from_string(work.build(chosen, 32, {}))
        found = next(one for one in made.graph.node if one.op_type == "GatherBlockQuantized")
        assert next(a.i for a in found.attribute if a.name == "bits") == bits
        wanted, got = adapter.run(dict(data.inputs)), Runtime(made.SerializeToString()).run(dict(data.inputs))
        assert np.abs(got - wanted).mean() < (0.2 if bits == 4 else 0.02) * np.abs(wanted).mean()


@pytest.mark.parametrize("bits", [4, 8])
def test_the_runtime_looks_up_what_the_codes_stand_for(bits):
    values = random(150, 70)
    proto = model([node("Gather", "table x", "y")], {"table": values}, [3], kind=onnx.TensorProto.INT64)
    with_tables(proto, {"table": table_codes(values, bits)})
    ids = np.random.default_rng(1).integers(-150, 150, (20, 3))
    codes, scales = table(values, bits, BLOCK)
    wanted = codes * np.repeat(scales, BLOCK, axis=1)[:, :70]
    got = Runtime(proto.SerializeToString()).run({"x": ids})
    assert np.allclose(got, wanted[ids], rtol=1e-3, atol=1e-3)
    assert np.square(wanted - values).mean() < (0.01 if bits == 4 else 1e-4) * np.square(values).mean()


def test_files_hold_codes_and_no_weights(data):
    work = Weights(net(), data)
    graph = onnx.load_from_string(work.build(dict.fromkeys(work.layers, 4), 32, {})).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    assert not {"w1", "w2", "w3", "w4", "w5"} & set(arrays) and {"b2", "b3"} <= set(arrays)
    assert arrays["w1_codes"].dtype == np.uint8 and arrays["w1_codes"].shape == (40, -(-70 // 32), 16)


def test_what_is_no_dense_layer_is_left(data):
    nodes = [node("Gemm", "x w b", "c", alpha=0.5), node("MatMul", "x x2", "d")]
    proto = model(nodes, {"w": random(70, 8), "b": random(8), "x2": random(2, 70, 8)}, [70], y="c")
    assert dense_nodes(proto) == {}
    with pytest.raises(ModelError, match="MatMul or Gemm"):
        OnnxInt4.check(OnnxAdapter.open(proto))


def test_lenet_is_certified_at_a_sixth(tmp_path):
    part = read(ROOT / "examples/fashion-mnist")["train"]
    model_file = ROOT / "examples/models/lenet300.onnx"
    data = (part.inputs["x"][:3000], part.labels[:3000])
    found = attar.export(model_file, "onnx-int4", data, out=tmp_path, max_drop=1)
    assert found.within and found.bytes_before > 6 * found.bytes_after
    assert found.path.name == "lenet300.int4.onnx"
