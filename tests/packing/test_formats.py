"""Every format comes back to the byte, and its tensors are found: by name, dtype, shape and value."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import attar
from attar.errors import FormatError, UsageError
from attar.packing.pack import pack
from attar.packing.unpack import unpack

from . import samples


def there_and_back(source: Path, tmp_path: Path) -> attar.packing.checkpoint.Checkpoint:
    """The open archive, once it has given back the file."""
    packed = pack(source, tmp_path / "packed.attar", force=True)
    back = unpack(packed.path, tmp_path / "again", force=True)
    assert back.read_bytes() == source.read_bytes()
    assert not any(row["error"] for row in attar.verify(packed.path))
    return attar.open(packed.path)


def same(left: Any, right: Any) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def test_safetensors(tmp_path: Path) -> None:
    opened = there_and_back(samples.safetensors(tmp_path / "m.safetensors"), tmp_path)
    assert set(opened) == set(samples.tensors())
    for name, array in samples.tensors().items():
        assert same(opened[name], array)
        assert opened.shape(name) == array.shape and opened.dtype(name) == array.dtype.name


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: Any) -> None:
    dtypes = ("float32", "float64", "int16", "bool")
    arrays = {f"a{k}": samples.weights(dtype, (40, 30)) for k, dtype in enumerate(dtypes)}
    arrays["columns"] = np.asfortranarray(samples.weights("float32", (20, 30)))
    arrays["empty"], arrays["text"] = np.zeros((0, 4)), np.array(["ab", "c"])
    save(tmp_path / "m.npz", **arrays)
    opened = there_and_back(tmp_path / "m.npz", tmp_path)
    if save is np.savez_compressed:
        assert not opened and "compressed arrays" in pack(tmp_path / "m.npz", force=True).notes[0]
        return
    assert set(opened) == set(arrays) - {"text"}
    for name in set(opened) - {"columns"}:
        assert same(opened[name], arrays[name])
    assert same(opened["columns"], arrays["columns"].ravel(order="F"))


def test_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", samples.weights("float32", (70, 30)))
    assert same(there_and_back(tmp_path / "w.npy", tmp_path)["w"], samples.weights("float32", (70, 30)))


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Linear(30, 40)
        self.two = torch.nn.Conv2d(3, 8, 3).to(torch.bfloat16)
        self.norm = torch.nn.BatchNorm1d(9)
        self.register_buffer("turned", torch.arange(60.0).reshape(6, 10).t())


def test_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = Net().state_dict()
    state["half"] = torch.randn(20, 20).half()
    state["eight"] = torch.randn(16, 16).to(torch.float8_e4m3fn)
    state["part"] = state["one.weight"][3:5]
    torch.save({"model": state, "epoch": 3, "names": ["a", ("b", None)], "step": {1: 2.5}}, tmp_path / "m.pt")
    opened = there_and_back(tmp_path / "m.pt", tmp_path)
    # A storage that no tensor shows as a whole goes by its number.
    assert set(opened) - {"storage 0"} == set(state)
    again = attar.open(tmp_path / "packed.attar", framework="pt")
    for name, tensor in state.items():
        assert again[name].dtype == tensor.dtype and again[name].shape == tensor.shape
        assert torch.equal(again[name].float(), tensor.float()), name
    assert opened.dtype("eight") == "float8_e4m3fn" and opened.dtype("two.weight") == "bfloat16"
    assert opened["norm.num_batches_tracked"].shape == ()


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "run",))

    torch.save({"w": torch.zeros(300), "x": Evil()}, tmp_path / "evil.pt")
    assert set(there_and_back(tmp_path / "evil.pt", tmp_path)) == {"w"}
    torch.save({"w": torch.zeros(300)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UsageError, match="bare pickle"):
        pack(tmp_path / "old.pt")
    assert not (tmp_path / "run").exists()


def test_onnx(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "examples" / "models" / "lenet5.onnx"
    import onnx
    from onnx import numpy_helper

    opened = there_and_back(source, tmp_path)
    initializers = {t.name: numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer}
    large = {name: array for name, array in initializers.items() if array.nbytes >= 256}
    assert set(opened) == set(large) and len(large) > 3
    for name, array in large.items():
        assert same(opened[name], array)


def test_onnx_constants_and_subgraphs(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = samples.weights("float32", (20, 30))
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(weight, "inner"))], "then", [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [20, 30])],
    )  # fmt: skip
    floats = helper.make_tensor("floats", TensorProto.FLOAT, (10, 10), np.arange(100.0))
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)], "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [20, 30])], [floats],
    )  # fmt: skip
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    opened = there_and_back(tmp_path / "m.onnx", tmp_path)
    assert same(opened["inner"], weight) and len(opened) == 3
    assert same(opened["floats"], np.arange(100, dtype=np.float32).reshape(10, 10))


def four(value: int) -> bytes:
    return value.to_bytes(4, "little")


def eight(value: int) -> bytes:
    return value.to_bytes(8, "little")


def text(value: bytes) -> bytes:
    return eight(len(value)) + value


def gguf_bytes() -> tuple[bytes, dict[str, Any]]:
    """A file by the format's specification, version 3: plain and quantised tensors behind keys of many types."""
    arrays = {
        "a.weight": samples.weights("float32", (12, 40)), "b.weight": samples.weights("float16", (33,)),
        "c.weight": samples.weights("bfloat16", (8, 8)), "q.weight": np.arange(4 * 34, dtype=np.uint8).reshape(4, 34),
    }  # fmt: skip
    kinds = {"a.weight": 0, "b.weight": 1, "c.weight": 30, "q.weight": 8}
    pairs = [
        text(b"general.alignment") + four(4) + four(64),
        text(b"tokens")
        + (9).to_bytes(4, "little")
        + (8).to_bytes(4, "little")
        + (2).to_bytes(8, "little")
        + text(b"x") * 2,
        text(b"scores") + (9).to_bytes(4, "little") + (6).to_bytes(4, "little") + (3).to_bytes(8, "little") + bytes(12),
    ]
    records, data = b"", b""
    for name, array in arrays.items():
        axes = [128] if name == "q.weight" else list(array.shape)[::-1]
        data += bytes(-len(data) % 64)
        records += (
            text(name.encode()) + len(axes).to_bytes(4, "little") + b"".join(n.to_bytes(8, "little") for n in axes)
        )
        records += kinds[name].to_bytes(4, "little") + len(data).to_bytes(8, "little")
        data += array.tobytes()
    head = b"GGUF" + four(3) + eight(len(arrays)) + eight(len(pairs)) + b"".join(pairs) + records
    return head + bytes(-len(head) % 64) + data, arrays


def test_gguf(tmp_path: Path) -> None:
    data, arrays = gguf_bytes()
    (tmp_path / "m.gguf").write_bytes(data)
    opened = there_and_back(tmp_path / "m.gguf", tmp_path)
    assert all(same(opened[name], array) for name, array in arrays.items()) and set(opened) == set(arrays)


@pytest.mark.parametrize("base_is_packed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "float8_e4m3fn"])
def test_differences_to_a_base(tmp_path: Path, dtype: str, base_is_packed: bool) -> None:
    rng = np.random.default_rng(1)
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    old = samples.weights(dtype, (300, 200))
    moved = old.astype(np.float32) * (1 + 1e-3 * rng.normal(size=old.shape)) + (rng.random(old.shape) < 0.01)
    new = {"w": moved.astype(kind), "added": samples.weights(dtype, (5, 300), 3)}
    base = samples.safetensors(tmp_path / "base.safetensors", {"w": old, "gone": old[:3]})
    source = samples.safetensors(tmp_path / "new.safetensors", new)
    alone = pack(source, tmp_path / "alone.attar").bytes_after
    base = pack(base).path if base_is_packed else base
    packed = pack(source, base=base)
    assert packed.bytes_after < (0.8 if dtype != "float8_e4m3fn" else 1) * alone
    assert unpack(packed.path, tmp_path / "back", base=base).read_bytes() == source.read_bytes()
    with pytest.raises(UsageError, match="Received no base"):
        unpack(packed.path, tmp_path / "other")
    wrong = samples.safetensors(tmp_path / "wrong.safetensors", {"w": old[::-1].copy()})
    with pytest.raises(UsageError, match="must be the one that was packed against"):
        unpack(packed.path, tmp_path / "other", base=wrong)
    with pytest.raises(UsageError, match="Received no base"):
        attar.open(packed.path)["w"]
    assert same(attar.open(packed.path)["added"], new["added"]) and not (tmp_path / "other").exists()
    with pytest.raises(UsageError, match="must stand alone"):
        pack(source, tmp_path / "third.attar", base=packed.path)


def test_shards_with_their_index(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    for k in range(2):
        samples.safetensors(folder / f"model-{k}.safetensors", {f"w{k}": samples.weights("float32", (30, 40), k)})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"w{k}": f"model-{k}.safetensors" for k in range(2)}}))
    packed = pack(index)
    opened = attar.open(packed.path)
    assert set(opened) == {"w0", "w1"} and same(opened["w1"], samples.weights("float32", (30, 40), 1))
    back = unpack(packed.path, tmp_path / "back")
    for file in folder.glob("model*"):
        assert file.suffix == ".attar" or (back / file.name).read_bytes() == file.read_bytes()
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(UsageError, match=r"none called 'model-1.safetensors'"):
        pack(index, force=True)


def damaged(name: str, data: bytes) -> Any:
    return pytest.param(name, data, id=f"{name}-{len(data)}")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        damaged("a.safetensors", eight(50) + b"{" + b"x" * 60),
        damaged(
            "a.safetensors",
            eight(80) + b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,999]}}'.ljust(80),
        ),
        damaged("a.gguf", b"GGUF" + four(3) + eight(1 << 60) * 2),
        damaged("a.gguf", b"GGUF" + four(9) + bytes(16)),
        damaged("a.gguf", gguf_bytes()[0][:-100]),
        damaged("a.npz", b"PK\3\4" + bytes(40)),
        damaged("a.npy", b"\x93NUMPY\1\0\xff\xff" + bytes(40)),
    ],
)
def test_damaged_files_are_clear_errors(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises((FormatError, UsageError), match="Received"):
        pack(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_zip_of_other_things_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "no weights")
    with pytest.raises(UsageError, match="Received another file"):
        pack(tmp_path / "a.zip")


def test_piece_by_piece(tmp_path: Path) -> None:
    """In a process of its own, because the length of pieces is a part of the format."""
    source = samples.safetensors(tmp_path / "m.safetensors")
    script = f"""
from attar.archive import packed
packed.PIECE = 1000
from attar.formats import source
source.PIECE = 1000
import attar
result = attar.pack({str(source)!r})
assert max(len(span.pieces) for span in result.files[0].spans) > 1 and len(result.files[0].shell) > 1
back = attar.unpack(result.path, {str(tmp_path / "back")!r})
opened = attar.open(result.path)
assert back.read_bytes() == open({str(source)!r}, "rb").read()
assert all(opened[name].shape == opened.shape(name) for name in opened)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_training_checkpoints(tmp_path: Path) -> None:
    """Keys repeat in an optimizer's state and in averaged weights: all of them are tensors, none is shell."""
    net = torch.nn.Sequential(torch.nn.Linear(40, 50), torch.nn.Linear(50, 30))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(8, 40)).sum().backward()
    optimizer.step()
    average = {name: value + 1 for name, value in net.state_dict().items()}
    state = {
        "ema": average,
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "0.bias (2)": torch.ones(3),
    }
    torch.save(state, tmp_path / "m.pt")
    opened = there_and_back(tmp_path / "m.pt", tmp_path)
    assert same(opened["0.weight"], average["0.weight"].numpy())
    assert same(opened["0.weight (2)"], net[0].weight.detach().numpy())
    assert {f"exp_avg{suffix}" for suffix in ("", " (2)", " (3)", " (4)")} < set(opened)
    assert len(opened) == 4 + 4 + 4 * 3 + 1


def test_a_pickle_of_marks_is_read_in_linear_time(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02" + b"N" * 1_000_000 + b"(t" * 1_000_000 + b"(0(1.")
    started = time.monotonic()
    pack(tmp_path / "m.pt")
    assert time.monotonic() - started < 60  # quadratic where each mark was searched for
