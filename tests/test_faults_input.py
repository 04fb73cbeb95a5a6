"""Bad input through the real command line: one clear line, the right exit code, nothing written, no traceback."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import commands
from data.idx_writer import to_idx
from test_faults import small_model

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its data, an archive of it, and everything that is wrong with one of them."""
    folder = tmp_path_factory.mktemp("input")
    x, y = small_model(folder / "small.onnx")
    np.savez(folder / "data.npz", x=x, y=y)
    done = attar(folder, "compress", "small.onnx", "--data", "data.npz", "--max-drop", "5", "-o", "good")
    assert done.returncode in (0, 3), done.stderr
    broken_models(folder)
    broken_archives(folder, (folder / "good" / "small.attar").read_bytes())
    broken_data(folder, x, y)
    return folder


def attar(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return commands.attar(*words, cwd=folder)


def process(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "attar", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def broken_models(folder: Path) -> None:
    import onnx
    from onnx import helper, numpy_helper

    def changed(name: str, change: Callable[[onnx.ModelProto], object]) -> None:
        model = onnx.load(str(folder / "small.onnx"))
        change(model)
        onnx.save(model, str(folder / name))

    def weight(model: onnx.ModelProto, value: float) -> None:
        array = numpy_helper.to_array(model.graph.initializer[0]).copy()
        array[2, 3] = value
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "first"))

    def without_layers(model: onnx.ModelProto) -> None:
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.append(helper.make_node("Relu", ["x"], ["y"]))
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 6

    def unknown(model: onnx.ModelProto) -> None:
        model.opset_import.append(helper.make_opsetid("my.domain", 1))
        model.graph.node[1].op_type, model.graph.node[1].domain = "Frob", "my.domain"

    changed("nan.onnx", lambda model: weight(model, np.nan))
    changed("inf.onnx", lambda model: weight(model, np.inf))
    changed("bare.onnx", without_layers)
    changed("unknown.onnx", unknown)
    whole = (folder / "small.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    for name in ("pickle.onnx", "pickle.npz", "pickle.attar", "pickle.bin"):
        (folder / name).write_bytes(pickle.dumps({"weights": Malicious()}))


class Malicious:
    """Leaves a file where it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch executed",)


def broken_archives(folder: Path, whole: bytes) -> None:
    for name, data in {
        "cut.attar": whole[: len(whole) // 2],
        "short.attar": whole[:-1],
        "head.attar": whole[:6],
        "none.attar": b"",
        "flip.attar": whole[:-60] + bytes([whole[-60] ^ 16]) + whole[-59:],
        "flipped-head.attar": whole[:40] + bytes([whole[40] ^ 1]) + whole[41:],
    }.items():
        (folder / name).write_bytes(data)


def broken_data(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    spoiled = x.copy()
    spoiled[7, 2] = np.nan
    for name, inputs, labels in (
        ("wide", np.hstack([x, x]), y),
        ("words", x.astype(str), y),
        ("objects", x.astype(object), y),
        ("complex", x.astype(complex), y),
        ("dates", x.astype("M8[s]"), y),
        ("nan", spoiled, y),
        ("empty", x[:0], y[:0]),
        ("ten", x[:10], y[:10]),
        ("uneven", x, y[:-1]),
        ("one-class", x, 0 * y),
        ("named", x, np.array(["shirt", "coat", "bag"])[y]),
        ("far", x, y + 1),
        ("negative", x, y - 1),
        ("halves", x, y + 0.5),
        ("pairs", x, np.stack([y, y], 1)),
    ):
        np.savez(folder / f"{name}.npz", x=inputs, y=labels)
    whole = (folder / "data.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(50 << 20))
    (folder / "lying.idx.gz").write_bytes(gzip.compress(bytes([0, 0, 8, 1]) + b"\xff" * 4 + bytes(100)))
    (folder / "pair").mkdir()
    (folder / "pair" / "images-idx2-ubyte").write_bytes(to_idx(np.zeros((30, 6), np.uint8)))
    (folder / "pair" / "labels-idx1-ubyte").write_bytes(to_idx(np.zeros(29, np.uint8)))
    (folder / "pictures" / "a").mkdir(parents=True)
    (folder / "pictures" / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "nothing").mkdir()


def with_model(name: str) -> list[str]:
    return ["compress", name, "--data", "data.npz", "--max-drop", "5"]


def with_data(name: str) -> list[str]:
    return ["compress", "small.onnx", "--data", name, "--max-drop", "5"]


def with_options(*words: str) -> list[str]:
    return ["compress", "small.onnx", "--data", "data.npz", *words]


CASES: list[tuple[list[str], int, str]] = [
    (with_model("nan.onnx"), 4, r"layer 'first': .* finite .*1 NaN"),
    (with_model("inf.onnx"), 4, r"layer 'first': .* finite "),
    (with_model("bare.onnx"), 4, "at least one layer"),
    (with_model("unknown.onnx"), 4, "Frob"),
    (with_model("cut.onnx"), 1, r"'cut\.onnx'.*truncated"),
    (with_model("pickle.onnx"), 1, "Received a pickle"),
    (with_model("pickle.bin"), 1, "never unpickles"),
    (with_model("nowhere.onnx"), 2, "nowhere"),
    (["inspect", "pickle.attar"], 1, "header"),
    *((["expand", f"{name}.attar", "-o", "out"], 1, "Received") for name in ("cut", "short", "head", "none")),
    (["expand", "flip.attar", "-o", "out"], 1, "checksum|Received"),
    (["expand", "flipped-head.attar", "-o", "out"], 1, "header"),
    (["eval", "flip.attar", "--data", "data.npz"], 1, "checksum|Received"),
    (with_data("wide.npz"), 2, r"\[n, 6\].*\[n, 12\]"),
    (with_data("words.npz"), 2, r"'x' must hold numbers.*<U"),
    (with_data("objects.npz"), 1, "Python objects"),
    (with_data("complex.npz"), 2, "complex128"),
    (with_data("dates.npz"), 2, "datetime64"),
    (with_data("nan.npz"), 2, "1 of 1500"),
    (with_data("empty.npz"), 2, "must not be empty"),
    (with_data("ten.npz"), 2, "at least 20.*Received 10"),
    (with_data("uneven.npz"), 2, "one length.*3000.*2999"),
    (with_data("one-class.npz"), 2, "two classes"),
    (with_data("named.npz"), 2, "Number the classes"),
    (with_data("far.npz"), 2, "from 0 to 2.*Received 3"),
    (with_data("negative.npz"), 2, "Received -1"),
    (with_data("halves.npz"), 2, "labels: .*float64|labels: .*integers|labels: .*whole"),
    (with_data("pairs.npz"), 2, r"labels: .*, 2\)"),
    (with_data("cut.npz"), 1, "whole .npz"),
    (with_data("pickle.npz"), 1, "whole .npz"),
    (with_data("bomb.npz"), 1, "whole .npz"),
    (with_data("lying.idx.gz"), 1, "Received a file of"),
    (with_data("pair"), 2, "one label for each of 30"),
    (with_data("pictures"), 1, r"broken\.png.*whole image"),
    (with_data("nothing"), 2, "Received neither"),
    (with_data("nowhere:function"), 2, "no module 'nowhere'"),
    (with_options("--certify", "data.npz", "--max-drop", "5"), 2, r"must not share.*100 %"),
    (with_options("--max-drop", "-1"), 2, r"max_drop.*zero or more.*-1"),
    (with_options("--max-drop", "nan"), 2, "max_drop"),
    (with_options("--max-relative-drop", "lots"), 2, "max-relative-drop.*'lots'"),
    (with_options("--max-drop", "5", "--jobs", "0"), 2, "jobs"),
    (with_options("--max-drop", "5", "--recipe", "small.onnx"), 2, "TOML"),
    (with_options("--max-drop", "5", "--factory", "nowhere:function"), 2, "factory: .*nowhere"),
    (["report", "small.onnx", "-o", "out.html"], 1, "JSON"),
]


PROCESSES = ("cut.onnx", "pickle.bin", "flip.attar", "complex.npz", "cut.npz", "pictures", "--jobs")
"""Cases that are typed in a process of their own too, in which whatever a library says is seen."""


@pytest.mark.parametrize(("words", "code", "said"), CASES, ids=lambda v: " ".join(v[:4]) if isinstance(v, list) else "")
def test_bad_input_is_one_clear_line(place: Path, words: list[str], code: int, said: str) -> None:
    _is_one_clear_line(attar, place, words, code, said)


def test_it_is_in_a_process_of_its_own(place: Path) -> None:
    chosen = [next(case for case in CASES if name in case[0]) for name in PROCESSES]
    for words, code, said in chosen:
        _is_one_clear_line(process, place, words, code, said)


def _is_one_clear_line(attar: Callable, place: Path, words: list[str], code: int, said: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    where = ["-o", "out"] if words[0] == "compress" else []
    done = attar(place, *words, *where)
    assert done.returncode == code, done.stderr
    assert not done.stdout and "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    if not line.startswith("╰"):  # the frame of an option's own error
        assert line.startswith("attar: ") and "Received" in line, done.stderr
        assert re.search(said, line), line
    else:
        assert re.search(said, done.stderr), done.stderr
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()} == before
    assert not (place / "executed").exists() and not (place / "out").exists()


@pytest.mark.parametrize(
    ("name", "inputs", "labels"),
    [
        ("float64 and int8", np.float64, lambda y: y.astype(np.int8)),
        ("float16 and uint64", np.float16, lambda y: y.astype(np.uint64)),
        ("one column", np.float32, lambda y: y[:, None]),
        ("one-hot", np.float32, lambda y: np.eye(3, dtype=np.uint8)[y]),
        ("one-hot floats", np.float32, lambda y: np.eye(3, dtype=np.float32)[y]),
    ],
)
def test_data_in_other_clothes_are_taken(place: Path, tmp_path: Path, name: str, inputs, labels) -> None:
    data = np.load(place / "data.npz")
    np.savez(tmp_path / "d.npz", x=data["x"].astype(inputs), y=labels(data["y"]))
    done = attar(tmp_path, "compress", str(place / "small.onnx"), "--data", "d.npz", "--max-drop", "5")
    assert done.returncode in (0, 3), done.stderr
    assert re.search(r"accuracy (100\.00|99\.9\d) -> 9", done.stdout), done.stdout


def test_a_folder_is_no_model(place: Path) -> None:
    (place / "folder.pt").mkdir()
    bad = attar(place, "inspect", "folder.pt")
    assert bad.returncode == 4 and "a folder must hold a config.json" in bad.stderr


def test_checkpoints_of_jax_are_told_how_they_go_in(place: Path) -> None:
    (place / "orbax").mkdir()
    (place / "orbax" / "_METADATA").touch()
    bad = attar(place, "inspect", "orbax")
    assert bad.returncode == 4 and "Received one of JAX (orbax). Write" in bad.stderr


def test_json_has_no_infinities() -> None:
    from attar.stdout import json_line

    assert json.loads(json_line({"upper": float("inf"), "n": np.int64(3)})) == {"upper": None, "n": 3}
