"""What is opened, what is refused before it can run code, and what is left of the caller's model."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters import torch_cases
from attar.adapters.torch.adapter import FactorySpec, TorchAdapter
from attar.adapters.torch.programs import check_program
from attar.errors import FormatError, ModelError, OutputError
from attar.types import Weight


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_the_entry_does_not_import_torch() -> None:
    code = "import sys; from attar.adapters.torch.adapter import TorchAdapter as T; T.accepts('x.pt'); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False).returncode == 0


def test_a_state_dict_alone_asks_for_a_factory(tmp_path: Path) -> None:
    torch.save(torch_cases.make("dense").state_dict(), tmp_path / "model.pt")
    with pytest.raises(ModelError, match="factory"):
        TorchAdapter.open(tmp_path / "model.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_factory_with_what_save_wrote_is_the_same_model(tmp_path: Path, suffix: str) -> None:
    adapter = TorchAdapter.open(torch_cases.make("conv"))
    adapter.save(tmp_path / f"model{suffix}")
    again = TorchAdapter.open(FactorySpec("adapters.torch_cases:make_conv", tmp_path / f"model{suffix}"))
    batch = torch_cases.batches_of("conv")[0]
    np.testing.assert_allclose(again.run(batch), adapter.run(batch), rtol=1e-5, atol=1e-5)
    if suffix == ".pt":
        torch.load(tmp_path / "model.pt", weights_only=True)


@pytest.mark.parametrize("factory", ["nothing", "no.such.module:x", "adapters.torch_cases:absent", "os:getcwd"])
def test_a_wrong_factory_is_a_model_error(factory: str) -> None:
    with pytest.raises(ModelError, match="factory"):
        TorchAdapter.open(FactorySpec(factory))


def test_a_state_dict_of_another_module_is_a_model_error(tmp_path: Path) -> None:
    torch.save(torch_cases.make("dense").state_dict(), tmp_path / "model.pt")
    with pytest.raises(ModelError, match="fit"):
        TorchAdapter.open(FactorySpec("adapters.torch_cases:make_conv", tmp_path / "model.pt"))


def test_pickles_are_never_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(trap)))
    torch.save({"state": Bomb(trap)}, tmp_path / "zip.pt")
    torch.save(torch_cases.make("dense"), tmp_path / "module.pth")
    for name in ("plain.pt", "zip.pt", "module.pth"):
        with pytest.raises(FormatError, match="never objects that run code"):
            TorchAdapter.open(tmp_path / name)
    assert not trap.exists()


def program_bytes(tmp_path: Path) -> bytes:
    return torch_cases.program_case("dense", tmp_path).model().read_bytes()  # type: ignore[attr-defined,no-any-return]


def altered(data: bytes, change: Any) -> bytes:
    """The archive with every entry passed through change(name, bytes)."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


@pytest.mark.parametrize("place", ["weights", "samples"])
def test_pickles_in_a_program_are_refused(tmp_path: Path, place: str) -> None:
    trap, bomb = tmp_path / "trap", io.BytesIO()
    torch.save((Bomb(tmp_path / "trap"),), bomb)

    def change(name: str, data: bytes) -> bytes:
        if place == "samples" and "sample_inputs" in name:
            return bomb.getvalue()
        if place == "weights" and name.endswith("weights_config.json"):
            return data.replace(b'"use_pickle": false', b'"use_pickle": true')
        return bomb.getvalue() if place == "weights" and name.endswith("weight_0") else data

    path = tmp_path / "bad.pt2"
    path.write_bytes(altered(program_bytes(tmp_path), change))
    with pytest.raises(FormatError):
        TorchAdapter.open(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.ops.aten.relu.default", "torch.hub.load"),
        ("torch.ops.aten.relu.default", "torch.ops.load_library.__call__"),
        ("torch.ops.aten.relu.default", "torch.ops.aten.from_file.default"),
        ("torch.ops.aten.relu.default", "torch.ops.aten.relu.__init__"),
        ("torch.ops.aten.relu.default", "#extension"),
        ("torch.ops.aten.relu.default", "_operator.attrgetter"),
        ("Symbol('s77', positive=True, integer=True)", "__import__('os').getcwd()"),
        ("Symbol('s77', positive=True, integer=True)", "s77.__class__"),
        ("Symbol('s77', positive=True, integer=True)", "9**9**9**9"),
        ("Symbol('s77', positive=True, integer=True)", "Pow(9, Pow(9, Integer(9)))"),
        ("builtins.tuple", "__enum__"),
    ],
)
def test_programs_may_not_name_code(tmp_path: Path, old: str, new: str) -> None:
    with zipfile.ZipFile(io.BytesIO(program_bytes(tmp_path))) as archive:
        text = archive.read(next(n for n in archive.namelist() if "/models/" in n)).decode()
    check_program(json.loads(text), "program")
    if old.startswith("Symbol"):
        start = text.index("Symbol('")
        old = text[start : text.index(")", start) + 1]
    assert old in text
    with pytest.raises(FormatError):
        check_program(json.loads(text.replace(old, new)), "program")


def test_damaged_files_are_format_errors(tmp_path: Path) -> None:
    data = program_bytes(tmp_path)
    script = torch_cases.script_case("dense", tmp_path, traced=True).model().read_bytes()  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    for suffix, whole in ((".pt2", data), (".pt", script)):
        for cut in rng.integers(0, len(whole), 5):
            path = tmp_path / f"bad{suffix}"
            path.write_bytes(whole[:cut])
            with pytest.raises((FormatError, ModelError)):
                TorchAdapter.open(path)


def test_altered_skeletons_are_format_errors() -> None:
    adapter = torch_cases.module_case("dense").open()
    skeleton = adapter.skeleton()
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(skeleton), 20):
        with pytest.raises(FormatError):
            TorchAdapter.rebuild(skeleton[:cut], adapter.remainder())
    content = json.loads(skeleton)
    for key in content:
        with pytest.raises(FormatError):
            TorchAdapter.rebuild(json.dumps({**content, key: 7}).encode(), adapter.remainder())


def test_a_script_and_an_unseen_module_have_no_skeleton(tmp_path: Path) -> None:
    script = TorchAdapter.open(torch.jit.script(torch_cases.make("dense")))
    script.run(torch_cases.batches_of("dense")[0])
    with pytest.raises(ModelError, match="into="):
        script.skeleton()
    with pytest.raises(ModelError, match="no batch"):
        TorchAdapter.open(torch_cases.make("dense")).skeleton()
    with pytest.raises(OutputError):
        script.save(tmp_path / "model.onnx")


def test_a_module_that_cannot_be_exported_says_why() -> None:
    def fixed(model: Any, x: Any) -> Any:
        return model.a(x) if len(x) == 4 else model.a(x) * 2

    adapter = TorchAdapter.open(torch_cases.Net(fixed, a=torch.nn.Linear(6, 3)))
    adapter.run(torch_cases.batches_of("dense")[0])
    with pytest.raises(ModelError, match="into="):
        adapter.skeleton()


def test_the_callers_module_and_generator_are_untouched() -> None:
    model = torch_cases.make("conv")
    model.train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    calls: list[int] = []
    model[2].register_forward_hook(lambda *_: None)
    torch.manual_seed(7)
    state, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    adapter = TorchAdapter.open(model)
    adapter.run(torch_cases.batches_of("conv")[0])
    adapter.moments(torch_cases.batches_of("conv"))
    adapter.fisher(torch_cases.batches_of("conv"))
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes
    assert [m.training for m in adapter.model().modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert not calls


def test_the_model_comes_back_in_its_class_and_works(tmp_path: Path) -> None:
    for name in ("lstm", "conv", "encoder"):
        model = torch_cases.make(name)
        adapter = TorchAdapter.open(model)
        back = adapter.model()
        assert type(back) is type(model)
        batch = torch_cases.batches_of(name)[0]
        np.testing.assert_allclose(torch_cases.run_module(back, batch), torch_cases.run_module(model, batch), atol=2e-5)


def test_models_without_matrices_are_model_errors() -> None:
    with pytest.raises(ModelError, match="matrix"):
        TorchAdapter.open(torch.nn.BatchNorm1d(3))
    with pytest.raises(ModelError, match="lazy"):
        TorchAdapter.open(torch.nn.LazyLinear(3))
    held = torch.nn.Linear(2, 2)
    held.lock = threading.Lock()  # cannot be copied
    with pytest.raises(ModelError, match="copied"):
        TorchAdapter.open(held)


def test_scripts_and_programs_come_back_as_they_were(tmp_path: Path) -> None:
    batch = torch_cases.batches_of("dense")[0]
    scripted = torch.jit.script(torch_cases.make("dense"))
    program = torch_cases.program_case("dense", tmp_path).model()
    for model, kind in ((scripted, torch.jit.ScriptModule), (program, torch.fx.GraphModule)):
        adapter = TorchAdapter.open(model)
        name = adapter.layers()[0].name
        weight = adapter.read(name)
        adapter.write(name, Weight(weight.matrix * 0.5, weight.bias))
        back = adapter.model()
        assert isinstance(back, kind)
        np.testing.assert_allclose(torch_cases.run_module(back, batch), adapter.run(batch), atol=1e-6)
    assert TorchAdapter.open(scripted).model().training
    assert scripted.training
