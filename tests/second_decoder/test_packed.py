"""The second decoder rebuilds packed checkpoints, alone and against a base, to the last byte."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from attar.packing.pack import pack
from second_decoder.packed import Packed


def tensors(seed=0):
    rng = np.random.default_rng(seed)
    wide = rng.normal(0, 0.02, (24, 40))
    return {
        "single": wide.astype(np.float32), "half": wide.astype(np.float16), "brain": wide.astype(ml_dtypes.bfloat16),
        "bytes": np.rint(wide * 300).astype(np.int8), "mask": wide > 0, "steps": np.arange(50),
        "noise": rng.integers(0, 256, 3000).astype(np.uint8), "none": np.zeros((0, 4), np.float32),
        "line": np.ones(7, np.float32),
    }  # fmt: skip


def moved(old):
    """The next step of a training: most tensors a little away, one the same, one with other bits."""
    rng = np.random.default_rng(1)
    new = {name: array.copy() for name, array in old.items()}
    for name in ("single", "half", "brain"):
        step = rng.normal(0, 2e-5, old[name].shape)
        new[name] = (old[name].astype(np.float64) + step).astype(old[name].dtype)
    new["bytes"].ravel()[::50] += 1
    new["steps"] += rng.integers(0, 3, 50)
    new["noise"][::9] ^= 1
    return new


def test_a_checkpoint(tmp_path):
    save_file(tensors(), tmp_path / "m.safetensors", metadata={"step": "1"})
    np.savez(tmp_path / "m.npz", **{name: array for name, array in tensors().items() if name != "brain"})
    for name in ("m.safetensors", "m.npz"):
        pack(tmp_path / name, tmp_path / "m.attar", force=True)
        read = Packed((tmp_path / "m.attar").read_bytes())
        assert read.files == {name: (tmp_path / name).read_bytes()}


@pytest.mark.parametrize("swap", [False, True])
def test_a_difference(tmp_path, swap):
    old, new = tensors(), moved(tensors())
    if swap:
        old, new = {name: -array if name in ("single", "brain") else array for name, array in new.items()}, old
    save_file(old, tmp_path / "old.safetensors")
    save_file(new, tmp_path / "new.safetensors")
    pack(tmp_path / "old.safetensors", tmp_path / "old.attar")
    pack(tmp_path / "new.safetensors", tmp_path / "new.attar", base=tmp_path / "old.safetensors")
    base = Packed((tmp_path / "old.attar").read_bytes())
    read = Packed((tmp_path / "new.attar").read_bytes(), base.tensors)
    assert read.files == {"new.safetensors": (tmp_path / "new.safetensors").read_bytes()}
    kinds = {piece[3] for tensor in read.manifest["files"][0][4] for piece in tensor[4] if len(piece) == 5}
    assert swap or kinds == {"xor", "minus"}


def test_a_folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file({"a": tensors()["single"]}, folder / "one.safetensors")
    (folder / "config.json").write_text("{}" * 50)
    pack(folder, tmp_path / "folder.attar")
    read = Packed((tmp_path / "folder.attar").read_bytes())
    assert read.files == {path.name: path.read_bytes() for path in folder.iterdir()}
