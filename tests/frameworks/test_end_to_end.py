"""One real model with real data through each framework, from the user's call to a file that opens without attar."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import attar
from attar.data.read import read
from commands import PROCESS

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS = ROOT / "examples" / "models"
FASHION = ROOT / "examples" / "fashion-mnist"
sys.path.append(str(ROOT / "examples"))


def images(part: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    data = read(FASHION)[part]
    return next(iter(data.inputs.values()))[:count], data.labels[:count]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """2,000 held-out images for calibration and selection, 4,000 test images to certify."""
    folder = tmp_path_factory.mktemp("data")
    for name, part, count in (("train", "train", 2000), ("test", "test", 4000)):
        x, y = images(part, count)
        np.savez(folder / f"{name}.npz", x=x, y=y)
    return {name: folder / f"{name}.npz" for name in ("train", "test")}


def cli(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*PROCESS, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment})


def test_torch_module_and_loader(small: dict[str, Path], tmp_path: Path) -> None:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from torch_models import LeNet300100

    model = LeNet300100()
    model.load_state_dict(torch.load(MODELS / "lenet300.pt", weights_only=True))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = images("train", 2000)
    loader = DataLoader(TensorDataset(torch.from_numpy(x).float()[:, None] / 255, torch.from_numpy(y)), 250)
    test, labels = images("test", 4000)
    certify = TensorDataset(torch.from_numpy(test).float()[:, None] / 255, torch.from_numpy(labels))
    result = attar.compress(model, calibrate=loader, certify=certify, max_drop=2.0)
    assert result.certified and result.ratio > 25
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert type(result.model) is LeNet300100 and result.model.training
    test = certify.tensors[0]
    right = (result.model.eval()(test).argmax(1).numpy() == labels).mean()
    assert 100 * right == pytest.approx(result.certificate.after)
    result.save(tmp_path / "small.attar")
    alone = attar.load(tmp_path / "small.attar")
    into = attar.load(tmp_path / "small.attar", into=model)
    with torch.no_grad():
        torch.testing.assert_close(alone(test), into.eval()(test))
    result.save(tmp_path / "small.safetensors")
    from safetensors.torch import load_file

    model.load_state_dict(load_file(tmp_path / "small.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(test), into(test))


@pytest.mark.slow
def test_torch_from_the_command_line(small: dict[str, Path], tmp_path: Path) -> None:
    """A state dict with the function that makes its module; and a torch.export program."""
    import torch

    from torch_models import LeNet300100

    sets = ["--calibrate", small["train"], "--certify", small["test"], "--max-drop", 2]
    done = cli(
        "compress", MODELS / "lenet300.pt", "--factory", "torch_models:LeNet300100", *sets, "-o", tmp_path / "a",
        PYTHONPATH=str(ROOT / "examples"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model = LeNet300100()
    model.load_state_dict(torch.load(tmp_path / "a" / "lenet300.pt", weights_only=True))
    batch = torch.export.Dim("batch")
    program = torch.export.export(model.eval(), (torch.zeros(2, 1, 28, 28),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "lenet300.pt2")
    done = cli("compress", tmp_path / "lenet300.pt2", *sets, "-o", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    again = torch.export.load(tmp_path / "b" / "lenet300.pt2").module()
    assert again(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


OPEN = """
import sys, json
sys.modules["attar"] = None
import keras, numpy as np
data = np.load(sys.argv[2])
model = keras.models.load_model(sys.argv[1])
out = model.predict(data["x"][..., None].astype("float32") / 255, verbose=0, batch_size=500)
print(json.dumps(100 * float(np.mean(out.argmax(1) == data["y"]))))
"""


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("lenet300", ".keras"),
        pytest.param("lenet300", ".h5", marks=pytest.mark.slow),
        pytest.param("dwcnn", ".keras", marks=pytest.mark.slow),
    ],
)
def test_keras_in_keras_out(small: dict[str, Path], tmp_path: Path, name: str, suffix: str) -> None:
    source = MODELS / f"{name}.keras"
    if suffix == ".h5":
        code = "import sys, keras; keras.models.load_model(sys.argv[1]).save(sys.argv[2])"
        subprocess.run([sys.executable, "-c", code, source, tmp_path / f"{name}.h5"], check=True, capture_output=True)
        source = tmp_path / f"{name}.h5"
    out = tmp_path / "out"
    done = cli(
        "compress", source, "--calibrate", small["train"], "--certify", small["test"], "--max-drop", 2, "-o", out
    )
    assert done.returncode == 0, done.stderr
    closing = json.loads((out / "ledger.jsonl").read_text().splitlines()[-1])
    opened = subprocess.run(
        [sys.executable, "-c", OPEN, out / f"{name}{suffix}", small["test"]], capture_output=True, text=True
    )
    assert opened.returncode == 0, opened.stderr
    assert json.loads(opened.stdout.splitlines()[-1]) == pytest.approx(closing["after"], abs=0.026)


def test_tf_data_set() -> None:
    """A tf.data.Dataset is read like arrays."""
    code = """
import numpy as np, tensorflow as tf
from attar.data.read import read
x = np.arange(60, dtype="float32").reshape(30, 2); y = np.arange(30) % 3
data = read(tf.data.Dataset.from_tensor_slices((x, y)).batch(7))
assert len(data) == 30 and (data.labels == y).all() and (next(iter(data.inputs.values())) == x).all()
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
