"""Every law of the adapters' kit on a model of every kind of operator."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto

from adapters.onnx_models import MODELS
from attar.adapters.onnx.adapter import OnnxAdapter
from kits.adapter_laws import LAWS, Case


def run(source, batch):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    name, fixed = session.get_inputs()[0].name, session.get_inputs()[0].shape[0]
    x = next(iter(batch.values()))
    size = fixed if isinstance(fixed, int) else len(x)
    pieces = []
    for start in range(0, len(x), size):
        rows = np.minimum(np.arange(start, start + size), len(x) - 1)
        pieces.append(session.run(None, {name: x[rows]})[0])
    return np.concatenate(pieces)[: len(x)]


def run_original(model, batch):
    return run(model.SerializeToString(), batch)


def run_saved(path, batch):
    return run(str(path), batch)


def batches(model, sizes=(5, 3)):
    value = model.graph.input[0]
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    rng = np.random.default_rng(1)
    kind = value.type.tensor_type.elem_type
    made = []
    for n in sizes:
        x = rng.integers(0, 11, (n, *dims)) if kind == TensorProto.INT64 else rng.normal(size=(n, *dims))
        dtype = {TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64, TensorProto.INT64: np.int64}
        made.append({value.name: x.astype(dtype.get(kind, np.float32))})
    return made


def case(name: str) -> Case:
    make = MODELS[name]
    sizes = (3, 3) if name in ("lstm_initial", "gru") else (5, 3)
    # onnxruntime multiplies dequantised weights with activations that it rounds to 8 bits.
    tolerance = {"half": 5e-3, "fake_quantised": 2e-2}.get(name, 1e-5)
    return Case(OnnxAdapter, make, batches(make(), sizes), run_original, run_saved, tolerance, exact=name != "double")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", MODELS)
def test_law(name, law):
    law(case(name))
