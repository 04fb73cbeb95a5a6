"""The command line as a user meets it: six closing lines, exit codes, help, and errors without tracebacks."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from commands import PROCESS, attar
from test_faults import small_model

ROOT = Path(__file__).resolve().parent.parent
LENET = ROOT / "examples" / "models" / "lenet300.onnx"
FASHION = ROOT / "examples" / "fashion-mnist"


def process(*words: object) -> subprocess.CompletedProcess[str]:
    """A process of its own, as a user starts it; what most tests here type runs in their own."""
    command = [sys.executable, "-m", "attar.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = tmp_path_factory.mktemp("cli") / "out"
    return process("compress", LENET, "--data", FASHION, "--metric", "accuracy", "--max-drop", 0.5, "-o", out), out


def test_compress_ends_with_six_lines(run) -> None:
    done, out = run
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["before", "after", "ratio", "metric", "drop", "report"]
    size = (out / "lenet300.attar").stat().st_size
    assert f"{LENET.stat().st_size:,} bytes" in lines[0] and f"{size:,} bytes" in lines[1]
    assert "certified" in lines[4] and lines[5].endswith("report.html")
    assert LENET.stat().st_size / size > 26, "the certified target of the project"
    assert sorted(p.name for p in out.iterdir() if p.is_file()) == [
        "ledger.jsonl", "lenet300.attar", "lenet300.onnx", "recipe.toml", "report.html",
    ]  # fmt: skip
    assert "Traceback" not in done.stderr and "original on select" in done.stderr


def test_the_plain_file_answers_like_the_archive(run, tmp_path: Path) -> None:
    _, out = run
    plain = attar("eval", out / "lenet300.onnx", "--data", FASHION, "--json")
    archive = attar("eval", out / "lenet300.attar", "--data", FASHION, "--json")
    assert json.loads(plain.stdout) == json.loads(archive.stdout)
    closing = json.loads((out / "ledger.jsonl").read_text().splitlines()[-1])
    assert json.loads(plain.stdout)["value"] == pytest.approx(closing["after"])
    expanded = attar("expand", out / "lenet300.attar", "-o", tmp_path)
    assert (
        expanded.returncode == 0 and (tmp_path / "lenet300.onnx").read_bytes() == (out / "lenet300.onnx").read_bytes()
    )


def test_the_recipe_makes_the_same_bytes(run, tmp_path: Path) -> None:
    _, out = run
    again = process("compress", "--recipe", out / "recipe.toml", "-o", tmp_path, "--json")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "lenet300.attar").read_bytes() == (out / "lenet300.attar").read_bytes()
    assert json.loads(again.stdout)["within"] is True


def test_inspect_lists_layers(run) -> None:
    _, out = run
    rows = json.loads(attar("inspect", out / "lenet300.attar", "--json").stdout)
    assert len(rows) == 3 and 0.3 < rows[0]["bits_per_weight"] < 2 and 0.4 < rows[0]["zeros"] < 1
    text = attar("inspect", out / "lenet300.attar").stdout
    assert "bits/weight" in text and rows[0]["name"] in text
    assert "float32" in attar("inspect", LENET).stdout


def test_report_from_the_ledger(run, tmp_path: Path) -> None:
    _, out = run
    done = attar("report", out / "ledger.jsonl", "-o", tmp_path / "again.html")
    assert done.returncode == 0 and (tmp_path / "again.html").read_text() == (out / "report.html").read_text()


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = attar("compress", LENET, "--data", FASHION, "--max-drop", 0.5, "-o", tmp_path / "o", "--dry-run")
    assert done.returncode == 0 and "certify 10,000" in done.stdout and not (tmp_path / "o").exists()


def test_doctor() -> None:
    facts = json.loads(attar("doctor", "--json").stdout)
    assert facts["formats"]["ONNX (.onnx)"]["ready"] and facts["coder"]
    assert "ready" in attar("doctor").stdout


def test_help_is_quick_and_free_of_frameworks() -> None:
    heavy = "{'torch', 'tensorflow', 'keras', 'onnx', 'onnxruntime', 'jax', 'scipy', 'pydantic', 'numpy'}"
    code = f"import sys, attar.cli; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    times = []
    for _ in range(5):
        started = os.times()
        subprocess.run([sys.executable, "-m", "attar.cli", "--help"], check=True, capture_output=True)
        ended = os.times()
        times.append(ended.children_user + ended.children_system - started.children_user - started.children_system)
    assert min(times) < 0.5, times


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["compress", "missing.onnx", "--data", "d.npz", "--max-drop", 1], 2, "missing.onnx"),
        (["compress", LENET, "--data", FASHION, "--max-drop", -1], 2, "zero or more"),
        (["compress", LENET, "--data", FASHION, "--max-drop", 1, "--metric", "beauty"], 2, "beauty"),
        (["compress", LENET, "--data", FASHION], 2, "drop"),
        (["compress", LENET, "--data", "empty", "--max-drop", 1], 2, "empty"),
        (["compress", "pickle.onnx", "--data", FASHION, "--max-drop", 1], 1, "pickle"),
        (["compress", "pickle.bin", "--data", FASHION, "--max-drop", 1], 1, "pickle"),
        (["compress", "notes.txt", "--data", FASHION, "--max-drop", 1], 4, "notes.txt"),
        (["compress", LENET, "--data", "small.npz", "--max-drop", 1], 2, "shape|28"),
        (["expand", "cut.attar"], 1, "cut|archive|header"),
        (["inspect", "flipped.attar"], 1, ""),
        (["report", "missing.jsonl"], 2, "missing.jsonl"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_mistakes_end_in_one_clear_line(run, tmp_path: Path, words, code, text) -> None:
    import re

    whole = (run[1] / "lenet300.attar").read_bytes()
    (tmp_path / "cut.attar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.attar").write_bytes(whole[:-50] + bytes([whole[-50] ^ 4]) + whole[-49:])
    for name in ("pickle.onnx", "pickle.bin"):
        (tmp_path / name).write_bytes(pickle.dumps({"a": np.ones(3)}))
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "small.npz", x=np.zeros((50, 3), np.float32), y=np.arange(50) % 2)
    done = attar(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert re.search(text, done.stderr) and "Traceback" not in done.stderr
    assert not done.stdout


def test_budget_not_met_is_exit_code_3(tmp_path: Path) -> None:
    x, _ = small_model(tmp_path / "small.onnx")
    np.savez(tmp_path / "few.npz", x=x[:400], y=np.arange(400) % 3)
    words = ["--data", tmp_path / "few.npz", "--max-drop", 0.1, "-o", tmp_path / "out"]
    done = attar("compress", tmp_path / "small.onnx", *words)
    assert done.returncode == 3, done.stderr
    assert "not certif" in done.stdout and (tmp_path / "out" / "small.attar").exists()


def test_ctrl_c_hands_back_the_best_so_far(tmp_path: Path) -> None:
    import signal

    command = [*PROCESS, "compress", LENET, "--data", FASHION, "--max-drop", "0.5"]
    process = subprocess.Popen(
        [*map(str, command), "-o", str(tmp_path / "out")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "encoding" in line:
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out.startswith("before") and (tmp_path / "out" / "lenet300.attar").exists()


def test_version_and_python_m() -> None:
    from attar import __version__

    command = [sys.executable, "-m", "attar", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"attar {__version__}\n"


def test_eval_scales_as_compress_does(tmp_path: Path) -> None:
    """The same pictures as floats from 0 to 255 need the factor that bytes get unasked."""
    from attar.data.read import read

    test = read(FASHION)["test"].take(range(500))
    np.savez(tmp_path / "bytes.npz", x=test.inputs["x"], y=test.labels)
    np.savez(tmp_path / "floats.npz", x=test.inputs["x"].astype(np.float32), y=test.labels)
    unasked = attar("eval", LENET, "--data", tmp_path / "bytes.npz", "--json")
    asked = attar("eval", LENET, "--data", tmp_path / "floats.npz", "--scale", 1 / 255, "--json")
    assert asked.stdout == unasked.stdout and json.loads(asked.stdout)["value"] > 80
    assert attar("eval", LENET, "--data", tmp_path / "floats.npz", "--json").stdout != unasked.stdout


def test_an_archive_without_a_graph_takes_a_factory(tmp_path: Path) -> None:
    """A module that torch cannot export: the file holds weights alone, and the function says what they are for."""
    import torch

    (tmp_path / "nets.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.one, self.two = torch.nn.Linear(6, 32), torch.nn.Linear(32, 3)\n"
        "    def forward(self, x):\n"
        "        h = torch.relu(self.one(x))\n"
        "        return self.two(h if float(h.sum()) > -1 else -h)\n"
    )
    made: dict = {}
    exec((tmp_path / "nets.py").read_text(), made)
    torch.manual_seed(0)
    torch.save(made["Net"]().state_dict(), tmp_path / "net.pt")
    rng = np.random.default_rng(0)
    state = torch.load(tmp_path / "net.pt", weights_only=True)
    x = rng.normal(size=(2000, 6)).astype(np.float32)
    hidden = np.maximum(x @ state["one.weight"].numpy().T + state["one.bias"].numpy(), 0)
    np.savez(tmp_path / "d.npz", x=x, y=(hidden @ state["two.weight"].numpy().T + state["two.bias"].numpy()).argmax(1))
    factory = ("--factory", "nets:Net")
    done = attar("compress", "net.pt", *factory, "--data", "d.npz", "--max-drop", 5, cwd=tmp_path)
    assert done.returncode in (0, 3), done.stderr
    bare = attar("expand", "out/net.attar", "-o", "plain", cwd=tmp_path)
    assert bare.returncode == 4 and "without the model's graph" in bare.stderr
    assert attar("expand", "out/net.attar", "-o", "plain", *factory, cwd=tmp_path).returncode == 0
    scores = [
        json.loads(attar("eval", model, "--data", "d.npz", *factory, "--json", cwd=tmp_path).stdout)["value"]
        for model in ("out/net.attar", "out/net.pt")
    ]
    assert scores[0] == scores[1] > 90
