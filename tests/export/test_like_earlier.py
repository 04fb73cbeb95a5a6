"""`--like`: choices for speed come from an earlier record, so that the bytes repeat; other files are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

import attar
from adapters.onnx_models import model, node, random
from attar import cli
from attar.errors import FormatError, UsageError
from attar.exports import int8_floats
from attar.exports.earlier import DECIDED, earlier
from attar.exports.onnx import int4 as onnx_int4
from attar.exports.onnx import int8 as onnx_int8
from attar.exports.tflite import int8 as tflite_int8
from attar.exports.tflite import int8_weights as tflite_int8_weights
from attar.exports.tflite.int8_weights import HYBRID, WIDENED
from attar.exports.timing import Latency
from attar.exports.torch import int8 as torch_int8

ROOT = Path(__file__).parents[2]


def net() -> onnx.ModelProto:
    nodes = [
        node("Conv", "x w1 b1", "a", pads=[1, 1, 1, 1]), node("Relu", "a", "b"),
        node("GlobalAveragePool", "b", "c"), node("Flatten", "c", "d"), node("Gemm", "d w2", "e"),
        node("Relu", "e", "f"), node("MatMul", "f w3", "y"),
    ]  # fmt: skip
    weights = {"w1": random(16, 3, 3, 3), "b1": random(16), "w2": random(16, 64), "w3": random(64, 10)}
    return model(nodes, weights, [3, 8, 8])


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A model, and data for it."""
    folder = tmp_path_factory.mktemp("given")
    onnx.save(net(), str(folder / "net.onnx"))
    x = np.random.default_rng(0).normal(size=(600, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "data.npz", x=x)
    return folder / "net.onnx", folder / "data.npz"


def timed(monkeypatch, fastest: str) -> None:
    """Every clock says that one choice, and another than the first, is the fastest."""

    def told(calls):
        slow = {"dynamic": 1.5}  # of the other route's time
        return {name: Latency(1.0, 0.3 if name == fastest else slow.get(name, 0.6), 0, 0, 1) for name in calls}

    for place in (onnx_int4, onnx_int8, int8_floats):
        monkeypatch.setattr(place, "latencies", told)


@pytest.mark.parametrize(("to", "one", "other"), [
    ("onnx-int8", "the first layer", "operators without weights"), ("onnx-int8", "dynamic", "nothing"),
    ("onnx-int4", "dynamic", "blocks"),
])  # fmt: skip
def test_bytes_repeat_whatever_the_clock_says(tmp_path, monkeypatch, given, to, one, other):
    options = {"metric": "cosine", "max_drop": 0.3}
    timed(monkeypatch, one)
    first = attar.export(given[0], to, given[1], out=tmp_path / "a", **options)
    timed(monkeypatch, other)
    differing = attar.export(given[0], to, given[1], out=tmp_path / "b", **options)
    same = attar.export(given[0], to, given[1], out=tmp_path / "c", like=f"{first.path}.json", **options)
    assert same.sha256 == first.sha256
    assert differing.sha256 != first.sha256
    assert {name: same.facts.get(name) for name in DECIDED} == {name: first.facts.get(name) for name in DECIDED}


@pytest.mark.parametrize(("to", "one", "other"), [
    ("pt2-int8", "the first layer", "nothing"),
    pytest.param("tflite-int8", "the first layer", "operators without weights", marks=pytest.mark.slow),
    pytest.param("tflite-int8-weights", HYBRID, WIDENED, marks=pytest.mark.slow),
])  # fmt: skip
def test_other_runtimes_repeat_too(tmp_path, monkeypatch, to, one, other):
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3), torch.nn.Flatten(), torch.nn.Linear(128, 6)
    ).eval()  # fmt: skip
    built = net if to.startswith("pt2") else ROOT / "examples/models/dwcnn.keras"
    shape = (3, 8, 8) if to.startswith("pt2") else (28, 28, 1)
    x = np.random.default_rng(0).normal(size=(300, *shape)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    options = {"metric": "cosine", "max_drop": 0.9}
    found = []
    for place, wins, like in (("a", one, None), ("b", other, None), ("c", other, "a")):
        for module in (torch_int8, tflite_int8, tflite_int8_weights):
            monkeypatch.setattr(module, "latencies", lambda calls, wins=wins: {
                name: Latency(1.0, 0.3 if name == wins else 0.6, 0, 0, 1) for name in calls})  # fmt: skip
        record = None if like is None else f"{found[0].path}.json"
        found.append(attar.export(built, to, tmp_path / "data.npz", out=tmp_path / place, like=record, **options))
    first, differing, same = found
    assert same.facts.get("float_for_speed") == first.facts.get("float_for_speed")
    assert same.facts.get("weights") == first.facts.get("weights")
    assert differing.bytes_after != first.bytes_after and same.bytes_after == first.bytes_after
    assert same.sha256 == first.sha256


def test_the_command_takes_it(tmp_path, given):
    line = ["export", str(given[0]), "--to", "onnx-int8", "--data", str(given[1]), "--metric", "cosine", "--max-drop",
            "0.3", "-o"]  # fmt: skip
    runs = [CliRunner().invoke(cli.app, [*line, str(tmp_path / "a")])]
    record = tmp_path / "a" / "net.int8.onnx.json"
    runs.append(CliRunner().invoke(cli.app, [*line, str(tmp_path / "b"), "--like", str(record)]))
    assert all(run.exit_code in (0, 3) for run in runs), runs[1].output
    assert json.loads((tmp_path / "b" / record.name).read_text())["sha256"] == json.loads(record.read_text())["sha256"]
    wrong = CliRunner().invoke(cli.app, [*line, str(tmp_path / "c"), "--like", str(given[0])])
    assert wrong.exit_code == 1 and "JSON file of an export" in wrong.output and "Traceback" not in wrong.output


@pytest.mark.parametrize(("text", "kind", "match"), [
    ("", FormatError, "no JSON"), ("[" * 100_000, FormatError, "no JSON"), ("[1]", UsageError, "list"),
    ('{"format": "onnx-int4"}', UsageError, "of the format onnx-int8"),
    ('{"format": "onnx-int8", "route": 3}', FormatError, "'route' must be a str"),
    ('{"format": "onnx-int8", "float_for_speed": [{}]}', FormatError, "a list of names"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, text, kind, match):
    place = tmp_path / "record.json"
    place.write_text(text)
    with pytest.raises(kind, match=match):
        earlier(place, "onnx-int8")
    with pytest.raises(UsageError, match="must be a file"):
        earlier(tmp_path / "none.json", "onnx-int8")


def test_names_that_the_model_lacks_are_passed_over(tmp_path, monkeypatch, given):
    timed(monkeypatch, "nothing")
    record = {"format": "onnx-int8", "route": "static", "float_for_speed": ["gone"], "integer_operators": ["Conv", "X"]}
    (tmp_path / "record.json").write_text(json.dumps(record))
    found = attar.export(
        given[0], "onnx-int8", given[1], out=tmp_path, metric="cosine", max_drop=0.3, like=tmp_path / "record.json"
    )
    assert found.facts["float_for_speed"] == [] and found.facts["integer_operators"] == ["Conv"]
