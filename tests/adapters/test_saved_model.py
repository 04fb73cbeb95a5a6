"""SavedModel folders: converted where they only compute, refused where they do more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attar.adapters.keras.saved_model import is_saved_model
from attar.adapters.tflite.adapter import TfliteAdapter
from attar.errors import ModelError
from attar.job import size_of

MAKE = """
import sys
import numpy as np, tensorflow as tf

class Dense(tf.Module):
    def __init__(self):
        self.w = tf.Variable(np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 12], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": tf.nn.relu(x @ self.w)}

class Reader(Dense):
    @tf.function(input_signature=[tf.TensorSpec([None, 12], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": x @ self.w + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)}

class Table(Dense):
    def __init__(self):
        super().__init__()
        pairs = tf.lookup.KeyValueTensorInitializer([1], [2])
        self.table = tf.lookup.StaticHashTable(pairs, 0)

    @tf.function(input_signature=[tf.TensorSpec([None, 12], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": x @ self.w + tf.cast(self.table.lookup(tf.constant(1)), tf.float32)}

folder = sys.argv[1]
for name, model in (("dense", Dense()), ("reader", Reader()), ("table", Table())):
    tf.saved_model.save(model, f"{folder}/{name}", signatures=model.__call__)
other = Dense()
tf.saved_model.save(other, f"{folder}/unsigned", signatures={"other": other.__call__})
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    subprocess.run([sys.executable, "-c", MAKE, str(folder)], check=True, capture_output=True)
    return folder


def test_one_that_computes_is_converted(folders):
    place = folders / "dense"
    assert is_saved_model(place) and TfliteAdapter.accepts(place) and not TfliteAdapter.accepts(folders)
    adapter = TfliteAdapter.open(place)
    (layer,) = adapter.layers()
    assert (layer.kind, layer.rows, layer.cols) == ("dense", 5, 12)
    w = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(7, 12)).astype(np.float32)
    np.testing.assert_allclose(adapter.run({"x": x}), np.maximum(x @ w, 0), rtol=1e-5, atol=1e-5)
    values = sum(path.stat().st_size for path in (place / "variables").iterdir())
    assert size_of(place, adapter) == (place / "saved_model.pb").stat().st_size + values


@pytest.mark.parametrize(
    ("name", "said"),
    [("reader", "the operator ReadFile"), ("table", "which may do more than compute"),
     ("unsigned", "without serving_default")],
)  # fmt: skip
def test_one_that_does_more_is_refused(folders, name, said):
    with pytest.raises(ModelError, match=said):
        TfliteAdapter.open(folders / name)


def test_a_damaged_one_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\x00" * 40)
    with pytest.raises(ModelError, match="Received: "):
        TfliteAdapter.open(tmp_path)
