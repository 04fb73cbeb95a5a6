"""The latency goal end to end: what is written, what is proven, and what is said where it cannot be."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from latency_net import WIDE, written
from typer.testing import CliRunner

import attar
from attar import beginning, cli, registry
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.errors import ModelError, UsageError
from attar.exports.onnx.runtime import Runtime
from attar.latency import stage
from attar.latency.table import CostTable
from attar.plan.latency import INT8, Work
from attar.recipe import make, milliseconds
from attar.report import render
from attar.run.ledger import Ledger
from attar.run.progress import Silent
from attar.types import Dataset
from fakes import trained

DROP = 4
"""Points: 2,000 examples certify no finer ones."""


def costs(work: Work) -> float:
    """Milliseconds by multiply-adds, integers twice as fast: what a fixed table says."""
    return float(np.prod(work.weight)) * 1e-6 * (0.5 if work.format == INT8 else 1.0)


@pytest.fixture(autouse=True)
def table(monkeypatch, tmp_path) -> None:
    """No measuring, and no file of the user's."""
    monkeypatch.setattr(stage, "table_of", lambda threads: CostTable(costs, {}, None))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> tuple[Path, dict[str, Dataset]]:
    """The model's file, and its sets."""
    return written(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def model(place) -> Path:
    return place[0]


@pytest.fixture(scope="module")
def sets(place) -> dict[str, Dataset]:
    return place[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("latency")


@pytest.fixture(scope="module")
def result(model, sets, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "table_of", lambda threads: CostTable(costs, {}, None))
        return attar.compress(model, **sets, goal="latency", max_drop=DROP, out=folder)


def test_the_artefact_is_fast_smaller_and_certified_in_its_runtime(result, sets, folder) -> None:
    assert result.within and result.certified and result.fast.certificate.verdict == "certified"
    written = (folder / "net.fast.onnx").read_bytes()
    record = json.loads((folder / "net.fast.onnx.json").read_text())
    assert written == result.fast.data and record["sha256"] == hashlib.sha256(written).hexdigest()
    assert "onnxruntime" in record["runtime"] and record["in_time"] and record["certificate"]["n"] == 2000
    assert result.fast.latency.ratio < 1 and record["removed"] > 0
    shapes = {tensor.name: tensor.dims for tensor in onnx.load_from_string(written).graph.initializer}
    assert max(dim for dims in shapes.values() for dim in dims[:1]) < WIDE  # channels are gone for good
    labels = np.asarray(sets["certify"].labels)
    said = Runtime(folder / "net.fast.onnx").run(dict(sets["certify"].inputs)).argmax(1)
    assert 100 * (said == labels).mean() == pytest.approx(result.fast.certificate.after)


def test_the_file_is_the_same_model_and_has_a_certificate_of_its_own(model, result, sets, folder) -> None:
    assert attar.evaluate(folder / "net.attar", sets["certify"]).value == pytest.approx(result.certificate.after)
    assert attar.evaluate(folder / "net.onnx", sets["certify"]).value == pytest.approx(result.certificate.after)
    assert result.bytes_after < result.bytes_before / 4
    ours = {layer.shape for layer in result.adapter.layers()}
    assert ours != {layer.shape for layer in OnnxAdapter.open(model).layers()}


def test_the_ledger_and_the_report_say_what_each_measure_earned(result, folder) -> None:
    events = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    last, plan = events[-1], next(event for event in events if event["event"] == "plan")
    assert [stage["milliseconds"] for stage in plan["stages"]] == sorted(
        (stage["milliseconds"] for stage in plan["stages"]), reverse=True
    )
    what = [row["what"] for row in last["fast"]["earned"]]
    assert what[0] == "as it came" and "channels removed" in what and what[-1] == "what was written"
    assert last["fast"]["predicted_milliseconds"] > 0 and any(row["best"] for row in last["frontier"])
    judged = [event for event in events if event["event"] == "candidate" and event["split"] == "certify"]
    assert [event["index"] for event in judged][:1] == ["float"]
    times = [event["milliseconds"] for event in judged]
    assert times == sorted(times, reverse=True)  # safest first, each faster
    page = render(events)
    for text in (
        "How fast",
        "net.fast.onnx",
        "What each measure earned",
        "channels removed",
        "The plan predicted",
    ):
        assert text in page
    assert "--goal latency" in last["reproduce"]["command"]


def test_the_certify_split_is_looked_at_once_by_each_candidate(result) -> None:
    seen = [event["index"] for event in result.events if event["event"] == "candidate" and event["split"] == "certify"]
    assert len(seen) == len(set(seen))
    first = next(i for i, e in enumerate(result.events) if e["event"] == "candidate" and e["split"] == "certify")
    assert all(e["split"] == "certify" for e in result.events[first:] if e["event"] == "candidate")


def test_never_slower_than_plain_integers_that_passed(result) -> None:
    rows = {row["candidate"]: row["milliseconds"] for row in result.events[-1]["frontier"]}
    assert result.fast.milliseconds <= min(rows["float"], rows.get("0", np.inf))


def test_the_same_costs_give_the_same_plan_and_the_same_file(model, sets, result) -> None:
    job = beginning.job_of(model, None, None, {**sets, "goal": "latency", "max_drop": DROP})
    race = stage.prepared_race(job, Ledger(), Silent(), costs)
    plan = next(event for event in result.events if event["event"] == "plan")["stages"]
    assert [dict(one.left) for one in race.stages] == [one["left"] for one in plan] and len(plan) > 3
    assert [one.distortion for one in race.stages] == [one["distortion"] for one in plan]
    rows = {row["candidate"]: row["bytes"] for row in result.events[-1]["frontier"]}
    last = max((name for name in rows if name.isdecimal()), key=int)
    assert len(race.candidate(float(last)).archive) == rows[last]
    if last == result.fast.record["candidate"]:
        assert race.candidate(float(last)).archive == result.data


@pytest.fixture(scope="module")
def run(place, tmp_path_factory):
    """The command on the model and a file of its examples."""
    model, sets = place
    data = tmp_path_factory.mktemp("data") / "data.npz"
    parts = list(sets.values())
    np.savez(data, x=np.concatenate([p.inputs["x"] for p in parts]), y=np.concatenate([p.labels for p in parts]))
    words = ["compress", str(model), "--data", str(data), "--max-drop", str(DROP)]
    return lambda *more: CliRunner().invoke(cli.app, [*words, *more])


@pytest.mark.parametrize(("words", "said"), [
    (["--goal", "latency", "--latency-budget", "-3"], "its unit: us, ms or s, such as 3ms"),
    (["--goal", "latency", "--latency-budget", "3 parsecs"], "Received '3 parsecs'"),
    (["--goal", "latency", "--latency-budget", "0ms"], "a time above zero"),
    (["--latency-budget", "3ms"], "add --goal latency"),
    (["--goal", "speed"], "must be size, latency, or latency,size"),
    (["--goal", "latency,latency"], "must be size, latency, or latency,size"),
    (["--goal", "latency", "--remove", "0.5"], "the plan chooses what goes"),
    (["--goal", "latency", "--exclude", "fc*"], "the plan chooses what goes"),
    (["--goal", "latency", "--methods", "uniform"], "stores 8-bit codes"),
    (["--goal", "latency", "--scale-moves", "equalise"], "Leave them out"),
    (["--goal", "latency", "--threads", "0"], "--threads"),
    (["--goal", "latency", "--batch", "many"], "--batch"),
])  # fmt: skip
def test_what_cannot_be_is_said_before_any_work(run, words, said, tmp_path) -> None:
    done = run(*words, "-o", str(tmp_path / "out"))
    assert done.exit_code == 2 and not (tmp_path / "out").exists()
    assert said in " ".join(done.output.split())


def test_other_frameworks_are_told_what_to_do(monkeypatch) -> None:
    monkeypatch.setitem(registry.REGISTRY["adapter"], "numpy", "fakes:NumpyNet")
    net, data = trained()
    with pytest.raises(ModelError, match="it is made of an ONNX model"):
        attar.compress(net, data, goal="latency", max_drop=DROP)


def test_files_in_the_way_are_found_before_any_work(model, tmp_path, sets) -> None:
    (tmp_path / "net.fast.onnx").write_bytes(b"mine")
    with pytest.raises(attar.errors.OutputError, match=r"net\.fast\.onnx"):
        attar.compress(model, **sets, goal="latency", max_drop=DROP, out=tmp_path)
    assert (tmp_path / "net.fast.onnx").read_bytes() == b"mine"


def test_an_impossible_time_is_missed_loudly_and_the_fastest_is_written(run, tmp_path) -> None:
    done = run("--goal", "latency", "--latency-budget", "0.001us", "-o", str(tmp_path))
    assert done.exit_code == 3, done.output
    assert "MISSED" in done.output and "1e-06 ms were asked for" in done.output
    record = json.loads((tmp_path / "net.fast.onnx.json").read_text())
    assert not record["in_time"] and record["certificate"]["verdict"] == "certified"
    assert "was missed" in (tmp_path / "report.html").read_text()


def test_a_generous_time_takes_nothing_away(model, sets) -> None:
    result = attar.compress(model, **sets, goal="latency", latency_budget="1s", max_drop=DROP)
    assert result.within and result.certificate.drop == 0 and not result.fast.record["channels"]
    seen = [e["index"] for e in result.events if e["event"] == "candidate" and e["split"] == "certify"]
    assert seen == ["float"]


def test_a_time_between_takes_as_little_as_fits(model, sets, result) -> None:
    plain = result.events[-1]["frontier"]
    whole = max(row["milliseconds"] for row in plain)  # int8 with all channels is none where float is faster
    budget = 0.5 * (whole + result.fast.milliseconds)
    found = attar.compress(model, **sets, goal="latency", latency_budget=f"{budget:.6f}ms", max_drop=DROP)
    if found.within:  # times are measured anew: a busy machine may have moved them beyond the budget
        assert found.fast.milliseconds <= budget
        fitting = [e["share"] for e in found.events if e["event"] == "made" and e["milliseconds"] <= budget]
        searched = any(e["event"] == "landed" for e in found.events)  # as without a budget: none was found to fit
        assert searched or found.fast.record["removed"] <= min(fitting) + 1e-9
    else:
        assert not found.fast.in_time


def test_both_goals_and_training_in_one(model, sets, result) -> None:
    """The file is smaller too; what removal took is trained back, and coded coarser for the other half of the drop."""
    settings = {"recovery": {"epochs": 1, "candidates": 1}}
    both = attar.compress(
        model, **sets, train=sets["calibrate"], goal="size,latency", max_drop=DROP, settings=settings
    )  # fmt: skip
    assert both.recipe.goal == "latency,size" and both.within
    assert any(event["event"] == "made" and event["trained"] for event in both.events)
    rows = both.events[-1]["frontier"]
    assert any("smaller" in row["candidate"] for row in rows) and all(row["bytes"] > 0 for row in rows)
    plain = [row["bytes"] for row in rows if "smaller" not in row["candidate"] and row["candidate"] != "float"]
    assert min(row["bytes"] for row in rows if "smaller" in row["candidate"]) < min(plain)
    assert both.fast.latency.ratio < 1 and both.bytes_after < both.bytes_before / 4


def test_times_are_read_with_their_units() -> None:
    assert [milliseconds(text) for text in ("3ms", " 0.5 ms", "800us", "2s", ".25ms", "1.ms")] == [
        3.0, 0.5, 0.8, 2000.0, 0.25, 1.0,
    ]  # fmt: skip
    for text in ("", "3", "ms", "-3ms", "3 parsecs", "1e3ms", "nan ms", "0s", "٣ms", "9" * 400 + "s"):
        with pytest.raises(ValueError, match="a time above zero"):
            milliseconds(text)
    with pytest.raises(UsageError, match="latency_budget"):
        make(max_drop=1, goal="latency", latency_budget="soon")
