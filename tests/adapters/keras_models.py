"""Small Keras models, one for each way in which a layer can hold a matrix; imported by keras_suite.py only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers as kl

from attar.types import Array

Batches = Sequence[dict[str, Array]]


def sequential(shape: tuple[int, ...], *layers: Any, dtype: str | None = None) -> keras.Model:
    """Trained-looking: batch norms with statistics of their own, biases that are not zero."""
    return unsettled(keras.Sequential([keras.Input(shape, dtype=dtype, name="x"), *layers]))


def unsettled(model: keras.Model) -> keras.Model:
    """The model with every weight drawn anew: the layers were made before any seed could be set."""
    rng = np.random.default_rng(2)

    def draw(w: Array) -> Array:
        if w.ndim == 1:
            return rng.uniform(0.4, 1.4, w.shape).astype(w.dtype)
        return (rng.normal(size=w.shape) / np.sqrt(w.size / w.shape[-1])).astype(w.dtype)

    model.set_weights([draw(w) for w in model.get_weights()])
    return model


def mlp() -> keras.Model:
    return sequential(
        (6, 9), kl.Dense(8, "gelu"), kl.Flatten(), kl.Dense(12), kl.BatchNormalization(), kl.Dense(5, "softmax")
    )


def convolutions() -> keras.Model:
    """Groups, dilation, strides, both paddings, folded and not folded batch norms."""
    return sequential(
        (9, 10, 4),
        kl.Conv2D(6, (3, 2), strides=(2, 1), padding="same", groups=2, use_bias=False, name="grouped"),
        kl.BatchNormalization(name="folded"),
        kl.ReLU(),
        kl.Conv2D(6, 3, dilation_rate=(1, 2), padding="same", name="dilated"),
        kl.BatchNormalization(scale=False, name="folded_too"),
        kl.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="depthwise"),
        kl.BatchNormalization(name="after_relu"),
        kl.SeparableConv2D(5, 2, depth_multiplier=2, padding="same", activation="tanh", name="separable"),
        kl.GlobalAveragePooling2D(),
        kl.Dense(4),
    )


def channels_first() -> keras.Model:
    first = {"data_format": "channels_first"}
    return sequential(
        (4, 9, 8),
        kl.Conv2D(6, 3, strides=2, padding="same", activation="relu", **first),
        kl.DepthwiseConv2D(2, **first),
        kl.SeparableConv2D(6, 2, **first),
        kl.BatchNormalization(axis=1),
        kl.Conv2DTranspose(4, 2, strides=2, **first),
        kl.GlobalAveragePooling2D(**first),
    )


def one_dimension() -> keras.Model:
    return sequential(
        (16, 4),
        kl.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu"),
        kl.DepthwiseConv1D(3, padding="same", strides=2),
        kl.SeparableConv1D(5, 3),
        kl.Conv1DTranspose(4, 4, strides=2, padding="same", activation="relu"),
        kl.GlobalMaxPooling1D(),
    )


def three_dimensions() -> keras.Model:
    return sequential(
        (5, 6, 4, 2),
        kl.Conv3D(4, 2, activation="relu"),
        kl.Conv3DTranspose(3, 2, strides=(2, 1, 1), activation="relu"),
        kl.Flatten(),
        kl.Dense(3),
    )


def transposed() -> keras.Model:
    return sequential(
        (5, 4, 3),
        kl.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu"),
        kl.Conv2DTranspose(5, (3, 2), strides=(2, 1), output_padding=(1, 0), activation="relu"),
        kl.Conv2DTranspose(4, 3),
        kl.GlobalAveragePooling2D(),
    )


def dilated_transposed() -> keras.Model:
    return sequential((5, 4, 3), kl.Conv2DTranspose(4, (3, 2), dilation_rate=2), kl.GlobalMaxPooling2D())


def attention() -> keras.Model:
    x = keras.Input((7, 12), name="x")
    y = kl.MultiHeadAttention(3, 4, name="mha")(x, x)
    y = kl.LayerNormalization()(x + y)
    z = kl.GroupQueryAttention(4, 4, 2, name="gqa")(y, y)
    z = kl.EinsumDense("abc,cde->adbe", (3, 7, 4), bias_axes="e", name="partly_biased")(kl.ReLU()(z))
    z = kl.EinsumDense("adbe,def->adbf", (3, 7, 6), bias_axes="df", activation="relu", name="per_head")(z)
    return unsettled(keras.Model(x, kl.Dense(5)(kl.Flatten()(z))))


def recurrent() -> keras.Model:
    """Embedding with a mask, all cells, both directions, states as inputs."""
    ids = keras.Input((8,), dtype="int32", name="ids")
    x = kl.Embedding(20, 6, mask_zero=True)(ids)
    y, *state = kl.LSTM(5, return_sequences=True, return_state=True, name="lstm")(x)
    y = kl.GRU(5, return_sequences=True, name="gru")(y)
    y = kl.GRU(4, reset_after=False, return_sequences=True, go_backwards=True, name="old_gru")(y)
    y = kl.Bidirectional(kl.LSTM(5, return_sequences=True), name="both")(y)
    y = kl.RNN(kl.SimpleRNNCell(6), name="plain")(y)
    y = kl.Concatenate()([y, state[0]])
    return unsettled(keras.Model(ids, kl.Dense(3)(y)))


def embeddings() -> keras.Model:
    """One table looked up twice and projected back, tied and untied."""
    ids = keras.Input((5,), dtype="int32", name="ids")
    tied = kl.ReversibleEmbedding(18, 6, name="tied")
    free = kl.ReversibleEmbedding(18, 6, tie_weights=False, name="free")
    hidden = kl.Dense(6, "relu")(tied(ids) + tied(18 - 1 - ids) + free(ids))
    return unsettled(keras.Model(ids, tied(hidden, reverse=True) + free(hidden, reverse=True)))


def wrapped() -> keras.Model:
    return sequential(
        (4, 6, 6, 2),
        kl.TimeDistributed(kl.Conv2D(3, 3, activation="relu")),
        kl.TimeDistributed(kl.Flatten()),
        kl.TimeDistributed(kl.Dense(6, "relu")),
        kl.LSTM(4),
    )


def shared() -> keras.Model:
    """Two inputs, a nested model, a dense layer that is called twice, a batch norm whose input has another user."""
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    once = kl.Dense(8, name="once")
    nested = keras.Sequential([keras.Input((8,)), kl.Dense(8), kl.BatchNormalization(), kl.ReLU()], name="nested")
    both = kl.Add()([nested(once(a)), once(b)])
    kept = kl.Dense(8, name="kept")(both)
    out = kl.Add()([kl.BatchNormalization(name="not_alone")(kept), kept])
    return unsettled(keras.Model({"a": a, "b": b}, {"first": kl.Dense(3, name="first")(out), "second": out}))


@keras.saving.register_keras_serializable("attar_tests")
class Subclassed(keras.Model):
    """Layers in attributes and lists, with a config."""

    def __init__(self, width: int = 6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.blocks = [kl.Dense(width, "relu") for _ in range(2)]
        self.head = kl.Dense(3)

    def build(self, input_shape: Any) -> None:
        for block in self.blocks:
            block.build(input_shape)
            input_shape = (*input_shape[:-1], self.width)
        self.head.build(input_shape)
        self.built = True

    def call(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}


class Unregistered(Subclassed):
    """Known to the process alone."""


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, 5), np.float32))
    return unsettled(model)


def mixed(policy: str) -> Callable[[], keras.Model]:
    def make() -> keras.Model:
        return sequential(
            (8, 8, 3),
            kl.Conv2D(6, 3, activation="relu", dtype=policy),
            kl.Flatten(dtype=policy),
            kl.Dense(12, "relu", dtype=policy),
            kl.Dense(4, dtype="float32"),
        )

    return make


@dataclass(frozen=True)
class Example:
    """A model and what it eats."""

    make: Callable[[], keras.Model]
    batches: Batches
    tolerance: float = 1e-5


def normal(*shape: int) -> Batches:
    rng = np.random.default_rng(3)
    return [{"x": rng.normal(size=(n, *shape)).astype(np.float32)} for n in (5, 4)]


def ids(length: int, count: int) -> Batches:
    rng = np.random.default_rng(3)
    draws = [rng.integers(1, count, (n, length)) for n in (5, 4)]
    draws[0][1, -3:] = 0  # padding
    return [{"ids": d.astype(np.int32)} for d in draws]


EXAMPLES: dict[str, Example] = {
    "mlp": Example(mlp, normal(6, 9)),
    "convolutions": Example(convolutions, normal(9, 10, 4)),
    "channels_first": Example(channels_first, normal(4, 9, 8)),
    "one_dimension": Example(one_dimension, normal(16, 4)),
    "three_dimensions": Example(three_dimensions, normal(5, 6, 4, 2)),
    "transposed": Example(transposed, normal(5, 4, 3)),
    "dilated_transposed": Example(dilated_transposed, normal(5, 4, 3)),
    "attention": Example(attention, normal(7, 12)),
    "recurrent": Example(recurrent, ids(8, 20)),
    "embeddings": Example(embeddings, ids(5, 18)),
    "wrapped": Example(wrapped, normal(4, 6, 6, 2)),
    "shared": Example(shared, [{"a": x["x"], "b": 1 - x["x"]} for x in normal(6)]),
    "subclassed": Example(subclassed, normal(5)),
    "mixed_bfloat16": Example(mixed("mixed_bfloat16"), normal(8, 8, 3), 2e-2),
    "float16": Example(mixed("float16"), normal(8, 8, 3), 5e-3),
    "bfloat16": Example(mixed("bfloat16"), normal(8, 8, 3), 4e-2),
}

if keras.backend.backend() == "tensorflow":  # whose CPU kernels run neither
    del EXAMPLES["channels_first"], EXAMPLES["dilated_transposed"]
