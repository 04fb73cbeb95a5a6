"""int8 ONNX: weights on the grid, ranges by outputs, float where it is needed, files that run without attar."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

import attar
from adapters.onnx_models import model, node, random
from attar import cli, registry
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.errors import DataError, ModelError, OutputError, UsageError
from attar.exports.base import Task
from attar.exports.int8_floats import fastest
from attar.exports.int8_ranges import judge_of, with_ranges
from attar.exports.int8_search import EVALUATIONS, fewest_floats, worst_first
from attar.exports.int8_start import measured
from attar.exports.onnx import int8 as onnx_int8
from attar.exports.onnx.int8 import OnnxInt8
from attar.exports.onnx.runtime import Runtime
from attar.exports.qdq import ALL, CORE, kinds_of, prepared, quantised, weight_axes
from attar.exports.rescaled import Rescaled
from attar.exports.watch import Watched, seen
from attar.types import Dataset

ROOT = Path(__file__).parents[2]
MODELS, FASHION = ROOT / "examples/models", ROOT / "examples/fashion-mnist"


def fashion(path: Path, count: int = 600) -> tuple[Dataset, Dataset]:
    specs = OnnxAdapter.open(path).inputs()
    parts = read(FASHION)
    return fit_inputs(parts["train"], specs).take(range(count)), fit_inputs(parts["test"], specs).take(range(2000))


@pytest.fixture(scope="module")
def lenet():
    path = MODELS / "lenet5.onnx"
    adapter = OnnxAdapter.open(path)
    train, test = fashion(path)
    return adapter, measured(adapter, train), train, test


def task(adapter, train, acceptable=lambda _: True) -> Task:
    return Task(adapter, train, True, acceptable, dict(train.take([0]).inputs))


def integers(data: bytes) -> dict[str, onnx.TensorProto]:
    found = onnx.load_from_string(data)
    return {t.name: t for t in found.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1}


def test_weights_lie_on_the_grid_and_the_file_holds_the_codes(lenet):
    """The runtime's quantiser rounds nothing a second time: scale times the file's code is the judged weight."""
    adapter, work, _, _ = lenet
    before = {layer.name: adapter.read(layer.name).matrix for layer in adapter.layers()}
    inner = OnnxAdapter.open(work.model)
    work.ranges = {name: (one.low, one.high) for name, one in work.found.items()}
    stored = onnx.load_from_string(work.build())
    arrays = {t.name: numpy_helper.to_array(t) for t in stored.graph.initializer}
    assert len(work.grids) == 4
    for grid in work.grids:
        weight = inner.read(grid.weight).matrix
        codes = weight / grid.scales[:, None]
        assert np.abs(codes - np.rint(codes)).max() < 1e-3 and np.abs(codes).max() < 127.5
        kept = next(arrays[name] for name in arrays if name.startswith(grid.weight) and arrays[name].dtype == np.int8
                    and arrays[name].ndim > 1)  # fmt: skip
        wanted = np.rint(codes).astype(np.int8)
        assert sorted(kept.ravel().tolist()) == sorted(wanted.ravel().tolist())
    assert all(np.array_equal(adapter.read(name).matrix, matrix) for name, matrix in before.items())


def test_a_range_that_is_replaced_is_as_if_built_with_it(lenet):
    """Scale, zero point, and the biases in its scale: without those the runtime adds wrong ones."""
    _, work, _, test = lenet
    work.ranges = {name: (one.low, one.high) for name, one in work.found.items()}
    rescaled = Rescaled(work.build())
    batch = next(test.batches(100))
    changed = [name for name in work.found if name in rescaled]
    assert len(changed) > 4
    without = Rescaled(work.build())
    without._biases = {}
    furthest = 0.0
    for name in changed:
        low, high = work.ranges[name]
        work.ranges[name] = (low * 0.7, high * 0.5)
        wanted = Runtime(work.build()).run(batch)
        rescaled.put(name, work.ranges[name])
        without.put(name, work.ranges[name])
        # A bias may round to the neighbour, and an activation behind it.
        assert np.abs(Runtime(rescaled.data()).run(batch) - wanted).mean() < 0.003 * wanted.std()
        furthest = max(furthest, np.abs(Runtime(without.data()).run(batch) - wanted).mean())
    assert furthest > 0.01 * wanted.std()


def test_chosen_ranges_are_no_worse_than_any_rule_for_all(lenet):
    adapter, work, train, _ = lenet
    judge = judge_of(adapter.run, train, classes=True)
    from attar.exports.ranges import RULES, range_of

    alone = {}
    for rule in RULES:
        work.ranges = {name: range_of(one, rule) for name, one in work.found.items()}
        alone[rule] = judge(work.build())
    chosen = with_ranges(work, judge)
    # Rules are compared in a model whose ranges are replaced, where some biases round to their neighbours.
    assert chosen <= min(alone.values()) * 1.1
    assert judge(work.build()) == pytest.approx(chosen, rel=0.1)
    assert set(work.rules) == set(work.found)


def test_accuracy_holds_in_integers(lenet):
    adapter, work, train, test = lenet
    with_ranges(work, judge_of(adapter.run, train, classes=True))
    runtime = Runtime(work.build())
    right = [
        np.concatenate([run(batch) for batch in test.batches(256)]).argmax(1) for run in (adapter.run, runtime.run)
    ]
    assert (right[0] == right[1]).mean() > 0.98
    assert len(integers(work.build())) == 4
    assert len(work.build()) < 0.3 * (MODELS / "lenet5.onnx").stat().st_size


def test_floats_are_given_back_by_their_effect(lenet, monkeypatch):
    monkeypatch.setattr(onnx_int8, "dynamic_nodes", lambda _: [])
    adapter, work, train, _ = lenet
    judge = judge_of(adapter.run, train, classes=True)
    with_ranges(work, judge)
    order = worst_first(work, work.operators, judge)
    assert sorted(order) == sorted(work.nodes)
    assert judge(work.build(order[:1])) <= judge(work.build(order[-1:])) + 1e-12
    assert len(integers(work.build(order[:2]))) == 2
    asked = []

    def acceptable(data: bytes) -> bool:
        asked.append(len(integers(data)))
        return len(integers(data)) <= 2

    made = OnnxInt8.make(task(adapter, train, acceptable))
    assert len(integers(made.data)) <= 2 and len(made.facts["float_nodes"]) == 2
    assert any("for the drop" in note for note in made.notes)
    assert asked[0] == 4


@pytest.mark.parametrize("needed", [1, 2, 3, 5, 9, 16, 17, 20])
def test_the_fewest_floats_are_found_in_few_passes(needed):
    order, asked = [f"n{k}" for k in range(20)], []

    def passes(some):
        asked.append(len(some))
        return len(some) >= needed

    found = fewest_floats(order, passes)
    assert found == order[: len(found)] and needed <= len(found) <= needed + 4
    assert len(asked) <= EVALUATIONS
    assert fewest_floats(order, lambda _: False) == order
    assert len(fewest_floats(order, passes, 2)) >= needed


def test_an_outlier_needs_a_float_node():
    """A channel a thousand times larger than the others: with one range for all of it, integers see nothing else."""
    w1, w2 = random(8, 6) * 0.5, random(6, 3)
    w1[0, 0], w2[0] = 3000, w2[0] / 3000
    nodes = [
        node("MatMul", "x w1", "a"), node("Relu", "a", "b"), node("MatMul", "b w2", "y"),
    ]  # fmt: skip
    proto = model(nodes, {"w1": w1, "w2": w2}, [8])
    data = Dataset({"x": np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)})
    adapter = OnnxAdapter.open(proto)
    work = measured(adapter, data)
    judge = judge_of(adapter.run, data, classes=True)
    whole = with_ranges(work, judge)
    order = worst_first(work, work.operators, judge)
    assert judge(work.build(order)) < 0.2 * whole


def test_depthwise_and_grouped_and_transposed_weights():
    """Whatever the layout, a scale is its output channel's."""
    nodes = [
        node("Conv", "x w1", "a", group=1), node("Relu", "a", "b"), node("Conv", "b w2", "c", group=8),
        node("GlobalAveragePool", "c", "d"), node("Flatten", "d", "e"), node("Gemm", "e w3 bias", "f", transB=1),
        node("Gemm", "f w4", "y"),
    ]  # fmt: skip
    weights = {
        "w1": random(8, 3, 3, 3), "w2": random(8, 1, 3, 3), "w3": random(20, 8), "w4": random(20, 4),
        "bias": random(20),
    }  # fmt: skip
    for name, axis in (("w1", 0), ("w2", 0), ("w3", 0), ("w4", 1)):
        size = [1] * weights[name].ndim
        size[axis] = -1
        weights[name] = (weights[name] * np.exp(np.arange(weights[name].shape[axis]) / 3).reshape(size)).astype(
            np.float32
        )
    proto = model(nodes, weights, [3, 8, 8])
    assert {name: axis for name, (_, axis) in weight_axes(prepared(proto)).items()} == {
        "w1": 0,
        "w2": 0,
        "w3": 0,
        "w4": 1,
    }
    kinds = kinds_of(prepared(proto))
    assert len(kinds["depthwise convolutions"]) == 1 and len(kinds["dense layers"]) == 2
    assert kinds["the first two layers"] == [*kinds["the first layer"], *kinds["depthwise convolutions"]]
    assert kinds["the first three layers"] == [*kinds["the first two layers"], kinds["dense layers"][0]]
    adapter = OnnxAdapter.open(proto)
    data = Dataset({"x": np.random.default_rng(0).normal(size=(300, 3, 8, 8)).astype(np.float32)})
    work = measured(adapter, data)
    with_ranges(work, judge_of(adapter.run, data, classes=False))
    got = np.concatenate([Runtime(work.build()).run(batch) for batch in data.batches(100)])
    wanted = np.concatenate([adapter.run(batch) for batch in data.batches(100)])
    assert np.abs(got - wanted).mean() < 0.03 * np.abs(wanted).mean() + 0.02 * wanted.std()
    for grid in work.grids:
        assert np.log(grid.scales[-1] / grid.scales[0]) > 0.1 * len(grid.scales)


def test_old_operator_sets_and_weights_in_constant_nodes(monkeypatch):
    """As PaddlePaddle exports: operator set 11, in which no scale has an axis, and every weight in a node."""
    nodes = [
        node("Constant", [], "w", value=numpy_helper.from_array(random(6, 3, 3, 3))), node("Conv", "x w", "a"),
        node("Relu", "a", "b"), node("GlobalAveragePool", "b", "c"), node("Flatten", "c", "d"),
        node("Constant", [], "v", value=numpy_helper.from_array(random(6, 4))), node("MatMul", "d v", "y"),
    ]  # fmt: skip
    adapter = OnnxAdapter.open(model(nodes, {}, [3, 8, 8], opset=11))
    data = Dataset({"x": np.random.default_rng(0).normal(size=(100, 3, 8, 8)).astype(np.float32)})
    OnnxInt8.check(adapter)
    monkeypatch.setattr(onnx_int8, "KEPT", np.inf)  # whatever is fast here
    made = OnnxInt8.make(Task(adapter, data, False, lambda _: True, dict(data.take([0]).inputs)))
    assert integers(made.data)
    wanted, got = adapter.run(dict(data.inputs)), Runtime(made.data).run(dict(data.inputs))
    assert np.abs(got - wanted).mean() < 0.05 * np.abs(wanted).mean()


def test_activations_are_counted_in_whole(lenet):
    _, work, train, _ = lenet
    watched = Watched(work.model)
    found = seen(watched, train.take(range(40)), watched.size(train))
    sizes = {name: one.counts.sum() / 40 for name, one in found.items()}
    assert sizes[work.model.graph.input[0].name] == 28 * 28
    assert sizes[work.model.graph.output[0].name] == 10


def test_fewer_operators_may_be_in_integers(lenet):
    _, work, train, _ = lenet
    work.ranges = {name: (one.low, one.high) for name, one in work.found.items()}
    pooled = {}
    for ops in (ALL, CORE):
        graph = quantised(work.model, work.grids, work.ranges, ops).graph
        made_by = {name: one.op_type for one in graph.node for name in one.output}
        pooled[ops] = {made_by[one.input[0]] for one in graph.node if one.op_type == "MaxPool"}
    assert pooled[ALL] == {"DequantizeLinear"} and "DequantizeLinear" not in pooled[CORE]
    choice, ratio = fastest(work, [], task(OnnxAdapter.open(work.model), train))
    assert 0 < ratio < 5 and set(choice.ops) >= set(CORE)


def test_files_hold_nothing_that_is_not_needed(lenet):
    _, work, _, test = lenet
    work.ranges = {name: (one.low, one.high) for name, one in work.found.items()}
    graph = onnx.load_from_string(work.build()).graph
    used = {name for one in graph.node for name in one.input}
    assert {tensor.name for tensor in graph.initializer} <= used and not graph.value_info
    convolved = {one.input[k] for one in graph.node if one.op_type == "Conv" for k in (1, 2)}
    short = [one for one in graph.node if one.output[0] in convolved]
    assert len(short) == 4 and all(len(one.input) == 2 for one in short)
    dense = {one.input[1] for one in graph.node if one.op_type == "Gemm"}
    assert all(len(one.input) == 3 for one in graph.node if one.output[0] in dense)
    assert np.isfinite(Runtime(work.build()).run(next(test.batches(8)))).all()


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """2,400 training images as a file."""
    part = read(FASHION)["train"]
    path = tmp_path_factory.mktemp("few") / "few.npz"
    np.savez(path, x=part.inputs["x"][:2400], y=part.labels[:2400])
    return path


def export(*args):
    return CliRunner().invoke(cli.app, ["export", *map(str, args)])


def test_the_file_is_certified_in_its_runtime_and_runs_without_attar(tmp_path, few):
    model = MODELS / "lenet5.onnx"
    options = ("--to", "onnx-int8", "--calibrate", few, "--certify", FASHION, "--max-drop", "0.5", "-o", tmp_path)
    run = export(model, *options)
    assert run.exit_code == 0, run.output
    assert "certified" in run.stdout and "onnxruntime" in run.stdout
    path = tmp_path / "lenet5.int8.onnx"
    record = json.loads((tmp_path / "lenet5.int8.onnx.json").read_text())
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["runtime"] == f"onnxruntime {ort.__version__}" and record["certificate"]["n"] == 10000
    script = (
        "import sys; sys.modules['attar'] = None\n"
        "import numpy as np, onnxruntime as ort\n"
        "x = np.load(sys.argv[2])['x']; s = ort.InferenceSession(sys.argv[1])\n"
        "y = s.run(None, {s.get_inputs()[0].name: x})[0]\n"
        "print((y.argmax(1) == np.load(sys.argv[2])['y']).mean() * 100)"
    )
    test = fit_inputs(read(FASHION)["test"], OnnxAdapter.open(model).inputs())
    np.savez(tmp_path / "test.npz", x=next(iter(test.inputs.values())), y=test.labels)
    out = subprocess.run(
        [sys.executable, "-c", script, str(path), str(tmp_path / "test.npz")],
        capture_output=True,
        text=True,
        check=True,
    )
    # Ranges that are found as the model runs are those of a whole batch.
    assert float(out.stdout) == pytest.approx(record["certificate"]["after"], abs=0.1)
    again = export(model, *options)
    assert again.exit_code == 1 and "--force" in again.output


def test_an_archive_is_exported_against_its_original(tmp_path, lenet):
    parts, model = read(FASHION)["test"], MODELS / "lenet300.onnx"
    data = (parts.inputs["x"][:400], parts.labels[:400])
    result = attar.compress(model, data, max_drop=3, evaluations=2, methods=["keep"])
    result.save(tmp_path / "lenet.attar")
    found = attar.export(tmp_path / "lenet.attar", "onnx-int8", data, against=model, out=tmp_path, max_drop=3)
    assert found.bytes_before == model.stat().st_size
    assert found.path.name == "lenet.int8.onnx"
    assert found.certificate.before == pytest.approx(result.certificate.before)


def test_a_missed_drop_is_written_loudly(tmp_path):
    parts = read(FASHION)["test"]
    np.savez(tmp_path / "few.npz", x=parts.inputs["x"][:200], y=parts.labels[:200])
    run = export(MODELS / "lenet300.onnx", "--to", "onnx-int8", "--data", tmp_path / "few.npz", "--max-drop", "0.01",
                 "-o", tmp_path)  # fmt: skip
    assert run.exit_code == 3 and "not certifiable" in run.stdout
    assert (tmp_path / "lenet300.int8.onnx").exists()


def test_float16_halves_the_file(tmp_path, few):
    found = attar.export(MODELS / "lenet5.onnx", "onnx-fp16", few, out=tmp_path, max_drop=0.5)
    assert found.within and 0.49 < found.bytes_after / found.bytes_before < 0.52
    stored = onnx.load(found.path).graph.initializer
    assert all(t.data_type == onnx.TensorProto.FLOAT16 for t in stored if len(t.dims) > 1)


def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path):
    x = np.zeros((60, 8), np.float32)
    bare = model([node("Relu", "x", "y")], {}, [8])
    with pytest.raises((ModelError, DataError)):
        attar.export(bare, "onnx-int8", (x, np.zeros(60, np.int64)), out=tmp_path, max_drop=1)
    with pytest.raises(UsageError, match="onnx-int8, onnx-int4, onnx-fp16"):
        attar.export(MODELS / "lenet5.onnx", "onnx-int3", FASHION, out=tmp_path, max_drop=1)
    with pytest.raises(UsageError, match=r"end in \.int8\.onnx"):
        attar.export(MODELS / "lenet5.onnx", "onnx-int8", FASHION, out=tmp_path / "m.tflite", max_drop=1)
    with pytest.raises(UsageError, match="batch and threads"):
        attar.export(MODELS / "lenet5.onnx", "onnx-int8", FASHION, out=tmp_path, max_drop=1, batch=0)
    with pytest.raises(ModelError, match=r"torch\.onnx\.export"):
        import torch

        small = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
        attar.export(small, "onnx-int8", FASHION, out=tmp_path, max_drop=1)
    (tmp_path / "lenet5.int8.onnx").write_bytes(b"mine")
    with pytest.raises(OutputError):
        attar.export(MODELS / "lenet5.onnx", "onnx-int8", FASHION, out=tmp_path, max_drop=1)
    assert (tmp_path / "lenet5.int8.onnx").read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 1


def test_a_model_in_integers_already_is_refused(lenet) -> None:
    _, work, _, _ = lenet
    work.ranges = {name: (one.low, one.high) for name, one in work.found.items()}
    with pytest.raises(ModelError, match=r"in floats\. Received one with QuantizeLinear"):
        OnnxInt8.check(OnnxAdapter.open(onnx.load_from_string(work.build())))


def test_nodes_without_names_have_weights_and_what_no_range_is_known_of_stays_in_float() -> None:
    """A Gemm with factors stays in float, but not what is called like it; of a foreign operator no type is known."""
    scaler = node("Scaler", "h", "s", domain="ai.onnx.ml", offset=[0.1] * 7, scale=[0.5] * 7)
    nodes = [node("MatMul", "x u", "h"), scaler, node("Gemm", "s w b", "r"), node("Gemm", "r v", "y", alpha=0.5)]
    proto = model(nodes, {"u": random(6, 7), "w": random(7, 8), "b": random(8), "v": random(8, 5)}, [6])
    proto.opset_import.add(domain="ai.onnx.ml", version=3)
    for one in proto.graph.node:
        one.name = ""
    assert set(weight_axes(proto)) == {"u", "w"}
    adapter = OnnxAdapter.open(proto)
    data = Dataset({"x": np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32)})
    work = measured(adapter, data)
    with_ranges(work, judge_of(adapter.run, data, classes=False))
    made = onnx.load_from_string(work.build())
    found = [list(one.dims) for one in made.graph.initializer if one.data_type == onnx.TensorProto.INT8 and one.dims]
    assert [6, 7] in found and [7, 8] not in found and [8, 5] not in found


@pytest.mark.parametrize("name", registry.names("export"))
def test_every_format_says_what_it_is(name):
    exporter = registry.get("export", name)
    assert exporter.name == name and exporter.suffix.startswith((".", "-")) and len(exporter.help) > 20


def test_float_is_kept_where_integers_are_slower(lenet, monkeypatch):
    adapter, _, train, test = lenet
    monkeypatch.setattr(onnx_int8, "KEPT", 0.0)
    made = OnnxInt8.make(task(adapter, train))
    assert made.facts["kept_float"] and "this file is the float model" in made.notes[0] and len(made.notes) == 1
    assert not integers(made.data)
    batch = next(test.batches(100))
    assert np.allclose(Runtime(made.data).run(batch), adapter.run(batch), rtol=1e-4, atol=1e-4)
