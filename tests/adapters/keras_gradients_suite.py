"""What Keras' gradients cover, and that nothing of the model is baked into what is compiled; run by test_keras.py."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

from adapters.keras_models import EXAMPLES, sequential
from attar.adapters.keras.adapter import KerasAdapter
from attar.types import Array, Weight


def block() -> keras.Model:
    """A folded norm with a bias before it, one that cannot be folded, a layer norm, a frozen layer."""
    return sequential(
        (6, 4),
        kl.Conv1D(5, 2, name="conv"),
        kl.BatchNormalization(name="folded"),
        kl.ReLU(),
        kl.BatchNormalization(name="kept"),
        kl.LayerNormalization(name="norm"),
        kl.Flatten(),
        kl.Dense(4, name="head", trainable=False),
    )


def batch(n: int, seed: int = 0) -> dict[str, Array]:
    return {"x": np.random.default_rng(seed).normal(size=(n, 6, 4)).astype(np.float32)}


def ones(outputs: Array) -> Array:
    return np.ones_like(outputs)


def total(adapter: KerasAdapter, given: dict[str, Array]) -> float:
    return float(adapter.run(given).sum(dtype=np.float64))


def test_what_is_trained() -> None:
    """Frozen layers too; no statistics, and not twice what a folded norm's layer can say."""
    found = KerasAdapter.open(block()).pullback(batch(3), ones)
    assert set(found.layers) == {"conv/kernel", "head/kernel"}
    assert set(found.others) == {"kept/gamma", "kept/beta", "norm/gamma", "norm/beta"}


@pytest.mark.parametrize("name", ["kept/gamma", "kept/beta", "norm/gamma", "norm/beta"])
def test_others_by_differences(name: str) -> None:
    adapter, given = KerasAdapter.open(block()), batch(3)
    gradient = adapter.pullback(given, ones).others[name]
    rest = dict(adapter.remainder())
    values = []
    for sign in (1, -1):
        adapter.restore({**rest, name: rest[name] + np.float32(sign * 1e-2) * gradient})
        values.append(total(adapter, given))
    expected = 2e-2 * float(np.square(gradient).sum())
    assert abs(values[0] - values[1] - expected) < 0.02 * expected + 1e-4


def test_weights_and_remainder_are_read_anew() -> None:
    """What was written or restored after the first call counts as if the model had been opened so."""
    adapter, given = KerasAdapter.open(block()), batch(3)
    adapter.pullback(given, ones)
    weight = adapter.read("head/kernel")
    assert weight.bias is not None
    adapter.write("head/kernel", Weight(2 * weight.matrix, weight.bias + 1))
    moved = {name: value + np.float32(0.25 * name.startswith("norm/")) for name, value in adapter.remainder().items()}
    adapter.restore(moved)
    seen: list[Array] = []

    def look(outputs: Array) -> Array:
        seen.append(outputs)
        return ones(outputs)

    found = adapter.pullback(given, look)
    np.testing.assert_allclose(seen[0], adapter.run(given), rtol=1e-5, atol=1e-5)
    fresh = KerasAdapter.open(adapter.model()).pullback(given, ones)
    np.testing.assert_allclose(found.layers["conv/kernel"].matrix, fresh.layers["conv/kernel"].matrix, atol=1e-5)


def test_gradients_of_examples_add_up() -> None:
    """And batches of several shapes follow each other."""
    adapter = KerasAdapter.open(block())
    whole = batch(5)
    parts = [{"x": whole["x"][:2]}, {"x": whole["x"][2:]}]
    expected = adapter.pullback(whole, ones).layers["conv/kernel"]
    found = [adapter.pullback(part, ones).layers["conv/kernel"] for part in parts]
    np.testing.assert_allclose(sum(f.matrix for f in found), expected.matrix, atol=1e-4)
    assert expected.bias is not None
    np.testing.assert_allclose(sum(f.bias for f in found if f.bias is not None), expected.bias, atol=1e-4)


def test_one_trace_for_each_shape() -> None:
    """The model's Python code runs once for a shape where the backend compiles."""
    calls: list[Any] = []

    class Counted(kl.Layer):
        def call(self, x: Any) -> Any:
            calls.append(x.shape)
            return x

    x = keras.Input((6, 4), name="x")
    adapter = KerasAdapter.open(keras.Model(x, kl.Dense(4)(Counted()(x))))
    calls.clear()
    for n in (3, 3, 2, 3, 2):
        adapter.pullback(batch(n), ones)
    most = 5 if keras.backend.backend() == "torch" else 2
    assert len(calls) == most


def test_what_training_restores_does_not_compile_again() -> None:
    adapter, given = KerasAdapter.open(block()), batch(3)
    first = adapter.pullback(given, ones).others["norm/beta"]
    compiled = adapter._pullback
    rest = dict(adapter.remainder())
    adapter.restore({**rest, "norm/gamma": rest["norm/gamma"] + np.float32(1)})
    assert adapter._pullback is compiled
    moved = adapter.pullback(given, ones)
    fresh = KerasAdapter.open(adapter.model()).pullback(given, ones)
    np.testing.assert_allclose(moved.others["norm/beta"], fresh.others["norm/beta"], atol=1e-5)
    np.testing.assert_allclose(moved.layers["conv/kernel"].matrix, fresh.layers["conv/kernel"].matrix, atol=1e-5)
    assert first.shape == moved.others["norm/beta"].shape
    adapter.restore({**rest, "kept/moving_mean": rest["kept/moving_mean"] + np.float32(1)})
    assert adapter._pullback is None


def test_what_the_cotangent_raises_is_the_callers() -> None:
    def failing(_: Array) -> Array:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        KerasAdapter.open(block()).pullback(batch(2), failing)


def test_a_bias_for_each_half_of_a_gate() -> None:
    """A GRU's two biases are one variable, whose gradient is read in parts."""
    example = EXAMPLES["recurrent"]
    found = KerasAdapter.open(example.make()).pullback(example.batches[0], ones)
    kernel, recurrent = found.layers["gru/cell/kernel"], found.layers["gru/cell/recurrent_kernel"]
    assert kernel.bias is not None
    assert recurrent.bias is not None
    np.testing.assert_allclose(kernel.bias[:10], recurrent.bias[:10], atol=1e-5)  # the gates but the candidate's
    assert np.abs(kernel.bias[10:] - recurrent.bias[10:]).max() > 1e-4
