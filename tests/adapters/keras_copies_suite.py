"""Copies of models of the caller's process, and what of them a file can describe; run by test_keras.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

from adapters.keras_models import Subclassed
from adapters.keras_suite import run
from attar.adapters.keras.adapter import KerasAdapter
from attar.errors import ModelError
from attar.types import Array

X = np.random.default_rng(4).normal(size=(5, 6)).astype(np.float32)


def normalized() -> keras.Model:
    """Statistics that were learned from data and that the layer turns into constants of its own."""
    layer = kl.Normalization()
    layer.adapt(3 + 2 * X)
    x = keras.Input((6,))
    return keras.Model(x, kl.Dense(5)(layer(x)))


def frozen() -> keras.Model:
    x, y = keras.Input((6,)), keras.Input((6,), name="mine")
    encoder = keras.Model(x, kl.Dense(8)(x), name="encoder")
    encoder.trainable = False
    return keras.Model(y, kl.Dense(5)(encoder(y)))


def shared_between_models() -> keras.Model:
    """One dense layer in two nested models: Keras' own files cannot say so."""
    once = kl.Dense(8, name="once")
    x, y, z = (keras.Input((6,)) for _ in range(3))
    first, second = keras.Model(x, once(x), name="first"), keras.Model(y, kl.ReLU()(once(y)), name="second")
    return keras.Model(z, kl.Dense(5)(kl.Concatenate()([first(z), second(z)])))


@keras.saving.register_keras_serializable("attar_tests")
class ByCode(keras.Model):
    """Functional models made by the constructor, with the names that Keras counts."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = keras.Sequential([kl.Dense(8, "relu"), kl.Dense(4, name="code")])
        self.decoder = keras.Sequential([kl.Dense(8, "relu"), kl.Dense(6)])

    def build(self, shape: Any) -> None:
        self.encoder.build(shape)
        self.decoder.build((shape[0], 4))
        self.built = True

    def call(self, x: Any) -> Any:
        return self.decoder(self.encoder(x))


def by_code() -> keras.Model:
    model = ByCode()
    model(X)
    return model


@keras.saving.register_keras_serializable("attar_tests")
class Block(kl.Layer):
    """A layer whose config does not keep its name."""

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self.net = keras.Sequential([kl.Dense(6, "relu")])

    def build(self, shape: Any) -> None:
        self.net.build(shape)

    def call(self, x: Any) -> Any:
        return x + self.net(x)


def nameless() -> keras.Model:
    x = keras.Input((6,))
    return keras.Model(x, kl.Dense(5)(Block()(Block()(x))))


@keras.saving.register_keras_serializable("attar_tests")
class FromConfig(keras.Model):
    """A functional model whose class builds the graph."""

    def __init__(self, width: int) -> None:
        x = keras.Input((6,), name="x")
        super().__init__(x, kl.Dense(5)(kl.Dense(width)(x)))
        self.width = width

    def get_config(self) -> dict[str, Any]:
        return {"width": self.width}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> FromConfig:
        return cls(**config)


MODELS = (normalized, frozen, by_code, nameless, lambda: FromConfig(7))


@pytest.mark.parametrize("make", MODELS, ids=("normalized", "frozen", "by_code", "nameless", "from_config"))
def test_copy_and_rebuilt_model_are_the_original(make: Callable[[], keras.Model]) -> None:
    model = make()
    expected = run(model, {"x": X})
    adapter = KerasAdapter.open(model)
    rebuilt = KerasAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    for layer in adapter.layers():
        rebuilt.write(layer.name, adapter.read(layer.name))
    for copy in (adapter.model(), rebuilt.model()):
        assert type(copy) is type(model)
        np.testing.assert_allclose(run(copy, {"x": X}), expected, atol=1e-5)
        assert [w.shape for w in copy.trainable_weights] == [w.shape for w in model.trainable_weights]
    again = KerasAdapter.open(model)
    assert [layer.name for layer in again.layers()] == [layer.name for layer in adapter.layers()]


def test_the_copy_keeps_every_name() -> None:
    model = frozen()
    adapter = KerasAdapter.open(model)
    copied, given = (json.dumps(m.get_config(), sort_keys=True) for m in (adapter.model(), model))
    assert copied == given
    assert [spec.name for spec in adapter.inputs()] == ["mine"]
    unnamed = keras.Sequential([keras.Input((6,)), kl.Dense(4)])
    assert [spec.name for spec in KerasAdapter.open(unnamed).inputs()] == [unnamed._layers[0].name]


def test_a_layer_shared_between_nested_models_is_copied_but_not_described() -> None:
    model = shared_between_models()
    adapter = KerasAdapter.open(model)
    np.testing.assert_allclose(run(adapter.model(), {"x": X}), run(model, {"x": X}), atol=1e-6)
    assert adapter.model().count_params() == model.count_params()
    with pytest.raises(ModelError, match="two nested models"):
        adapter.skeleton()


def test_a_class_of_a_script_is_not_taken_for_one_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras writes no module for them."""

    class Script(Subclassed):
        pass

    monkeypatch.setattr(Script, "__module__", "__main__")
    model = Script()
    model(X)
    with pytest.raises(ModelError, match="Script"):
        KerasAdapter.open(model).skeleton()


class Steps(keras.Model):
    """A functional graph whose constructor Keras cannot call again."""

    def __init__(self, hidden: Array) -> None:
        x = keras.Input((6,))
        super().__init__(x, kl.Dense(5)(kl.Dense(len(hidden))(x)))


def test_a_class_that_cannot_be_made_again_comes_back_as_its_graph(caplog: pytest.LogCaptureFixture) -> None:
    model = Steps(np.ones(7))
    adapter = KerasAdapter.open(model)
    assert type(adapter.model()) is not Steps and "class Steps" in caplog.text
    np.testing.assert_allclose(run(adapter.model(), {"x": X}), run(model, {"x": X}), atol=1e-6)


@keras.saving.register_keras_serializable("copies")
class Unnamed(keras.Layer):
    """Weights to which nobody gave a name: Keras counts them through the process."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.first = self.add_weight(shape=(shape[-1], 6), initializer="glorot_uniform")
        self.second = self.add_weight(shape=(6,), initializer="ones")

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(x, self.first) * self.second


def test_weights_without_names_are_the_same_in_a_copy() -> None:
    model = keras.Sequential([keras.Input((6,)), Unnamed(name="odd"), kl.Dense(5)])
    adapter = KerasAdapter.open(model)
    assert {"odd/variable", "odd/variable_1"} <= set(adapter.remainder())
    twin = KerasAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    for layer in adapter.layers():
        twin.write(layer.name, adapter.read(layer.name))
    np.testing.assert_array_equal(twin.run({"x": X}), adapter.run({"x": X}))


def test_constants_made_of_weights_are_made_anew_where_they_were_compiled_in() -> None:
    model = normalized()
    adapter, fresh = KerasAdapter.open(model), KerasAdapter.open(model)
    name = adapter.layers()[0].name
    batch, shift = {"x": X}, {name: np.zeros((5, 5), np.float32)}
    adapter.run(batch), adapter.run(batch, shift)
    moved = {key: value + 1 if value.dtype.kind == "f" else value for key, value in adapter.remainder().items()}
    adapter.restore(moved)
    fresh.restore(moved)
    np.testing.assert_array_equal(adapter.run(batch), fresh.run(batch))
    np.testing.assert_array_equal(adapter.run(batch, shift), fresh.run(batch, shift))


def test_a_layer_that_keeps_a_state_is_refused() -> None:
    model = keras.Sequential([keras.Input(batch_shape=(4, 3, 6)), kl.GRU(5, stateful=True)])
    with pytest.raises(ModelError, match=r"layer 'gru\w*', which keeps a state between calls\."):
        KerasAdapter.open(model)
