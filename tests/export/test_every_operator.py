"""Every export format over every kind of operator: an artefact that runs, or a clear refusal; never anything else."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.onnx_models import MODELS
from attar import registry
from attar.adapters.onnx import OnnxAdapter
from attar.errors import ModelError
from attar.exports.base import Task
from attar.types import Dataset


def examples(adapter: OnnxAdapter) -> Dataset:
    """40 examples of the model's inputs: noise, or small ids."""
    rng = np.random.default_rng(0)
    found = {}
    for spec in adapter.inputs():
        shape, dtype = (40, *(size or 5 for size in spec.shape[1:])), np.dtype(spec.dtype)
        noise = rng.normal(size=shape) if dtype.kind == "f" else rng.integers(0, 3, shape)
        found[spec.name] = noise.astype(dtype)
    return Dataset(found)


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("to", list(registry.names("export")))
def test_an_artefact_or_a_refusal(to, name):
    adapter = OnnxAdapter.open(MODELS[name]())
    data = examples(adapter)
    exporter = registry.get("export", to)
    try:
        exporter.check(adapter)
        made = exporter.make(Task(adapter, data, False, lambda _: True, dict(data.take([0]).inputs)))
    except ModelError as refused:
        assert to in str(refused) or "Received" in str(refused)
        return
    batch = next(data.batches(16))
    wanted, got = adapter.run(batch), exporter.runtime(made.data, 1).run(batch)
    scale = np.abs(wanted).mean() + 0.1 * wanted.std() + 1e-6
    assert got.shape == wanted.shape and np.abs(got - wanted).mean() < (0.5 if to == "onnx-int4" else 0.15) * scale
