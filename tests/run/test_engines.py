"""Tasks in threads, processes and on a Ray cluster: the same results in the same order, whatever is lost on the way."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import attar
from attar import cli
from attar.errors import AttarError, UsageError
from attar.run.engines import Threads, engine_of
from attar.run.processes import Processes
from attar.types import Stats

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    engine = Processes(2)
    yield engine
    engine.close()


def total(values: np.ndarray, number: int) -> tuple[int, float]:
    return number, float(values.sum()) + number


def stats_total(stats: Stats, number: int) -> float:
    return float(stats.hessian.sum()) + float(stats.mean.sum()) + number


def changed(values: np.ndarray) -> None:
    values[0] = 1


def refused(number: int) -> int:
    if number == 2:
        raise UsageError("layer 'two': it must not be.")
    return number


def fall(number: int, place: str) -> int:
    """Take the process down, once."""
    mark = Path(place) / str(number)
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def blas_threads() -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


@pytest.mark.parametrize("name", ["threads", "processes"])
def test_results_come_in_order_and_shared_arrays_whole(name: str, processes: Processes) -> None:
    engine = processes if name == "processes" else Threads(2)
    values = np.arange(100_000.0)
    shared = engine.share(values)
    assert engine.share(values) is shared, "shared once"
    found = list(engine.map(total, [(shared, number) for number in range(9)]))
    assert found == [total(values, number) for number in range(9)]


def test_values_of_several_arrays_are_shared(processes: Processes) -> None:
    stats = Stats(np.full((1, 3, 3), 2.0), np.zeros((0, 3)), 5, 5)
    assert list(processes.map(stats_total, [(processes.share(stats), 1)])) == [19.0]
    empty = np.zeros((0, 4))
    assert list(processes.map(total, [(processes.share(empty), 7)])) == [(7, 7.0)]


def test_shared_arrays_are_read_only_elsewhere(processes: Processes) -> None:
    with pytest.raises(ValueError, match="read-only"):
        list(processes.map(changed, [(processes.share(np.zeros(3)),)]))


@pytest.mark.parametrize("name", ["threads", "processes"])
def test_the_first_error_is_raised_as_it_is(name: str, processes: Processes) -> None:
    engine = processes if name == "processes" else Threads(2)
    results = engine.map(refused, [(1,), (2,), (3,)])
    assert next(results) == 1
    with pytest.raises(UsageError, match="layer 'two'"):
        next(results)


def test_a_lost_process_is_replaced(processes: Processes, tmp_path: Path) -> None:
    assert list(processes.map(fall, [(n, str(tmp_path)) for n in range(6)])) == [n * n for n in range(6)]
    assert (tmp_path / "3").exists()


def test_a_process_may_be_lost_while_tasks_are_sent(processes: Processes, monkeypatch) -> None:
    send, sent = ProcessPoolExecutor.submit, []

    def submit(pool, *args):
        sent.append(pool)
        if len(sent) == 2:
            raise BrokenProcessPool
        return send(pool, *args)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    assert list(processes.map(abs, [(-n,) for n in range(3)])) == [0, 1, 2]
    assert len(set(map(id, sent))) == 2, "the rest went to a new pool"


def test_blas_has_one_thread_and_the_environment_is_as_before(processes: Processes, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert list(processes.map(blas_threads, [()])) == ["1"]
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_files_go_when_the_run_ends() -> None:
    engine = Processes(1)
    shared = engine.share(np.ones(10))
    place = Path(shared.path)
    assert place.exists()
    engine.close()
    assert not place.exists() and not place.parent.exists()


@pytest.mark.slow
def test_processes_that_always_die_are_an_error() -> None:
    engine = Processes(1)
    with pytest.raises(AttarError, match="fewer --jobs"):
        list(engine.map(die, [(1,)]))
    engine.close()


@pytest.mark.parametrize(("text", "jobs", "said"), [("fast", None, "threads, processes, ray"), ("threads", 0, "jobs")])
def test_engines_that_cannot_be(text: str, jobs: int | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        engine_of(text, jobs)


def test_the_command_names_the_engines() -> None:
    model, data = str(ROOT / "examples/models/lenet300.onnx"), str(ROOT / "examples/fashion-mnist")
    found = CliRunner().invoke(cli.app, ["compress", model, "--data", data, "--max-drop", "1", "--engine", "fast"])
    assert found.exit_code == 2 and "threads, processes, ray" in " ".join(found.output.split())


def test_a_run_in_processes_has_the_bytes_of_one_in_threads(tmp_path: Path) -> None:
    model, data = ROOT / "examples/models/lenet300.onnx", ROOT / "examples/fashion-mnist"
    options = {"max_drop": 2, "evaluations": 2, "calibration_examples": 200, "select_examples": 500}
    one = attar.compress(model, data, jobs=1, **options)
    two = attar.compress(model, data, engine="processes", jobs=2, work=tmp_path, **options)
    assert one.data == two.data
    again = attar.compress(model, data, engine="threads", work=tmp_path, **options)
    assert again.data == one.data, "what processes have made is kept like anything else"
