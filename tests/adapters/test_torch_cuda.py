"""Models on a GPU: the same laws and answers, and files that open where there is none. Skipped without one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import attar
from adapters import torch_cases
from attar.adapters.torch.model import TorchModel
from attar.adapters.torch.skeleton import stripped
from kits.adapter_laws import LAWS, Case

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")
GPU = torch.device("cuda")
ALIKE = [name for name in torch_cases.MODELS if name != "dropout"]
"""The models that answer alike on two devices: each has random numbers of its own."""


class Net(nn.Module):
    """Convolutions with batch norms, and a grid that forward makes on the device of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 16, 3, padding=1, stride=2)
        self.last = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x))) + torch.arange(x.shape[-1], device=x.device) / 100
        return self.last(torch.relu(self.second(x)).mean((2, 3)))


def backwards(model: torch_cases.Net, x: torch.Tensor) -> torch.Tensor:
    lengths = torch.arange(len(x)) % x.shape[1] + 1
    state, _ = model.rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[1]
    return model.out(torch.cat([state[0], state[1]], 1))


def of_gpu(name: str) -> Case:
    """The case of a module, with the caller's module on the GPU; what is rebuilt is on the CPU."""
    case = torch_cases.module_case(name)
    tolerance = max(case.tolerance, 1e-4)
    return replace(case, model=lambda: torch_cases.make(name).to(GPU), tolerance=tolerance, exact=False)


@needs_gpu
@pytest.mark.parametrize(("name", "law"), torch_cases.pairs(ALIKE, LAWS))
def test_laws_hold(name: str, law: Callable[[Case], None]) -> None:
    law(of_gpu(name))


@needs_gpu
def test_sequences_of_several_lengths_are_seen_as_on_the_cpu() -> None:
    torch.manual_seed(0)
    model = torch_cases.Net(backwards, rnn=nn.LSTM(6, 5, bidirectional=True, batch_first=True), out=nn.Linear(10, 3))
    batch = {"x": np.random.default_rng(0).normal(size=(9, 5, 6)).astype(np.float32)}
    here, there = TorchModel.opened(model).moments([batch]), TorchModel.opened(model.to(GPU)).moments([batch])
    assert set(here) == set(there) and len(here) == 5
    for name, stats in here.items():
        np.testing.assert_allclose(there[name].hessian, stats.hessian, atol=1e-5, err_msg=name)


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(900, 1, 8, 8)).astype(np.float32)
    return images, rng.integers(0, 10, 900)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, attar.Result, Path]:
    torch.manual_seed(0)
    model = Net().to(GPU)
    result = attar.compress(model, data(), metric="agreement", max_drop=5, guarantee="estimate", out=None)
    path = tmp_path_factory.mktemp("gpu") / "net.attar"
    result.save(path)
    return model, result, path


@needs_gpu
def test_a_model_stays_where_it_is(run: tuple[nn.Module, attar.Result, Path]) -> None:
    model, result, _ = run
    assert result.ratio > 3
    assert {p.device.type for p in model.parameters()} == {"cuda"}
    assert {p.device.type for p in result.model.parameters()} == {"cuda"}
    state = torch.cuda.get_rng_state()
    adapter = TorchModel.opened(model)
    adapter.run({"x": data()[0][:10]})
    assert torch.equal(state, torch.cuda.get_rng_state())


@needs_gpu
def test_a_file_opens_without_a_gpu(run: tuple[nn.Module, attar.Result, Path], tmp_path: Path) -> None:
    _, result, path = run
    np.save(tmp_path / "x.npy", data()[0][:50])
    code = (
        "import attar, numpy, sys, torch\n"
        "assert not torch.cuda.is_available()\n"
        "x = numpy.load(sys.argv[2])\n"
        "numpy.save(sys.argv[3], attar.load(sys.argv[1]).eval()(torch.tensor(x)).detach().numpy())\n"
    )
    command = [sys.executable, "-c", code, path, tmp_path / "x.npy", tmp_path / "y.npy"]
    subprocess.run(command, check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        expected = result.model.eval()(torch.tensor(data()[0][:50], device=GPU)).cpu().numpy()
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-4 * np.abs(expected).max())


@needs_gpu
@pytest.mark.parametrize("packed", [False, True])
def test_into_a_module_on_the_gpu(run: tuple[nn.Module, attar.Result, Path], packed: bool) -> None:
    _, result, path = run
    loaded = attar.load(path, Net().to(GPU).eval(), packed=packed)
    x = torch.tensor(data()[0][:50], device=GPU)
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        torch.testing.assert_close(loaded.eval()(x), result.model.eval()(x), atol=1e-4, rtol=1e-4)


@needs_gpu
def test_recovery_and_gradients(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images, labels = data()
    parts = [(images[at::3], labels[at::3]) for at in range(3)]
    sets = dict(zip(("calibrate", "select", "certify"), parts, strict=True))
    options = {"metric": "agreement", "max_drop": 5, "guarantee": "estimate", "sensitivity": "fisher"}
    brief = {"recovery": {"epochs": 1}}
    result = attar.compress(Net().to(GPU), **sets, **options, train=(images + 0.1, labels), settings=brief)
    assert result.ratio > 3
    assert any(event["event"] == "sensitivity" and event["method"] == "fisher" for event in result.events)


@needs_gpu
def test_int8_for_the_cpu(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = attar.export(Net().to(GPU), "pt2-int8", data=data(), metric="agreement", max_drop=10, out=tmp_path / "n.pt2")
    network = torch.export.load(str(made.path)).module()
    with torch.no_grad():
        assert network(torch.tensor(data()[0][:10])).shape == (10, 10)


def test_a_description_names_no_gpu() -> None:
    gpu = {"type": "cuda", "index": 0}
    node = {"metadata": {"a": "b"}, "inputs": [{"arg": {"as_device": dict(gpu)}}]}
    graph = {"nodes": [node], "tensor_values": {"x": {"dtype": 7, "device": dict(gpu)}}}
    program = stripped({"graph_module": {"graph": graph, "module_call_graph": [1, 2]}})
    cpu = {"type": "cpu", "index": None}
    found = program["graph_module"]["graph"]
    assert found["tensor_values"]["x"]["device"] == cpu
    assert found["nodes"][0]["inputs"][0]["arg"]["as_device"] == cpu
