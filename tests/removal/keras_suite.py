# ruff: noqa: E501
"""Removal of channels from Keras models: the laws, channels last, and what must stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from adapters.keras_models import subclassed, unsettled
from attar.adapters.keras.adapter import KerasAdapter
from attar.errors import ModelError
from kits import structure_laws as laws

MODELS = Path(__file__).parents[2] / "examples" / "models"
IMAGE = (8, 8, 3)


def sequential(shape: tuple[int, ...], *parts: Any) -> keras.Model:
    return keras.Sequential([keras.Input(shape, name="x"), *parts])


def residual() -> keras.Model:
    """Sum, gate and concatenation of branches in a functional graph."""
    x = keras.Input(IMAGE, name="x")
    a = layers.Conv2D(8, 3, padding="same", use_bias=False, name="a")(x)
    a = layers.ReLU(name="a_relu")(layers.BatchNormalization(name="a_bn")(a))
    b = layers.Conv2D(8, 3, padding="same", activation="relu", name="b")(a)
    s = layers.Add(name="sum")([a, layers.Conv2D(8, 1, name="c")(b)])
    g = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(s)
    g = layers.Conv2D(8, 1, activation="sigmoid", name="up")(layers.Conv2D(4, 1, activation="relu", name="down")(g))
    s = layers.Multiply(name="gate")([s, g])
    t = layers.Concatenate(name="both")([s, layers.Conv2D(6, 3, padding="same", name="d")(x)])
    t = layers.MaxPooling2D(2, name="max")(layers.PReLU(shared_axes=[1, 2], name="prelu")(t))
    return keras.Model(x, layers.Dense(5, name="out")(layers.Flatten(name="flat")(t)))


def depthwise() -> keras.Model:
    return sequential(
        IMAGE,
        layers.Conv2D(8, 3, name="a"),
        layers.BatchNormalization(name="a_bn"),
        layers.ReLU(name="a_relu"),
        layers.ZeroPadding2D(1, name="pad"),
        layers.DepthwiseConv2D(3, activation="relu", name="b"),
        layers.SeparableConv2D(6, 3, name="c"),
        layers.BatchNormalization(name="c_bn", scale=False),
        layers.Activation("tanh", name="c_tanh"),
        layers.Dropout(0.3, name="drop"),
        layers.Reshape((16, 6), name="rows"),
        layers.Conv1D(6, 3, groups=2, name="d"),
        layers.UpSampling1D(2, name="up"),
        layers.Permute((2, 1), name="turn"),
        layers.Permute((2, 1), name="back"),
        layers.Flatten(name="flat"),
        layers.Dense(7, activation="gelu", name="hidden"),
        layers.Dense(4, activation="softmax", name="out"),
    )


def nested() -> keras.Model:
    """A model within a model, called twice: its channels are the same in both, what it reads must stay."""
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(6, activation="relu", name="p"), layers.Dense(8, name="q")], name="inner")  # fmt: skip
    x = keras.Input((5,), name="x")
    h = layers.Dense(8, activation="relu", name="first")(x)
    h = layers.Add(name="sum")([inner(h), inner(layers.ReLU(name="relu")(h))])
    return keras.Model(x, layers.Dense(3, name="last")(h))


def words() -> keras.Model:
    return sequential(
        (6,),
        layers.Embedding(20, 8, name="table"),
        layers.Conv1D(6, 3, padding="causal", activation="relu", name="conv"),
        layers.GlobalMaxPooling1D(name="max"),
        layers.Dense(4, name="out"),
    )


def transposed() -> keras.Model:
    return sequential(
        IMAGE,
        layers.Conv2DTranspose(6, 2, strides=2, activation="relu", name="a"),
        layers.Conv2D(5, 3, strides=2, name="b"),
        layers.LeakyReLU(name="leak"),
        layers.Cropping2D(1, name="crop"),
        layers.AveragePooling2D(2, name="pool"),
        layers.Reshape((-1, 5), name="rows"),
        layers.Conv1D(24, 1, name="out"),
    )


def fixed() -> keras.Model:
    x = keras.Input((4, 6), name="x")
    a = layers.LayerNormalization(name="norm")(layers.Dense(8, name="a")(x))
    b = layers.Dense(8, name="b", activation="softmax")(a)
    c = layers.MultiHeadAttention(2, 4, name="mha")(b, b)
    d = layers.DepthwiseConv1D(1, depth_multiplier=2, name="multi")(layers.Dense(6, name="d")(c))
    e = layers.Dense(6, name="e")(d)
    return keras.Model(x, layers.Dense(3, name="out")(layers.GroupNormalization(2, name="gn")(e)))


NETS: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "residual": (residual, IMAGE, 4),
    "depthwise": (depthwise, IMAGE, 4),
    "nested": (nested, (5,), 1),
    "words": (words, (6,), 2),
    "transposed": (transposed, IMAGE, 2),
}
EXAMPLES = {"lenet300": 2, "dwcnn": 5}
SCALABLE = {"residual": 4, "depthwise": 4, "nested": 2, "words": 2, "transposed": 2, "lenet300": 2, "dwcnn": 9}
"""Groups that can be scaled."""


def run_plain(path: Path, model: Any, batch: Any) -> np.ndarray:
    loaded = keras.saving.load_model(path)
    x = next(iter(batch.values()))
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
    return loaded.predict(x, verbose=0)


def case(name: str) -> laws.Case:
    rng = np.random.default_rng(0)
    if name in EXAMPLES:
        batch = {"image": rng.random((4, 28, 28, 1), np.float32)}
        options = {"least": EXAMPLES[name], "scalable": SCALABLE[name]}
        return laws.Case(KerasAdapter, lambda: MODELS / f"{name}.keras", [batch], run_plain, **options)

    def make() -> keras.Model:
        keras.utils.set_random_seed(0)
        return unsettled(NETS[name][0]())

    shape = NETS[name][1]
    x = rng.integers(0, 20, (4, *shape)) if name == "words" else rng.normal(size=(4, *shape)).astype(np.float32)
    options = {"silent": name != "residual", "least": NETS[name][2], "scalable": SCALABLE[name]}
    return laws.Case(KerasAdapter, make, [{"x": x}], run_plain, 2e-5, **options)


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", [*NETS, *EXAMPLES])
def test_laws(name, law):
    law(case(name))


def test_flatten_of_channels_last():
    groups = {g.name: g for g in case("residual").open().structure().groups}
    out = {m.tensor: m for m in groups["d/kernel"].members}["out/kernel"]
    np.testing.assert_array_equal(out.index[0], 8 + 14 * np.arange(16))


def test_configs_follow():
    adapter = case("depthwise").open()
    model = adapter.shrunk(laws.some(adapter.structure().groups)).model()
    counts = {name: model.get_layer(name).get_config() for name in ("a", "c", "d", "rows", "hidden", "out")}
    assert (counts["a"]["filters"], counts["c"]["filters"], counts["hidden"]["units"], counts["out"]["units"]) == (
        4,
        2,
        3,
        4,
    )
    assert counts["rows"]["target_shape"] == (16, 2)
    assert (counts["d"]["filters"], counts["d"]["groups"]) == (2, 2)


def test_what_must_stay_says_why():
    structure = KerasAdapter.open(fixed()).structure()
    assert structure.groups == ()
    assert structure.fixed["a/kernel"] == "mixed by norm"
    assert structure.fixed["b/kernel"] == "mixed by b"
    assert structure.fixed["d/kernel"] == "read by DepthwiseConv1D"
    assert structure.fixed["e/kernel"] == "read by GroupNormalization"


def test_a_subclassed_model_is_declined():
    model = subclassed()
    with pytest.raises(ModelError, match="functional or sequential"):
        KerasAdapter.open(model).structure()


def test_a_compiled_model_stays_compiled():
    model = depthwise()
    model.compile("sgd", "categorical_crossentropy")
    adapter = KerasAdapter.open(model)
    assert adapter.shrunk(laws.some(adapter.structure().groups)).model().compiled
