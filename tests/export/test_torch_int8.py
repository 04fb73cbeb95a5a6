"""PyTorch programs in integers: numbers as their arithmetic has them, run by plain torch, float where asked."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

import attar
from attar.adapters.torch.model import TorchModel
from attar.cli import app
from attar.errors import FormatError, ModelError, UsageError
from attar.exports.base import Task
from attar.exports.int8_search import with_ranges
from attar.exports.judging import Judge
from attar.exports.torch.int8 import Int8, TorchInt8, _first, fastest, kinds_of, measured, saved
from attar.exports.torch.lower import root, step_of
from attar.exports.torch.runtime import Runtime, set_threads
from attar.exports.torch.units import units_of
from attar.types import Dataset


class Residual(nn.Module):
    """Batch norms, a sum of two convolutions, a sum with what was read before, a depthwise kernel, pooling."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.back = nn.Conv2d(8, 8, 1)
        self.side = nn.Conv2d(8, 8, 1)
        self.wide = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.last = nn.Linear(12 * 2 * 2, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        x = F.relu(self.back(F.relu6(self.deep(x))) + x)
        y = self.back(x)
        x = F.relu(y + self.side(x))
        x = F.max_pool2d(self.wide(x), 2, padding=1)[:, :, :2, :2]
        return self.last(x.reshape(x.shape[0], -1))


class Tokens(nn.Module):
    """Dense layers over three axes, a GELU between them, and attention that has no integers."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 12)
        self.outer = nn.Linear(12, 6, bias=False)

    def forward(self, x):
        y = self.outer(F.gelu(self.inner(x))) + x
        weights = torch.softmax(y @ y.transpose(1, 2), -1)
        return (weights @ y).mean(1)


class Sound(nn.Module):
    """Convolutions over one axis."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 6, 5, stride=2, padding=2)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(F.hardtanh(self.conv(x), -2.0, 3.0).mean(-1))


SHAPES = {Residual: (2, 8, 8), Tokens: (5, 6), Sound: (3, 20)}


def example(kind, count=96):
    """A model whose batch norms have statistics, and examples."""
    torch.manual_seed(0)
    model = kind()
    values = np.random.default_rng(0).normal(size=(count, *SHAPES[kind])).astype(np.float32)
    model.train()
    with torch.no_grad():
        model(torch.tensor(values))
    return TorchModel.opened(model.eval()), Dataset({"x": values})


def minmax(work):
    """The work with the widest ranges."""
    work.ranges = {name: (one.low, one.high) for name, one in work.found.items()}
    return work


def outputs(adapter, program, data):
    return np.concatenate([_first(program, adapter.tensors_of(batch)) for batch in data.batches(32)])


@pytest.mark.parametrize("kind", SHAPES)
def test_outputs_stay_near_and_the_file_gives_the_same(kind):
    adapter, data = example(kind)
    work = minmax(measured(adapter, data))
    wanted = np.concatenate([adapter.run(batch) for batch in data.batches(32)])
    program = work.build()
    got = outputs(adapter, program, data)
    assert np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max()
    assert np.abs(got - wanted).max() > 0
    again = Runtime(saved(program)).run({"x": data.inputs["x"]})
    np.testing.assert_allclose(again, got, rtol=1e-4, atol=1e-6)  # what is left in float may add up in another order


@pytest.mark.parametrize("kind", SHAPES)
def test_all_in_float_is_the_model_with_rounded_weights(kind):
    adapter, data = example(kind)
    work = minmax(measured(adapter, data))
    program = work.build(work.nodes)
    targets = {str(node.target) for node in program.graph.nodes}
    assert not any("onednn" in target for target in targets)
    inner = TorchModel.opened(adapter.model())
    for name in work.scales:
        codes = work.program.state_dict[name].detach()
        steps = torch.tensor(work.scales[name]).reshape(-1, *[1] * (codes.ndim - 1))
        assert (codes / steps - torch.round(codes / steps)).abs().max() < 1e-3
    del inner
    assert np.abs(outputs(adapter, program, data) - adapter.run(data.inputs)).max() < 0.05


def test_a_unit_computes_what_its_codes_say():
    adapter, data = example(Residual)
    work = minmax(measured(adapter, data))
    unit = units_of(work.program)[0]
    only = [name for name in work.nodes if name != unit.name]
    x = torch.tensor(data.inputs["x"])
    scale, zero = step_of(work.ranges[root(unit.x).name])
    codes = torch.clamp(torch.floor(x / scale + zero + 0.5), 0, 255)
    assert zero > 0  # padding has to stand for zero all the same
    quantised = (codes - zero) * scale
    program = work.build(only)
    module = work.build(work.nodes)
    expected = outputs(adapter, module, Dataset({"x": quantised.numpy()}))
    np.testing.assert_allclose(outputs(adapter, program, data), expected, atol=2e-5)


def test_units_cover_norms_sums_and_activations():
    adapter, data = example(Residual)
    units = {unit.name: unit for unit in units_of(measured(adapter, data).program)}
    assert units["first.weight"].norm is not None and units["first.weight"].activation == "relu"
    assert units["deep.weight"].activation == "hardtanh" and units["deep.weight"].bounds == (0.0, 6.0)
    assert units["back.weight"].added is units["first.weight"].out
    assert units["last.weight"].added is None
    again = next(unit for name, unit in units.items() if name.startswith("back.weight:"))
    assert again.added is units["side.weight"].out or units["side.weight"].added is again.out


def test_a_sum_is_apart_where_its_other_side_is_read_later():
    class Later(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(2, 2, 1) for _ in range(3))

        def forward(self, x):
            x = self.a(x)
            return self.c(x + self.b(x)) + x.mean()

    adapter = TorchModel.opened(Later().eval())
    data = Dataset({"x": np.random.default_rng(1).normal(size=(64, 2, 5, 5)).astype(np.float32)})
    work = minmax(measured(adapter, data))
    assert all(unit.added is None for unit in units_of(work.program))
    wanted = adapter.run(data.inputs)
    assert np.abs(outputs(adapter, work.build(), data) - wanted).max() < 0.05 * np.abs(wanted).max()


def test_ranges_by_outputs_are_no_worse_than_the_widest():
    adapter, data = example(Residual)
    judge = Judge(adapter.run, data, lambda p: lambda b: _first(p, adapter.tensors_of(b)), classes=True)
    work = measured(adapter, data)
    widest = judge(minmax(work).build())
    assert with_ranges(work, judge) <= widest
    assert set(work.rules) == set(work.found)


def test_the_adapter_is_as_before():
    adapter, data = example(Residual)
    before = {layer.name: adapter.read(layer.name).matrix for layer in adapter.layers()}
    measured(adapter, data)
    for name, matrix in before.items():
        np.testing.assert_array_equal(adapter.read(name).matrix, matrix)


def exported(tmp_path, **more):
    adapter, data = example(Residual, 400)
    labels = adapter.run(data.inputs).argmax(1)
    train = (data.inputs["x"], labels)
    found = attar.export(adapter.model(), "pt2-int8", train, max_drop=20, out=tmp_path, **more)
    return found, data


def test_plain_torch_runs_the_file(tmp_path):
    found, data = exported(tmp_path)
    assert found.path.name == "Residual.int8.pt2" and found.runtime == f"torch {torch.__version__}"
    np.save(tmp_path / "x.npy", data.inputs["x"])
    script = (
        "import sys, numpy as np, torch\n"
        "from torch._inductor.constant_folding import constant_fold\n"
        "model = torch.export.load(sys.argv[1]).module()\n"
        "x = torch.tensor(np.load(sys.argv[2]))\n"
        "with torch.no_grad():\n"
        "    plain = model(x)\n"
        "    constant_fold(model)\n"
        "    assert torch.equal(plain, model(x))\n"
        "assert not any(name.split('.')[0] in ('attar', 'torchao') for name in sys.modules)\n"
        "np.save(sys.argv[3], plain.numpy())\n"
    )
    places = [str(found.path), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    subprocess.run([sys.executable, "-c", script, *places], check=True, cwd=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), Runtime(found.path).run(data.inputs))


def test_the_file_holds_integers_and_is_smaller():
    torch.manual_seed(0)
    adapter = TorchModel.opened(nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10)).eval())
    data = Dataset({"input": np.random.default_rng(0).normal(size=(128, 256)).astype(np.float32)})
    work = minmax(measured(adapter, data))
    program = work.build()
    adapter.run(data.inputs)
    small, big = saved(program), saved(adapter.program())
    assert len(small) < 0.3 * len(big)
    kinds = [tensor.dtype for tensor in program.state_dict.values() if tensor.ndim == 2]
    assert kinds == [torch.int8] * 2
    with zipfile.ZipFile(io.BytesIO(small)) as archive:
        assert archive.testzip() is None


def test_the_same_bytes_twice():
    adapter, data = example(Sound)
    assert saved(minmax(measured(adapter, data)).build()) == saved(minmax(measured(adapter, data)).build())


def test_a_missed_drop_sends_layers_back_to_float():
    adapter, data = example(Residual)
    asked = []

    def acceptable(model):
        asked.append(Runtime(model).run(data.inputs))
        return len(asked) > 2

    made = TorchInt8.make(Task(adapter, data, True, acceptable, {"x": data.inputs["x"][:1]}))
    assert made.facts["float_layers"] and "for the drop" in made.notes[0]
    worst = [np.abs(got - adapter.run(data.inputs)).mean() for got in asked[:3]]
    assert worst[2] < worst[0]


def test_speed_is_measured_on_the_whole(monkeypatch):
    adapter, data = example(Residual)
    work = minmax(measured(adapter, data))
    assert kinds_of(work)["depthwise convolutions"] == ["deep.weight"]
    assert kinds_of(work)["dense layers"] == ["last.weight"]
    task = Task(adapter, data, True, lambda _: True, {"x": data.inputs["x"][:1]})

    def slow_floats(calls):
        from attar.exports.timing import Latency

        ratios = dict.fromkeys(calls, 2.0) | {"the first layer": 0.5, "float": 1.0}
        return {name: Latency(1.0, ratio, ratio, ratio, 1) for name, ratio in ratios.items()}

    monkeypatch.setattr("attar.exports.torch.int8.latencies", slow_floats)
    (how, floats), ratio = fastest(work, [], task)
    assert (how, floats, ratio) == ("the first layer", ["first.weight"], 0.5)
    monkeypatch.setattr("attar.exports.torch.int8.latencies", lambda calls: slow_floats({**calls}) | {
        "the first layer": slow_floats(calls)["nothing"]})  # fmt: skip
    assert any("keep the float model" in note for note in TorchInt8.make(task).notes)


def test_models_without_such_layers_are_refused():
    onnx_like = type("Other", (), {"framework": "onnx"})()
    with pytest.raises(ModelError, match="made of a PyTorch module or program"):
        TorchInt8.check(onnx_like)
    with pytest.raises(ModelError, match="must have a convolution or a dense layer"):
        TorchInt8.check(TorchModel.opened(nn.Embedding(5, 3)))


def test_a_state_between_calls_is_refused():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x):
            self.count.add_(0.0)
            return self.fc(x) + self.count

    adapter = TorchModel.opened(Counting().eval())
    data = Dataset({"x": np.ones((16, 3), np.float32)})
    with pytest.raises(ModelError, match="must keep no state between calls"):
        measured(adapter, data)


def test_a_damaged_file_is_refused(tmp_path):
    adapter, data = example(Sound)
    whole = saved(minmax(measured(adapter, data)).build())
    place = tmp_path / "m.int8.pt2"
    for broken in (whole[: len(whole) // 2], b"PK", whole.replace(b"archive/models", b"archive/modelz")):
        place.write_bytes(broken)
        with pytest.raises(FormatError):
            Runtime(place)


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), set_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_bench_takes_programs(tmp_path):
    found, data = exported(tmp_path)
    plain = tmp_path / "plain.pt2"
    example(Residual)[0].model()
    adapter, _ = example(Residual)
    adapter.run(data.inputs)
    torch.export.save(adapter.program(), plain)
    rows = attar.bench([plain, found.path], data.inputs["x"], batches=[1])
    assert [row.path for row in rows] == [str(plain), str(found.path)] and rows[0].latency[1].ratio == 1
    with pytest.raises(UsageError, match="must exist"):
        attar.bench([tmp_path / "none.pt2"])


def test_the_command_writes_and_certifies(tmp_path):
    adapter, data = example(Residual, 400)
    adapter.run(data.inputs)
    torch.export.save(adapter.program(), tmp_path / "net.pt2")
    labels = adapter.run(data.inputs).argmax(1)
    np.savez(tmp_path / "data.npz", x=data.inputs["x"], y=labels)
    words = ["export", str(tmp_path / "net.pt2"), "--to", "pt2-int8", "--data", str(tmp_path / "data.npz")]
    done = CliRunner().invoke(app, [*words, "--max-drop", "30", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert Path(tmp_path, "net.int8.pt2").is_file() and Path(tmp_path, "net.int8.pt2.json").is_file()
    assert "torch" in done.output


def test_int8_remembers_what_it_was_made_of():
    adapter, data = example(Tokens)
    work = measured(adapter, data)
    assert isinstance(work, Int8) and work.nodes == ["inner.weight", "outer.weight"]
    assert set(work.scales) == {"inner.weight", "outer.weight"}
