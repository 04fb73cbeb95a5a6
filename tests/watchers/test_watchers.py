"""A ledger told to MLflow, TensorBoard and Weights & Biases: read back by their own readers, with no network."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

import attar
from attar import cli, registry
from attar.errors import FormatError, UsageError
from attar.watchers import base, log, watch
from fakes import trained
from report import ledgers


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run's folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in ledgers.explored()), "utf-8")
    (folder / "report.html").write_text("<!doctype html>")
    return folder


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be reached but this machine itself."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX or str(address[0]) in ("127.0.0.1", "::1", "localhost"), address
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setenv("WANDB_MODE", "offline")


def mlflow_run(folder: Path) -> tuple[Any, Any]:
    """The only run in a file store, and its client."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(folder.resolve().as_uri())
    experiment = client.get_experiment_by_name("attar")
    (found,) = client.search_runs([experiment.experiment_id])
    return found, client


def test_mlflow_gets_parameters_metrics_and_files(run: Path, tmp_path: Path) -> None:
    assert log(run, "mlflow", tmp_path / "mlruns") == 8
    found, client = mlflow_run(tmp_path / "mlruns")
    assert found.info.status == "FINISHED" and found.info.run_name == "lenet5.onnx"
    assert found.data.params["recipe.budget.max_drop"] == "0.5" and found.data.params["metric.name"] == "accuracy"
    sizes = client.get_metric_history(found.info.run_id, "select/bytes")
    assert [(one.step, one.value) for one in sizes] == [
        (1, 118340), (2, 47210), (3, 71502), (4, 56933), (5, 52120), (6, 54076),
    ]  # fmt: skip
    assert found.data.metrics["certify/kl"] == 0.0149 and found.data.metrics["certificate/upper"] == 0.3841
    names = {file.path for file in client.list_artifacts(found.info.run_id)}
    assert names == {"ledger.jsonl", "report.html", "certificate.json"}
    kept = json.loads(Path(client.download_artifacts(found.info.run_id, "certificate.json")).read_text())
    assert kept["verdict"] == "certified"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true" and os.environ["DO_NOT_TRACK"] == "true"


def test_mlflow_is_told_that_a_run_was_broken_off(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text("".join(json.dumps(event) + "\n" for event in ledgers.interrupted()) + '{"event": "cand', "utf-8")
    assert log(ledger, "mlflow", tmp_path / "mlruns") == 3
    found, client = mlflow_run(tmp_path / "mlruns")
    assert found.info.status == "KILLED" and found.data.tags["finished"] == "false"
    assert {file.path for file in client.list_artifacts(found.info.run_id)} == {"ledger.jsonl"}


def scalars(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """TensorBoard's own reader, without TensorFlow, which it would load for reading a local file."""
    if "tensorflow" not in sys.modules:
        monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (place,) = folder.iterdir()
    return EventAccumulator(str(place)).Reload(), place


def test_tensorboard_gets_scalars_the_recipe_and_files(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = CliRunner().invoke(cli.app, ["log", str(run), "--to", "tensorboard", "--dest", str(tmp_path / "tb")])
    assert done.exit_code == 0 and done.stdout.startswith("tensorboard: 8 candidates of ")
    read, place = scalars(tmp_path / "tb", monkeypatch)
    assert [(one.step, one.value) for one in read.Scalars("certify/bytes")] == [(7, 56933), (8, 54076)]
    assert read.Scalars("certificate/certified")[0].value == 1
    recipe = read.Tensors("recipe")[0].tensor_proto.string_val[0].decode()
    assert "| recipe.seed | 0 |" in recipe
    assert read.Tensors("state")[0].tensor_proto.string_val == [b"finished"]
    assert {"report.html", "ledger.jsonl", "certificate.json"} <= {path.name for path in place.iterdir()}


def wandb_records(folder: Path) -> list[Any]:
    """The records of an offline run: LevelDB's log format behind a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    data, at, part, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        part, at = part + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):
            found.append(wandb_internal_pb2.Record.FromString(part))
            part = b""
    return found


def test_wandb_gets_config_history_and_artifacts_offline(run: Path, tmp_path: Path) -> None:
    """In a process of its own: wandb's writes what is left when it ends."""
    words = [sys.executable, "-m", "attar", "log", str(run), "--to", "wandb", "--dest", str(tmp_path / "wb")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("wandb: 8 candidates of ")
    records = wandb_records(tmp_path / "wb")
    started = next(one.run for one in records if one.HasField("run"))
    config = {item.key: json.loads(item.value_json) for item in started.config.update if item.key != "_wandb"}
    assert started.project == "attar" and config["recipe.budget.max_drop"] == "0.5"
    rows = [
        {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in one.history.item}
        for one in records
        if one.HasField("history")
    ]
    assert [row["certify/bytes"] for row in rows if "certify/bytes" in row] == [56933, 54076]
    assert rows[-1]["certificate/certified"] == 1
    names = {one.artifact.name for one in records if one.HasField("artifact")}
    assert names == {"ledger-jsonl", "report-html", "certificate-json"}
    assert next(one.exit.exit_code for one in records if one.HasField("exit")) == 0
    assert not list((tmp_path / "wb").glob("wandb/run-*")), "nothing but an offline run"


@pytest.mark.usefixtures("numpy_adapter")
def test_a_run_is_watched_while_it_goes_on(tmp_path: Path) -> None:
    net, data = trained()
    with watch("mlflow", tmp_path / "mlruns") as told:
        result = attar.compress(net, data, max_drop=3, on_event=told)
        assert mlflow_run(tmp_path / "mlruns")[0].info.status == "RUNNING"
    found, client = mlflow_run(tmp_path / "mlruns")
    tried = [event for event in result.events if event["event"] == "candidate"]
    seen = [
        one for split in ("select", "certify") for one in client.get_metric_history(found.info.run_id, f"{split}/bytes")
    ]
    assert sorted(one.value for one in seen) == sorted(event["bytes"] for event in tried)
    assert found.data.metrics["result/bytes_after"] == result.bytes_after and found.info.status == "FINISHED"


class Recorder:
    """A tool that keeps what it gets."""

    made: list[Recorder]

    def __init__(self, title: str, params: Any, dest: Path | None) -> None:
        self.title, self.params, self.values, self.ended = title, params, [], []  # type: ignore[var-annotated]
        Recorder.made.append(self)

    def metrics(self, values: Any, step: int, when: float) -> None:
        self.values.append((values, step, when))

    def file(self, path: Path) -> None:
        self.values.append((path.name, -1, 0.0))

    def close(self, finished: bool) -> None:
        self.ended.append(finished)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Recorder]]:
    """Another tool is one file and one line."""
    Recorder.made = []
    monkeypatch.setitem(registry.REGISTRY["watcher"], "recorder", f"{__name__}:Recorder")
    yield Recorder.made


def test_events_that_are_odd_are_no_reason_to_fail(recorder: list[Recorder]) -> None:
    with watch("recorder") as told:
        told({"event": "candidate", "bytes": 3})
        assert not recorder
        told(
            {"event": "run", "model": "/private/place/net.onnx", "recipe": {"a": {"b": [1, 2]}, "c": None}, "time": "x"}
        )
        told({"event": "candidate", "split": "select", "bytes": 5, "drop": None, "kl": True, "time": 12.5})
        told({"event": "sparkle"})
        told({"event": "result"})
    (made,) = recorder
    assert made.title == "net.onnx" and made.params["recipe.a.b"] == "1, 2" and "recipe.c" not in made.params
    assert made.values[0] == ({"select/bytes": 5.0}, 0, 12.5)
    assert made.values[1][0] == {"certificate/certified": 0.0} and made.ended == [True]


def test_an_error_closes_the_run_as_broken_off(recorder: list[Recorder]) -> None:
    with pytest.raises(RuntimeError), watch("recorder") as told:
        told({"event": "run", "model": "m"})
        raise RuntimeError
    assert recorder[0].ended == [False]


def test_unknown_tools_missing_packages_and_other_files_are_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="Use one of mlflow, tensorboard, wandb"):
        log(run, "excel")
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "attar.watchers.wandb", raising=False)
    with pytest.raises(UsageError, match="pip install wandb"):
        base.watch("wandb")
    (tmp_path / "other.jsonl").write_text("{}\n")
    with pytest.raises(FormatError, match="must tell of a run"):
        log(tmp_path / "other.jsonl", "mlflow", tmp_path / "mlruns")
    assert not (tmp_path / "mlruns").exists()
    done = CliRunner().invoke(cli.app, ["log", str(run), "--to", "excel"])
    assert done.exit_code == 2


def test_nothing_of_the_tools_is_imported_with_attar() -> None:
    code = "import sys, attar.cli, attar.watchers; print({'mlflow', 'wandb', 'tensorboard'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
