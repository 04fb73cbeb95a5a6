"""One set of weights through three adapters: the same plan, and files of one size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from commands import ROUGH

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = """
import json, os, sys
sys.path.insert(0, "examples")
from pathlib import Path
from attar import pipeline, reading, recipe
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.evaluate.budget import Budget
from attar.evaluate.metrics import resolve_metric
from attar.opening import open_model
from attar.job import Job
from attar.run.ledger import Ledger
from attar.run.progress import Silent
from attar.search.course import FIRST_KL

import torch
from attar.archive import read_archive
from attar.search import sensitivity
from keras_models import from_torch_state
from torch_models import MODELS

name, most = sys.argv[1], int(sys.argv[2])
sensitivity.MOST = most
state = torch.load(f"examples/models/{name}.pt", weights_only=True)
module = MODELS[name]()
module.load_state_dict(state)
models = {
    "onnx": Path(f"examples/models/{name}.onnx"), "torch": module,
    "keras": from_torch_state(name, {k: v.numpy() for k, v in state.items()}),
}
plan = recipe.make(max_drop=0.5, calibration_examples=1000, select_examples=500)
found = {}
for framework, model in models.items():
    adapter = open_model(model)
    splits = reading.read_splits(
        {"data": "examples/fashion-mnist", "calibrate": None, "select": None, "certify": None}, plan, adapter,
        resolve_metric("accuracy"),
    )
    job = Job(plan, adapter, splits, resolve_metric("accuracy"), Budget(0.5), 1, name)
    loop = pipeline.loop_of(job, Ledger(), Silent())
    candidate = loop.candidate(2.0 ** -23)
    archive = read_archive(candidate.data)
    layers = [s.nbytes for s in archive.sections if s.kind == "layer"]
    choices = [p.choice["method"] for p in candidate.plan.choices.values()]
    found[framework] = {"layers": layers, "choices": choices, "total": len(candidate.data)}
print(json.dumps(found))
"""


def compressed(name: str) -> dict[str, dict]:
    """Through each adapter, in a process of its own: Keras takes one backend per process."""
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    command = [sys.executable, "-c", SCRIPT, name, str(ROUGH)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["lenet300", pytest.param("dwcnn", marks=pytest.mark.slow)])
def test_same_plan_and_size(name: str) -> None:
    onnx, torch, keras = compressed(name).values()
    assert onnx["choices"] == torch["choices"] == keras["choices"]
    for other in (torch, keras):
        np.testing.assert_allclose(sum(other["layers"]), sum(onnx["layers"]), rtol=0.01)
        # What is left is the graph without its weights, which each framework writes in its own way.
        assert abs(other["total"] - onnx["total"]) <= max(0.01 * onnx["total"], 400)
