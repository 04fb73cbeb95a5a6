"""A TFLite model out of whatever an adapter, or a file, holds."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from attar.adapters.base import Adapter
from attar.adapters.tflite.adapter import TfliteAdapter
from attar.adapters.tflite.session import in_order
from attar.adapters.tflite.store import Store
from attar.errors import ModelError, UsageError
from attar.exports.tflite.runtime import Runtime
from attar.opening import open_model

CONVERT = """
import sys
import keras, tensorflow as tf
model = keras.models.load_model(sys.argv[1], compile=False)


def wide(value):
    # a config whose half precision is float32
    if isinstance(value, dict):
        return {key: wide(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(wide(inner) for inner in value)
    return "float32" if value in ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16") else value


def plain(layer):
    config = wide(layer.get_config()) if half(layer) else layer.get_config()
    recurrent = isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional))
    if recurrent and any(node.input_tensors[0].shape[1] is None for node in layer._inbound_nodes):
        sys.exit("Error: the steps of a recurrent layer must have a number: give its Input a length")
    if isinstance(layer, keras.layers.RNN):
        config["unroll"] = True
    if isinstance(layer, keras.layers.Bidirectional):
        for part in filter(config.get, ("layer", "backward_layer")):
            config[part]["config"]["unroll"] = True
    return type(layer).from_config(config)


def half(layer):
    return "16" in layer.compute_dtype


# What the converter makes of Keras 3's loops does not run; step by step they need no loop. It has no half precision.
if any(isinstance(layer, keras.layers.RNN) or half(layer) for layer in model._flatten_layers()):
    twin = keras.models.clone_model(model, clone_function=plain, recursive=True)
    twin.set_weights(model.get_weights())
    model = twin
converter = tf.lite.TFLiteConverter.from_keras_model(model)
open(sys.argv[2], "wb").write(converter.convert())
"""


def tflite_model(adapter: Adapter, goal: str) -> TfliteAdapter:
    """The adapter itself where it is of TFLite, or that of a converted Keras model; raises ModelError for others."""
    if isinstance(adapter, TfliteAdapter):
        return adapter
    if adapter.framework == "keras":
        return TfliteAdapter(in_order(Store.open(converted(adapter, goal))))
    raise ModelError(
        f"{goal}: it is made of a TFLite or Keras model. Received a {adapter.framework} model. Convert it first, with "
        "ai-edge-torch from PyTorch or onnx2tf from ONNX, or export another format."
    )


def converted(adapter: Adapter, goal: str) -> bytes:
    """A Keras model in floats by TensorFlow's converter, in a process of its own, whatever backend is in use here."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "model.keras"), Path(folder, "model.tflite")
        adapter.save(given)
        quiet = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(
            [sys.executable, "-c", CONVERT, str(given), str(made)], capture_output=True, text=True, check=False,
            env={**os.environ, **quiet},
        )  # fmt: skip
        if done.returncode or not made.exists():
            said = [line for line in done.stderr.splitlines() if "Error" in line] or ["no message"]
            raise ModelError(
                f"{goal}: TensorFlow must be able to convert the model. Received: {said[-1][:300]}. "
                "Install tensorflow-cpu where it is missing; convert models with classes of your own by "
                "tf.lite.TFLiteConverter, and pass the .tflite file."
            )
        return made.read_bytes()


def runtime_of(path: Path, threads: int) -> Runtime:
    """A .tflite file, or the model of a .attar file, in LiteRT; raises UsageError, ModelError, FormatError."""
    if not path.is_file():
        raise UsageError(f"model {str(path)!r}: the file must exist. Received none. Check the path.")
    if path.suffix == ".attar":
        adapter = open_model(path)
        if isinstance(adapter, TfliteAdapter):
            return Runtime(adapter.model(), threads)
    if path.suffix == ".tflite":
        return Runtime(path, threads)
    raise ModelError(f"model {path.name!r}: it must be a TFLite model. Received another kind. Convert it first.")
