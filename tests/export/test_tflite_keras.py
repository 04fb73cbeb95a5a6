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
