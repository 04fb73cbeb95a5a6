"""Keras models as TFLite files, whatever backend Keras runs on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

SCRIPT = """
import json, sys
import keras, numpy as np
import attar
from attar.adapters.tflite.adapter import TfliteAdapter

assert keras.backend.backend() == "torch"
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((6, 5)), keras.layers.LSTM(8), keras.layers.Dense(4)])
x = np.random.default_rng(0).normal(size=(400, 6, 5)).astype(np.float32)
made = attar.export(model, "tflite-fp16", x, metric="cosine", max_drop=0.1, out=sys.argv[1])
adapter = TfliteAdapter.open(made.path)
kinds = sorted({layer.kind for layer in adapter.layers()})
apart = float(np.abs(adapter.run({"x": x[:9]}) - np.asarray(model(x[:9]).detach())).max())
own = [layer.name for layer in adapter.layers() if layer.tied_to is None]
print(json.dumps([kinds, apart, made.certificate.verdict, len(own)]))
"""


def test_a_recurrent_model_on_another_backend(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False,
        env={**os.environ, "KERAS_BACKEND": "torch"},
    )  # fmt: skip
    assert not done.returncode, done.stderr[-2000:]
    kinds, apart, verdict, layers = json.loads(done.stdout.splitlines()[-1])
    assert kinds == ["dense"] and layers == 3  # kernel and recurrent kernel, read at every step, and the dense layer
    assert apart < 2e-3 and verdict == "certified"


FORMS = """
import json, sys
import keras, numpy as np
from keras import layers as kl
from attar.adapters.keras.adapter import KerasAdapter
from attar.errors import ModelError
from attar.exports.tflite.model import tflite_model

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)


def several():
    x = keras.Input((6,))
    return keras.Model(x, [kl.Dense(n, name=name)(x) for n, name in ((5, "z"), (2, "b"), (3, "a"))])


def half():
    keras.config.set_dtype_policy("mixed_float16")
    inner = keras.Sequential([keras.Input((8, 6)), kl.Conv1D(4, 3)], name="inner")
    made = keras.Sequential([keras.Input((8, 6)), inner, kl.Flatten(), kl.Dense(3)])
    keras.config.set_dtype_policy("float32")
    return made


def both_ways(steps):
    return keras.Sequential([keras.Input((steps, 6)), kl.Bidirectional(kl.GRU(4)), kl.Dense(3)])


def pictures():
    return keras.Sequential([keras.Input((None, None, 3)), kl.Conv2D(4, 3), kl.GlobalAveragePooling2D()])


apart = {}
for name, model, shape in (
    ("several", several(), (6,)), ("half", half(), (8, 6)), ("both ways", both_ways(7), (7, 6)),
    ("pictures", pictures(), (9, 8, 3)),
):
    x = rng.normal(size=(3, *shape)).astype(np.float32)
    adapter = KerasAdapter.open(model)
    made = tflite_model(adapter, "tflite-fp16")
    found, expected = made.run({made.inputs()[0].name: x}), adapter.run({adapter.inputs()[0].name: x})
    apart[name] = float(np.abs(found - expected).max()) if found.shape == expected.shape else str(found.shape)
try:
    tflite_model(KerasAdapter.open(both_ways(None)), "tflite-fp16")
except ModelError as error:
    apart["said"] = str(error)
print(json.dumps(apart))
"""


def test_models_that_the_converter_does_not_take_as_they_are():
    """Several answers, which it leaves in any order; half precision; two directions; pictures of any size."""
    done = subprocess.run(
        [sys.executable, "-c", FORMS], capture_output=True, text=True, check=False,
        env={**os.environ, "KERAS_BACKEND": "torch"},
    )  # fmt: skip
    assert not done.returncode, done.stderr[-2000:]
    apart = json.loads(done.stdout.splitlines()[-1])
    assert "the steps of a recurrent layer must have a number" in apart.pop("said")
    limits = {"several": 1e-5, "half": 5e-3, "both ways": 1e-5, "pictures": 1e-5}
    assert {name: isinstance(far, float) and far < limits[name] for name, far in apart.items()} == dict.fromkeys(limits, True), apart  # fmt: skip  # noqa: E501
