"""What goes wrong around a run: kills, signals, full disks, two runs in one folder, streams that nobody reads."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from attar import outputs
from attar.data.read import read
from attar.ending import interrupts
from attar.errors import OutputError
from commands import PROCESS

HERE = Path(__file__).parent
LENET = HERE.parent / "examples" / "models" / "lenet300.onnx"
FASHION = HERE.parent / "examples" / "fashion-mnist"


def small_model(path: Path, inputs: int = 6, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A two-layer ONNX classifier, and the examples that it gets right."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(inputs, 32)).astype("f4"), rng.normal(size=(32, classes)).astype("f4")
    nodes = [("MatMul", ["x", "first"], ["a"]), ("Relu", ["a"], ["b"]), ("MatMul", ["b", "second"], ["y"])]
    graph = helper.make_graph(
        [helper.make_node(*node) for node in nodes],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    x = rng.normal(size=(3000, inputs)).astype("f4")
    return x, (np.maximum(x @ first, 0) @ second).argmax(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    x, y = small_model(folder / "small.onnx")
    np.savez(folder / "data.npz", x=x, y=y)
    return folder


def small(out: object, *more: object) -> list[str]:
    words = ["compress", "small.onnx", "--data", "data.npz", "--max-drop", 4, "-o", out, *more]
    return [*PROCESS, *map(str, words)]


def run(command: list[str], cwd: Path, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, text=True, timeout=120, **{"capture_output": True, **more})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6,000 images."""
    path, part = tmp_path_factory.mktemp("images") / "images.npz", read(FASHION)["train"].take(range(6000))
    np.savez(path, x=next(iter(part.inputs.values())), y=part.labels)
    return path


def on_lenet(images: Path, out: Path, *more: object) -> list[str]:
    return [*PROCESS, *map(str, ("compress", LENET, "--data", images, "--max-drop", 2, "-o", out, *more))]


def started(images: Path, out: Path, word: str, *more: str) -> subprocess.Popen[str]:
    """A run on LeNet-300 that has come to a stage."""
    command = on_lenet(images, out, *more)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any(word in line for line in process.stderr)
    return process


@pytest.mark.parametrize("word", ["statistics", "on certify"])
def test_killed_at_any_stage_the_previous_output_stands(place: Path, images: Path, tmp_path: Path, word: str) -> None:
    for name in ("lenet300.attar", "lenet300.onnx", "report.html", "recipe.toml", "ledger.jsonl"):
        (tmp_path / name).write_text(f"the previous {name}")
    before = contents(tmp_path)
    process = started(images, tmp_path, word, "--force")
    process.kill()
    process.communicate()
    assert contents(tmp_path) == before
    assert list(tmp_path.glob(".attar-run-*")), "the run had begun"
    assert run(small(tmp_path, "--force"), place).returncode == 0
    assert not list(tmp_path.glob(".attar-run-*"))


def test_asked_to_end_it_writes_the_best_so_far(images: Path, tmp_path: Path) -> None:
    """As a scheduler asks, some seconds before it kills."""
    process = started(images, tmp_path / "out", "encoding")
    process.terminate()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out.startswith("before") and (tmp_path / "out" / "lenet300.attar").exists()
    candidates = [line for line in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines() if "candidate" in line]
    assert len(candidates) < 6


def test_what_ends_a_run_and_what_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with interrupts() as asked:
            assert not asked()
            os.kill(os.getpid(), number)
            assert asked() and "best so far" in capsys.readouterr().err
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with interrupts() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupt_that_a_library_makes_into_an_error_stays_one() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ImportError("a module written in C failed to load") from error


def test_asked_twice_it_stops_and_changes_nothing(images: Path, tmp_path: Path) -> None:
    (tmp_path / "lenet300.attar").write_text("mine")
    process = started(images, tmp_path, "statistics", "--force")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert any("best so far" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and not out
    assert "nothing that was there" in err and "Traceback" not in err
    assert sorted(contents(tmp_path)) == ["lenet300.attar"]


def test_a_second_run_in_one_folder_is_refused_at_once(images: Path, tmp_path: Path) -> None:
    process = started(images, tmp_path / "out", "sensitivities")
    process.send_signal(signal.SIGSTOP)  # it does not end before the second has begun
    second = run(on_lenet(images, tmp_path / "out"), tmp_path)
    assert second.returncode == 1 and "another run is at work" in second.stderr
    process.kill()
    process.communicate()


def test_files_that_appeared_during_a_run_are_kept(tmp_path: Path) -> None:
    outputs.check_free(tmp_path, ["a.attar"], False)
    with outputs.staged(tmp_path) as stage:
        (stage / "a.attar").write_text("second")
        (tmp_path / "a.attar").write_text("first")
        with pytest.raises(OutputError, match=r"holds a\.attar"):
            outputs.publish(stage, tmp_path, force=False)
        assert (tmp_path / "a.attar").read_text() == "first"
        outputs.publish(stage, tmp_path, force=True)
    assert contents(tmp_path) == {"a.attar": b"second"}
    assert not list(tmp_path.glob(".attar-*"))


def test_what_a_living_run_has_staged_is_not_swept(tmp_path: Path) -> None:
    with outputs.staged(tmp_path) as one, outputs.staged(tmp_path) as two:
        assert one.exists() and two.exists()
        (one / "a.attar").write_text("1")
        with pytest.raises(OutputError, match="another run"):
            outputs.check_free(tmp_path, ["a.attar"], False)
        outputs.check_free(tmp_path, ["b.attar"], False)
    (tmp_path / f"{outputs.PREFIX}{os.getpid()}-left").mkdir()  # a dead run's, whatever lives under its number now
    with outputs.staged(tmp_path):
        assert len(list(tmp_path.glob(outputs.PREFIX + "*"))) == 1


def test_a_folder_in_the_way_is_said_before_the_work(place: Path, tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    (tmp_path / "small.attar").write_text("mine")
    done = run(small(tmp_path, "--force"), place)
    assert done.returncode == 1 and "report.html" in done.stderr and "statistics" not in done.stderr
    assert contents(tmp_path) == {"small.attar": b"mine"}


@pytest.mark.parametrize("limit", [1 << 10, 4 << 10, 20 << 10])
def test_files_cut_off_by_the_system_change_nothing(place: Path, tmp_path: Path, limit: int) -> None:
    """A limit on the size of files stops the ledger, the archive or the report, as a full disk would."""
    (tmp_path / "small.attar").write_text("mine")
    done = run(
        small(tmp_path, "--force"), place, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    assert done.returncode == 1 and "File too large" in done.stderr, done.stderr
    assert outputs.PREFIX not in done.stderr and "Traceback" not in done.stderr
    assert contents(tmp_path) == {"small.attar": b"mine"}


def test_a_failed_run_leaves_no_empty_folders(place: Path, tmp_path: Path) -> None:
    x = np.load(place / "data.npz")["x"]
    np.savez(tmp_path / "far.npz", x=x, y=np.arange(len(x)) % 7)
    command = small(tmp_path / "new" / "er")
    command[command.index("data.npz")] = str(tmp_path / "far.npz")
    done = run(command, place)
    assert done.returncode == 2 and "labels" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["far.npz"]
    assert run(small(tmp_path / "new" / "er"), place).returncode == 0
    assert len(contents(tmp_path / "new" / "er")) == 5


@pytest.mark.parametrize("out", ["data.npz", "data.npz/below", "/proc/attar"])
def test_places_that_cannot_be_written(place: Path, out: str) -> None:
    done = run(small(out), place)
    assert done.returncode == 1 and "attar: output" in done.stderr and "Received" in done.stderr
    assert "statistics" not in done.stderr, "it is known before the work"


def test_nobody_reads_the_progress(place: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(small(tmp_path / "a"), place, stdout=subprocess.PIPE, stderr=full, capture_output=False)
        assert done.returncode == 0 and len(done.stdout.splitlines()) == 6
        bad = run(small(tmp_path / "a"), place, stdout=subprocess.PIPE, stderr=full, capture_output=False)
        assert bad.returncode == 1
    closed = run(["sh", "-c", f'exec "$@" 2>&-', "sh", *small(tmp_path / "b")], place)  # noqa: F541
    assert closed.returncode == 0 and len(closed.stdout.splitlines()) == 6
    assert len(contents(tmp_path / "b")) == 5


def test_nobody_takes_the_results(place: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(small(tmp_path / "a"), place, stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 1 and "attar: stdout" in done.stderr and "Traceback" not in done.stderr
    assert len(contents(tmp_path / "a")) == 5
    piped = run(["sh", "-c", '"$@" | head -1', "sh", sys.executable, "-m", "attar", "inspect", "small.onnx"], place)
    assert piped.stdout.startswith(" layer") and not piped.stderr


def test_names_in_a_file_do_not_reach_the_terminal(place: Path, tmp_path: Path) -> None:
    """A stranger's layer may be called anything: colours, titles, carriage returns, rich's markup."""
    import onnx

    model = onnx.load(str(place / "small.onnx"))
    odd = "block[0]/[/red]\x1b[31m\r\x07\n" + "long" * 60
    for node in model.graph.node:
        node.input[:] = [odd if name == "first" else name for name in node.input]
    model.graph.initializer[0].name = odd
    onnx.save(model, str(tmp_path / "small.onnx"))
    shown = run([sys.executable, "-m", "attar", "inspect", "small.onnx"], tmp_path).stdout
    assert not {"\x1b", "\r", "\x07"} & set(shown)
    assert "block[0]/[/red]\\x1b[31m\\r\\x07\\n" + "long" * 60 in shown and len(shown.splitlines()) == 4


@pytest.mark.parametrize("variables", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"HOME": ""}])
def test_odd_places_and_locales(place: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    out = tmp_path / "a folder" / "жасмин 漢"
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "LANG")} | variables
    done = run(small(out), place, env=environment, encoding="utf-8", errors="replace")
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "ledger.jsonl").read_text("utf-8").splitlines()[-1])["event"] == "result"
    assert (
        run([sys.executable, "-m", "attar", "inspect", str(out / "small.attar")], place, env=environment).returncode
        == 0
    )


def test_a_strangers_folder_is_no_place_for_modules(place: Path, tmp_path: Path) -> None:
    """Modules that lie beside a model are imported only where the user names one of their functions."""
    for name in ("onnx", "onnxruntime", "rich"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('executed')")
    attar = str(Path(sys.executable).parent / "attar")
    done = run([attar, *small(tmp_path / "out")[len(PROCESS) :], "--dry-run"], place)
    assert done.returncode == 0
    model, data = place / "small.onnx", place / "data.npz"
    there = run([attar, "eval", str(model), "--data", str(data)], tmp_path)
    assert there.returncode == 0 and "executed" not in there.stderr
    (tmp_path / "mine.py").write_text(f"import numpy as np\ndef batches():\n    yield dict(np.load({str(data)!r}))\n")
    named = run([attar, "eval", str(model), "--data", "mine:batches"], tmp_path)
    assert named.stdout == there.stdout and named.returncode == 0, named.stderr


def test_progress_on_a_terminal(place: Path, tmp_path: Path) -> None:
    """A bar with the remaining time for each stage, on stderr alone, gone at the end."""
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        small(tmp_path), cwd=place, stdout=subprocess.PIPE, stderr=follower, env={**os.environ, "TERM": "xterm"}
    )
    os.close(follower)
    seen = b""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        try:
            seen += os.read(leader, 1 << 16)
        except OSError:  # the other side has closed
            break
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0 and len(out.decode().splitlines()) == 6
    text = seen.decode(errors="replace")
    assert "statistics" in text and "encoding" in text and "0:00:00" in text
    assert text.rstrip().endswith(("\x1b[2K", "\x1b[?25h")), "the bar is wiped and the cursor shown"
