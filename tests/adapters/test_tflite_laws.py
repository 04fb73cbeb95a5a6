"""Every law of the adapters' kit on a TFLite model of every kind of operator."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from adapters.tflite_models import MODELS, sizes
from attar.adapters.tflite.adapter import TfliteAdapter
from kits.adapter_laws import LAWS, Case


def run(model, batch):
    """Example by example in a fresh interpreter, whose states are zeros."""
    found = []
    for row in next(iter(batch.values())):
        one = Interpreter(model_content=model)
        one.allocate_tensors()
        one.set_tensor(one.get_input_details()[0]["index"], row[None])
        one.invoke()
        found.append(one.get_tensor(one.get_output_details()[0]["index"]))
    return np.concatenate(found)


def batches(model, counts=(5, 3)):
    shape, dtype = sizes(model)
    rng = np.random.default_rng(1)
    whole = np.dtype(dtype).kind == "i"
    return [
        {"x": (rng.integers(0, 11, (n, *shape)) if whole else rng.normal(size=(n, *shape))).astype(dtype)}
        for n in counts
    ]


def case(name: str) -> Case:
    make = MODELS[name]
    tolerance = 1e-3 if name == "half" else 1e-5
    return Case(TfliteAdapter, make, batches(make()), run, lambda path, batch: run(path.read_bytes(), batch), tolerance)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", MODELS)
def test_law(name, law):
    law(case(name))
