"""The latency goal end to end: what is written, what is proven, and what is said where it cannot be."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

import attar
from attar import api, cli, registry
from attar.adapters.onnx import OnnxAdapter
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.errors import ModelError, UsageError
from attar.exports.onnx_runtime import Runtime
from attar.latency import stage
from attar.latency.table import CostTable
from attar.plan.latency import INT8, Work
from attar.recipe import make, milliseconds
from attar.report import render
from attar.run.ledger import Ledger
from attar.run.progress import Silent
from attar.types import Dataset
from fakes import trained

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "examples/models/lenet300.onnx"


def costs(work: Work) -> float:
    """Milliseconds by multiply-adds, integers twice as fast: what a fixed table says."""
    return float(np.prod(work.weight)) * 1e-6 * (0.5 if work.format == INT8 else 1.0)


@pytest.fixture(autouse=True)
def table(monkeypatch, tmp_path) -> None:
    """No measuring, and no file of the user's."""
    monkeypatch.setattr(stage, "table_of", lambda threads: CostTable(costs, {}, None))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def sets() -> dict[str, Dataset]:
    specs = registry.get("adapter", "onnx").open(MODEL).inputs()
    parts = read(ROOT / "examples/fashion-mnist")
    fresh, test = (fit_inputs(parts[name], specs) for name in ("train", "test"))
    return {
        "calibrate": fresh.take(range(1000)),
        "select": fresh.take(range(5000, 8000)),
        "certify": test.take(range(4000)),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("latency")


@pytest.fixture(scope="module")
def result(sets, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "table_of", lambda threads: CostTable(costs, {}, None))
        return attar.compress(MODEL, **sets, goal="latency", max_drop=2, out=folder)


def test_the_artefact_is_fast_smaller_and_certified_in_its_runtime(result, sets, folder) -> None:
    assert result.within and result.certified and result.fast.certificate.verdict == "certified"
    written = (folder / "lenet300.fast.onnx").read_bytes()
    record = json.loads((folder / "lenet300.fast.onnx.json").read_text())
    assert written == result.fast.data and record["sha256"] == hashlib.sha256(written).hexdigest()
    assert "onnxruntime" in record["runtime"] and record["in_time"] and record["certificate"]["n"] == 4000
    assert result.fast.latency.ratio < 1 and record["removed"] > 0
    shapes = {tensor.name: tensor.dims for tensor in onnx.load_from_string(written).graph.initializer}
    assert max(dim for dims in shapes.values() for dim in dims[:1]) < 300  # channels are gone for good
    labels = np.asarray(sets["certify"].labels)
    said = Runtime(folder / "lenet300.fast.onnx").run(dict(sets["certify"].inputs)).argmax(1)
    assert 100 * (said == labels).mean() == pytest.approx(result.fast.certificate.after)


def test_the_file_is_the_same_model_and_has_a_certificate_of_its_own(result, sets, folder) -> None:
    assert attar.evaluate(folder / "lenet300.attar", sets["certify"]).value == pytest.approx(result.certificate.after)
    assert attar.evaluate(folder / "lenet300.onnx", sets["certify"]).value == pytest.approx(result.certificate.after)
    assert result.bytes_after < result.bytes_before / 4
    ours = {layer.shape for layer in result.adapter.layers()}
    assert ours != {layer.shape for layer in OnnxAdapter.open(MODEL).layers()}


def test_the_ledger_and_the_report_say_what_each_measure_earned(result, folder) -> None:
    events = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    last, plan = events[-1], next(event for event in events if event["event"] == "plan")
    assert [stage["milliseconds"] for stage in plan["stages"]] == sorted(
        (stage["milliseconds"] for stage in plan["stages"]), reverse=True
    )
    what = [row["what"] for row in last["fast"]["earned"]]
    assert what[0] == "as it came" and "channels removed" in what and what[-1].startswith("int8, channels")
    assert last["fast"]["predicted_milliseconds"] > 0 and any(row["best"] for row in last["frontier"])
    judged = [event for event in events if event["event"] == "candidate" and event["split"] == "certify"]
    assert [event["index"] for event in judged][:1] == ["float"]
    times = [event["milliseconds"] for event in judged]
    assert times == sorted(times, reverse=True)  # safest first, each faster
    page = render(events)
    for text in (
        "How fast",
        "lenet300.fast.onnx",
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


def test_the_same_costs_give_the_same_plan_and_the_same_file(sets) -> None:
    job = api._job(MODEL, None, None, {**sets, "goal": "latency", "max_drop": 2}, 1)
    races = [stage.prepared_race(job, Ledger(), Silent(), costs) for _ in range(2)]
    assert races[0].stages == races[1].stages and len(races[0].stages) > 3
    middle = float(len(races[0].stages) // 2)
    assert races[0].candidate(middle).archive == races[1].candidate(middle).archive


def run(*words: str):
    data = str(ROOT / "examples/fashion-mnist")
    return CliRunner().invoke(cli.app, ["compress", str(MODEL), "--data", data, "--max-drop", "2", *words])


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
def test_what_cannot_be_is_said_before_any_work(words, said, tmp_path) -> None:
    done = run(*words, "-o", str(tmp_path / "out"))
    assert done.exit_code == 2 and not (tmp_path / "out").exists()
    assert said in " ".join(done.output.split())


def test_other_frameworks_are_told_what_to_do(monkeypatch) -> None:
    monkeypatch.setitem(registry.REGISTRY["adapter"], "numpy", "fakes:NumpyNet")
    net, data = trained()
    with pytest.raises(ModelError, match="it is made of an ONNX model"):
        attar.compress(net, data, goal="latency", max_drop=2)


def test_files_in_the_way_are_found_before_any_work(tmp_path, sets) -> None:
    (tmp_path / "lenet300.fast.onnx").write_bytes(b"mine")
    with pytest.raises(attar.errors.OutputError, match=r"lenet300\.fast\.onnx"):
        attar.compress(MODEL, **sets, goal="latency", max_drop=2, out=tmp_path)
    assert (tmp_path / "lenet300.fast.onnx").read_bytes() == b"mine"


def test_an_impossible_time_is_missed_loudly_and_the_fastest_is_written(tmp_path) -> None:
    done = run("--goal", "latency", "--latency-budget", "0.001us", "-o", str(tmp_path))
    assert done.exit_code == 3, done.output
    assert "MISSED" in done.output and "1e-06 ms were asked for" in done.output
    record = json.loads((tmp_path / "lenet300.fast.onnx.json").read_text())
    assert not record["in_time"] and record["certificate"]["verdict"] == "certified"
    assert "was missed" in (tmp_path / "report.html").read_text()


def test_a_generous_time_takes_nothing_away(sets) -> None:
    result = attar.compress(MODEL, **sets, goal="latency", latency_budget="1s", max_drop=2)
    assert result.within and result.certificate.drop == 0 and not result.fast.record["channels"]
    seen = [e["index"] for e in result.events if e["event"] == "candidate" and e["split"] == "certify"]
    assert seen == ["float"]


def test_a_time_between_takes_as_little_as_fits(sets, result) -> None:
    plain = result.events[-1]["frontier"]
    whole = next(row for row in plain if row["candidate"] == "0")["milliseconds"]
    budget = 0.5 * (whole + result.fast.milliseconds)
    found = attar.compress(MODEL, **sets, goal="latency", latency_budget=f"{budget:.6f}ms", max_drop=2)
    if found.within:  # times are measured anew: a busy machine may have moved them beyond the budget
        assert found.fast.milliseconds <= budget
        assert found.fast.record["removed"] <= result.fast.record["removed"] + 1e-9
    else:
        assert not found.fast.in_time


def test_both_goals_make_the_file_smaller_too(sets, result) -> None:
    both = attar.compress(MODEL, **sets, goal="size,latency", max_drop=2)
    assert both.recipe.goal == "latency,size" and both.within
    assert both.bytes_after < result.bytes_after
    rows = both.events[-1]["frontier"]
    assert any("smaller" in row["candidate"] for row in rows) and all(row["bytes"] > 0 for row in rows)
    assert both.fast.latency.ratio < 1


def test_training_brings_back_what_removal_takes(sets) -> None:
    train = sets["calibrate"]
    settings = {"recovery": {"epochs": 1, "candidates": 1}}
    result = attar.compress(MODEL, **sets, train=train, goal="latency", max_drop=3, settings=settings)
    assert any(event["event"] == "made" and event["trained"] for event in result.events)
    assert result.fast.latency.ratio < 1


def test_times_are_read_with_their_units() -> None:
    assert [milliseconds(text) for text in ("3ms", " 0.5 ms", "800us", "2s", ".25ms", "1.ms")] == [
        3.0, 0.5, 0.8, 2000.0, 0.25, 1.0,
    ]  # fmt: skip
    for text in ("", "3", "ms", "-3ms", "3 parsecs", "1e3ms", "nan ms", "0s", "٣ms", "9" * 400 + "s"):
        with pytest.raises(ValueError, match="a time above zero"):
            milliseconds(text)
    with pytest.raises(UsageError, match="latency_budget"):
        make(max_drop=1, goal="latency", latency_budget="soon")
