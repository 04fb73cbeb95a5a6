"""Tensors by name, from packed checkpoints and from compressed models, and the commands."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attar
import commands
from attar import opening
from attar.archive import read_archive, write_archive
from attar.archive.packed import decode_pieces
from attar.errors import FormatError, UsageError
from attar.packing.pack import pack

from . import samples


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return pack(samples.safetensors(tmp_path / "m.safetensors")).path


def test_it_is_a_lazy_mapping(packed: Path) -> None:
    with attar.open(packed) as opened:
        assert len(opened) == len(samples.tensors()) and "scalar" in opened and "gone" not in opened
        assert opened.metadata()["name"] == "m.safetensors"
        assert (opened.get_tensor("float32.weight") == samples.tensors()["float32.weight"]).all()
        part = opened.get_slice("float32.weight")
        assert part.get_shape() == [33, 48] and part.get_dtype() == "float32"
        assert (part[2:5, ::7] == samples.tensors()["float32.weight"][2:5, ::7]).all()
        with pytest.raises(KeyError):
            opened["gone"]


def test_one_tensor_is_read_without_the_others(packed: Path) -> None:
    data = bytearray(packed.read_bytes())
    archive = read_archive(packed)
    section = next(span for span in archive.files[0].spans if span.name == "float64.weight").pieces[0].section
    data[archive._starts[section] + 5] ^= 1
    packed.write_bytes(data)
    opened = attar.open(packed)
    assert opened["float32.weight"].shape == (33, 48)
    with pytest.raises(FormatError, match=r"m.safetensors: float64.weight"):
        opened["float64.weight"]


def test_all_tensors_at_once(packed: Path, tmp_path: Path) -> None:
    opened = attar.open(packed)
    found = opened.load()
    assert list(found) == list(opened)
    for name, array in found.items():
        alone = opened[name]
        assert (array.dtype, array.shape, array.tobytes()) == (alone.dtype, alone.shape, alone.tobytes()), name
    assert attar.open(packed, framework="pt").load()["float32.weight"].shape == (33, 48)
    # One byte of the tensor's own, with a checksum that holds: the error names the tensor.
    archive = read_archive(packed)
    section = next(span for span in archive.files[0].spans if span.name == "float64.weight").pieces[0].section
    with pytest.raises(FormatError, match=r"section 'm.safetensors: float64.weight': planes"):
        decode_pieces([section], [archive._blob(section)[:-1]])


def test_compressed_models_open_too(tmp_path: Path) -> None:
    from attar.types import Encoded, Layer

    layer = Layer("fc", "dense", 4, 6, (4, 6))
    encoded = Encoded("keep", {"matrix": np.arange(24, dtype=np.float32).reshape(4, 6)})
    rest = {"mean": np.ones(3, np.float32), "count": np.array(7)}
    path = tmp_path / "model.attar"
    write_archive(path, layers=[(layer, encoded)], remainder=rest, skeleton=None, meta={"framework": "none"})
    opened = attar.open(path)
    assert set(opened) == {"fc", "mean", "count"} and opened.shape("fc") == (4, 6) and opened["count"] == 7
    assert (opened["fc"] == opening.decode(read_archive(path), "fc").matrix).all()


def test_refusals(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="framework must be one of np, pt"):
        attar.open(packed, framework="tf")
    with pytest.raises(UsageError, match="must be a file"):
        attar.open(tmp_path / "gone.attar")
    with pytest.raises(UsageError, match="Received a packed checkpoint"):
        attar.load(packed)


def run(*words: Any) -> subprocess.CompletedProcess[str]:
    return commands.attar(*words)


def test_the_commands(tmp_path: Path) -> None:
    source = samples.safetensors(tmp_path / "m.safetensors", {"w": samples.weights("float32", (300, 400))})
    done = run("pack", source)
    assert done.returncode == 0 and not done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["before", "after", "ratio", "archive"]
    done = run("pack", source)
    assert done.returncode == 1 and "not overwritten" in done.stderr
    facts = json.loads(run("pack", source, "--force", "--json").stdout)
    assert facts["ratio"] > 1.1 and facts["tensors"] == 1
    archive = facts["path"]
    done = run("unpack", archive, "-o", tmp_path / "back.safetensors")
    assert done.stdout.strip() == str(tmp_path / "back.safetensors")
    assert (tmp_path / "back.safetensors").read_bytes() == source.read_bytes()
    assert "float32" in run("inspect", archive).stdout and run("verify", archive).returncode == 0
    done = run("pack", source, "--base", source, "-o", tmp_path / "same.attar")
    assert done.returncode == 0 and (tmp_path / "same.attar").stat().st_size < 1500
    done = run("unpack", tmp_path / "same.attar", "-o", tmp_path / "x", "--base", source)
    assert (tmp_path / "x").read_bytes() == source.read_bytes()
    done = run("expand", archive, "-o", tmp_path / "plain")
    assert done.returncode == 2 and "packed checkpoint" in done.stderr and "Traceback" not in done.stderr


def test_a_dtype_that_torch_lacks_is_said(tmp_path: Path) -> None:
    import ml_dtypes

    np.save(tmp_path / "w.npy", np.zeros(3))
    opened = attar.open(pack(tmp_path / "w.npy").path, framework="pt")
    assert str(opened["w"].dtype) == "torch.float64"
    with pytest.raises(UsageError, match="PyTorch must have its dtype"):
        opened._convert(np.zeros(3, ml_dtypes.float8_e3m4))
