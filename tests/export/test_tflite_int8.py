"""int8 TFLite: codes on the grid, scales by the runtime's rules, float where needed, files that run without attar."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import attar
from adapters import tflite_models as models
from adapters.tflite_models import RELU, SAME, Graph, random
from attar import cli
from attar.adapters.tflite.adapter import TfliteAdapter
from attar.adapters.tflite.store import Place, Store
from attar.errors import ModelError, UsageError
from attar.exports.base import Task
from attar.exports.int8_search import with_ranges, worst_first
from attar.exports.judging import Judge
from attar.exports.ranges import RULES, range_of
from attar.exports.tflite.graph import kind_of, prepared
from attar.exports.tflite.int8 import TfliteInt8, measured
from attar.exports.tflite.int8_weights import TfliteInt8Weights
from attar.exports.tflite.runtime import Runtime
from attar.exports.timing import Latency
from attar.types import Dataset

POOL = {"padding": SAME, "strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 2}
ROOT = Path(__file__).parents[2]


def picture_net() -> bytes:
    """A small network for pictures with most that the writer knows: a branch, a join, a stored scale, a softmax."""
    g = Graph([12, 12, 2])
    x = g.op("CONV_2D", [g.input, g.stored("stem", random(8, 3, 3, 2)), g.stored("b1", random(8))], [12, 12, 8],
             padding=SAME, **models.PLAIN)  # fmt: skip
    x = g.op("RELU", [x], [12, 12, 8])
    y = g.op("DEPTHWISE_CONV_2D", [x, g.stored("depth", random(1, 3, 3, 8)), g.stored("b2", random(8))], [12, 12, 8],
             padding=SAME, depthMultiplier=1, fusedActivationFunction=RELU, **models.PLAIN)  # fmt: skip
    x = g.op("ADD", [x, y], [12, 12, 8], fusedActivationFunction=0)
    x = g.op("CONCATENATION", [x, y], [12, 12, 16], axis=3)
    x = g.op("MAX_POOL_2D", [x], [6, 6, 16], **POOL)
    x = g.op("MUL", [x, g.stored("gain", np.abs(random(1, 1, 1, 16)))], [6, 6, 16], fusedActivationFunction=0)
    x = g.op("CONV_2D", [x, g.stored("point", random(12, 1, 1, 16)), g.stored("b3", random(12))], [6, 6, 12],
             padding=SAME, fusedActivationFunction=RELU, **models.PLAIN)  # fmt: skip
    x = g.op("MEAN", [x, g.stored("axes", np.array([1, 2], np.int32))], [12], keepDims=False)
    return g.model(g.op("SOFTMAX", [models.dense(g, x, "head", 5, 12)], [5], beta=1.0))


def pictures(count: int, seed: int = 0) -> Dataset:
    return Dataset({"x": np.random.default_rng(seed).normal(size=(count, 12, 12, 2)).astype(np.float32)})


@pytest.fixture(scope="module")
def net():
    adapter = TfliteAdapter.open(picture_net())
    data = pictures(300)
    return adapter, measured(adapter, data), data


def opened(work):
    return lambda data: work.runtime(data).run


def kinds(data: bytes) -> list[str]:
    store = Store.open(data)
    return [kind_of(store, operator) for operator in store.model.subgraphs[0].operators]


def stored(data: bytes, kind: str) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """Values, scales and axis of stored tensors of a type."""
    store = Store.open(data)
    found = {}
    for place in (Place(0, k) for k in range(len(store.model.subgraphs[0].tensors))):
        values, quantised = store.values(place), store.tensor(place).quantization
        if values is not None and store.dtype(place) == kind and quantised is not None:
            found[store.tensor(place).name] = values, quantised.scale, quantised.quantizedDimension
    return found


def test_all_of_it_is_in_integers_between_one_quantize_and_one_dequantize(net):
    adapter, work, data = net
    with_ranges(work, Judge(adapter.run, data, opened(work), classes=True))
    made = work.build()
    assert kinds(made)[0] == "QUANTIZE" and kinds(made)[-1] == "DEQUANTIZE"
    assert kinds(made).count("QUANTIZE") == kinds(made).count("DEQUANTIZE") == 1
    assert "RELU" not in kinds(made)  # it is inside of the convolution
    wanted = np.concatenate([adapter.run(batch) for batch in pictures(200, 1).batches(50)])
    got = np.concatenate([work.runtime(made).run(batch) for batch in pictures(200, 1).batches(50)])
    assert (wanted.argmax(1) == got.argmax(1)).mean() > 0.95
    assert np.abs(wanted - got).mean() < 0.01


def test_the_file_holds_the_judged_codes(net):
    _, work, _ = net
    work.ranges.update({name: (one.low, one.high) for name, one in work.found.items()})
    codes = stored(work.build(), "int8")
    for name, axis in (("stem", 0), ("depth", 3), ("point", 0), ("head", 0)):
        values, scales, found = codes[name]
        assert found == axis and len(scales) == values.shape[axis]
        shape = [1] * values.ndim
        shape[axis] = -1
        judged = work.store.values(work.store.names[name])
        np.testing.assert_allclose(values * scales.reshape(shape), judged, rtol=1e-5, atol=1e-7)
        assert np.abs(values.astype(int)).max() <= 127
    assert codes["gain"][0].dtype == np.int8 and len(codes["gain"][1]) == 1
    biases = stored(work.build(), "int32")
    assert set(biases) == {"b1", "b2", "b3", "head_bias"}
    own = work.store.values(work.store.names["b3"])
    np.testing.assert_allclose(biases["b3"][0] * biases["b3"][1], own, atol=float(biases["b3"][1].max()))


def test_operators_that_carry_values_keep_their_scale(net):
    _, work, _ = net
    work.ranges.update({name: (one.low, one.high) for name, one in work.found.items()})
    plan = work.plan()
    for index in plan.whole:
        if plan.kinds[index] in ("CONCATENATION", "MAX_POOL_2D"):
            ends = [*plan.data(index), *work.store.model.subgraphs[0].operators[index].outputs]
            assert len({plan.scale[tensor] for tensor in ends}) == 1
    assert plan.scale[work.store.model.subgraphs[0].outputs[0]] == (1 / 256, -128)


def test_chosen_ranges_are_no_worse_than_any_rule_for_all(net):
    adapter, work, data = net
    judge = Judge(adapter.run, data, opened(work), classes=True)
    alone = {}
    for rule in RULES:
        work.ranges.update({name: range_of(one, rule) for name, one in work.found.items()})
        alone[rule] = judge(work.build())
    chosen = with_ranges(work, judge)
    assert chosen <= min(alone.values()) * (1 + 1e-9)
    assert judge(work.build()) == pytest.approx(chosen)
    assert set(work.rules) == set(work.found)


def test_floats_stand_between_quantize_and_dequantize(net):
    adapter, work, data = net
    judge = Judge(adapter.run, data, opened(work), classes=True)
    with_ranges(work, judge)
    middle = next(k for k in work.nodes if work.sites[k].layer.name == "point")
    made = work.build([middle])
    assert "point" not in stored(made, "int8")
    assert kinds(made).count("DEQUANTIZE") == kinds(made).count("QUANTIZE") == 2
    order = worst_first(work, work.nodes, judge)
    assert sorted(order) == work.nodes
    assert judge(work.build(work.nodes)) <= judge(work.build())
    assert kinds(work.build(work.nodes)).count("QUANTIZE") == 0, "nothing is in integers for nothing"


def test_a_large_bias_of_a_small_row_fits_in_32_bits():
    g = Graph([8])
    weight, bias = random(6, 8), np.zeros(6, np.float32)
    weight[2], bias[2] = weight[2] * 1e-7, 900
    y = g.op("FULLY_CONNECTED", [g.input, g.stored("w", weight), g.stored("b", bias)], [6], keepNumDims=False)
    adapter = TfliteAdapter.open(g.model(y))
    data = Dataset({"x": random(100, 8)})
    work = measured(adapter, data)
    work.ranges.update({name: (one.low, one.high) for name, one in work.found.items()})
    got = work.runtime(work.build()).run(dict(data.inputs))
    assert np.abs(got[:, 2] - 900).max() < 5


def test_transposed_grouped_and_positions():
    for make in (models.conv_transpose, models.conv_grouped, models.by_position, models.used_twice, models.half):
        data = make()
        shape, _ = models.sizes(data)
        adapter = TfliteAdapter.open(data)
        sets = Dataset({"x": random(60, *shape)})
        work = measured(adapter, sets)
        work.ranges.update({name: range_of(one, "minmax") for name, one in work.found.items()})
        got, wanted = work.runtime(work.build()).run(dict(sets.inputs)), adapter.run(dict(sets.inputs))
        assert np.abs(got - wanted).mean() < 0.03 * np.abs(wanted).mean() + 1e-3, make.__name__


def task(adapter, data, acceptable=lambda _: True) -> Task:
    return Task(adapter, data, True, acceptable, dict(data.take([0]).inputs))


def test_floats_are_given_back_for_the_drop(net):
    adapter, _, data = net
    asked = []

    def acceptable(made: bytes) -> bool:
        asked.append(
            sum(len(values.shape) > 1 for values, scales, _ in stored(made, "int8").values() if len(scales) > 1)
        )
        return asked[-1] <= 2

    made = TfliteInt8.make(task(adapter, data, acceptable))
    assert asked[0] == 4 and len(made.facts["float_nodes"]) == 2
    assert any("for the drop" in note for note in made.notes)
    assert Runtime(made.data).run(dict(data.inputs)).shape == (300, 5)


def test_int8_weights_are_a_third_and_near(net):
    adapter, _, data = net
    made = TfliteInt8Weights.make(task(adapter, data))
    assert set(stored(made.data, "int8")) == {"stem", "depth", "point", "head"}
    got, wanted = Runtime(made.data).run(dict(data.inputs)), adapter.run(dict(data.inputs))
    assert np.abs(got - wanted).max() < 0.05
    widened = TfliteInt8Weights.make(task(adapter, data, lambda _: False))
    assert widened.facts["weights"] == "widened on loading" and "DEQUANTIZE" in kinds(widened.data)
    assert np.abs(Runtime(widened.data).run(dict(data.inputs)) - wanted).max() < 0.02


def test_an_embedding_is_narrowed_too():
    adapter = TfliteAdapter.open(models.gather())
    data = Dataset({"x": np.random.default_rng(0).integers(0, 11, (80, 6)).astype(np.int32)})
    made = TfliteInt8Weights.make(task(adapter, data))
    assert set(stored(made.data, "int8")) >= {"table", "w"}
    got, wanted = Runtime(made.data).run(dict(data.inputs)), adapter.run(dict(data.inputs))
    assert np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max()


def test_preparing_changes_no_output_and_keeps_names_of_inputs_and_outputs():
    for make in models.MODELS.values():
        data = make()
        shape, dtype = models.sizes(data)
        adapter, ready = TfliteAdapter.open(data), TfliteAdapter(prepared(Store.open(data)))
        x = {"x": np.ones((3, *shape), dtype)}
        np.testing.assert_allclose(ready.run(x), adapter.run(x), rtol=1e-3, atol=1e-5)
        assert [s.name for s in ready.inputs()] == [s.name for s in adapter.inputs()]
        assert [s.name for s in ready.outputs()] == [s.name for s in adapter.outputs()]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    (folder / "net.tflite").write_bytes(picture_net())
    x = pictures(3000, 2).inputs["x"]
    y = TfliteAdapter.open(picture_net()).run({"x": x}).argmax(1)
    np.savez(folder / "data.npz", x=x, y=y)
    return folder


@pytest.mark.parametrize("form", ["tflite-int8", "tflite-int8-weights", "tflite-fp16"])
def test_the_verb_writes_a_certified_file_that_runs_without_attar(files, tmp_path, form, monkeypatch):
    # Of a net this small the clock decides by processor and load; here integers are the faster, whatever is timed.
    faster = Latency(1.0, 0.5, 0.5, 0.5, 1)
    monkeypatch.setattr("attar.exports.tflite.int8.latencies", lambda calls: dict.fromkeys(calls, faster))
    command = [
        "export",
        files / "net.tflite",
        "--to",
        form,
        "--data",
        files / "data.npz",
        "--max-drop",
        "10",
        "-o",
        tmp_path,
    ]
    run = CliRunner().invoke(cli.app, [str(word) for word in command])
    assert run.exit_code == 0, run.output
    made = next(tmp_path.glob("*.tflite"))
    record = json.loads(made.with_name(made.name + ".json").read_text())
    assert record["certificate"]["verdict"] == "certified" and record["runtime"].startswith("LiteRT 2.")
    assert record["bytes"] == made.stat().st_size < (files / "net.tflite").stat().st_size
    script = (
        "import sys, numpy as np\nfrom ai_edge_litert.interpreter import Interpreter\n"
        "m = Interpreter(model_path=sys.argv[1]); m.allocate_tensors()\n"
        "m.set_tensor(0, np.load(sys.argv[2])['x'][:1]); m.invoke()\n"
        "print(m.get_input_details()[0]['dtype'].__name__, m.get_output_details()[0]['shape'].tolist())\n"
        "assert 'attar' not in sys.modules"
    )
    command = [sys.executable, "-c", script, str(made), str(files / "data.npz")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.strip() == "float32 [1, 5]"


def test_bench_times_tflite_files_and_archives(files, tmp_path):
    made = attar.export(files / "net.tflite", "tflite-int8", str(files / "data.npz"), out=tmp_path, max_drop=10)
    command = [
        "bench",
        files / "net.tflite",
        made.path,
        "--batch",
        "1,4",
        "--data",
        files / "data.npz",
        "--metric",
        "accuracy",
    ]
    run = CliRunner().invoke(cli.app, [str(word) for word in command])
    assert run.exit_code == 0 and "net.int8.tflite" in run.output and "100.0000" in run.output, run.output


def test_what_cannot_be_is_refused(tmp_path):
    import torch

    data = (np.zeros((60, 8), np.float32), np.zeros(60, np.int64))
    with pytest.raises(ModelError, match="it is made of a TFLite or Keras model"):
        attar.export(torch.nn.Linear(8, 4), "tflite-int8", data, out=tmp_path, max_drop=1)
    with pytest.raises(ModelError, match="Received none"):
        attar.export(models.lstm(), "tflite-int8", data, out=tmp_path, max_drop=1)
    with pytest.raises(UsageError, match=r"end in \.int8\.tflite"):
        attar.export(models.conv(), "tflite-int8", data, out=tmp_path / "m.onnx", max_drop=1)
    assert not list(tmp_path.iterdir())
