"""`attar bench`: ratios to the first model, on data or noise; bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import attar
from adapters.onnx_models import model, node, random
from attar import cli
from attar.errors import ModelError, UsageError

ROOT = Path(__file__).parents[2]
MODELS, FASHION = ROOT / "examples/models", ROOT / "examples/fashion-mnist"


def test_models_are_timed_beside_each_other():
    found = attar.bench([MODELS / "lenet5.onnx", MODELS / "lenet300.onnx"], FASHION, batches=[1, 8], metric="accuracy")
    assert found[0].latency[1].ratio == 1
    assert found[1].latency[8].ratio < 1 and found[0].value == pytest.approx(91.76)
    assert found[1].nbytes == (MODELS / "lenet300.onnx").stat().st_size


def test_noise_will_do_where_there_are_no_data(tmp_path):
    import onnx

    nodes = [node("Gather", "table x", "e"), node("MatMul", "e w", "y")]
    proto = model(nodes, {"table": random(10, 8), "w": random(8, 3)}, [5], kind=onnx.TensorProto.INT64)
    onnx.save(proto, tmp_path / "ids.onnx")
    found = attar.bench([tmp_path / "ids.onnx"], batches=[2])
    assert found[0].latency[2].milliseconds > 0 and found[0].value is None


def test_the_command_prints_a_table():
    run = CliRunner().invoke(
        cli.app, ["bench", str(MODELS / "lenet5.onnx"), str(MODELS / "dwcnn.onnx"), "--batch", "1"]
    )
    lines = run.stdout.splitlines()
    assert run.exit_code == 0 and len(lines) == 3 and "1.00 (1.00 to 1.00)" in lines[1]
    run = CliRunner().invoke(cli.app, ["bench", str(MODELS / "lenet5.onnx"), "--batch", "1", "--json"])
    assert json.loads(run.stdout)[0]["latency"]["1"]["ratio"] == 1


def test_bad_input_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no model")
    (tmp_path / "x.txt").write_bytes(b"")
    lenet = MODELS / "lenet5.onnx"
    for models, options, error in (
        ([], {}, UsageError), ([lenet, lenet], {}, UsageError), ([lenet], {"batches": [0]}, UsageError),
        ([lenet], {"metric": "accuracy"}, UsageError), ([tmp_path / "none.onnx"], {}, UsageError),
        ([tmp_path / "x.onnx"], {}, ModelError), ([tmp_path / "x.txt"], {}, ModelError),
    ):  # fmt: skip
        with pytest.raises(error, match=r"Received"):
            attar.bench(models, **options)
    run = CliRunner().invoke(cli.app, ["bench", str(lenet), "--batch", "one"])
    assert run.exit_code == 2 and "Write it as 1,32" in run.output
