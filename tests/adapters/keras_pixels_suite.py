"""8-bit images go into Keras models that scale them as they are, into others divided by 255; run by test_keras.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import attar
from attar.adapters.keras.adapter import KerasAdapter

SHAPE = (8, 8, 3)


def behind(*first: Any) -> Any:
    return keras.Sequential([layers.Input(SHAPE), *first, layers.Flatten(), layers.Dense(4)])


def written(scale: Callable[[Any], Any]) -> Any:
    """Operations in place of layers, as `preprocess_input` leaves them in a model."""
    x = keras.Input(SHAPE)
    return keras.Model(x, layers.Dense(4)(layers.Flatten()(scale(x))))


SCALED = {
    "rescaling": lambda: behind(layers.Rescaling(1 / 255)),
    "augmented": lambda: behind(
        keras.Sequential([layers.Input(SHAPE), layers.RandomFlip()]), layers.Rescaling(1 / 127.5, -1)
    ),
    "normalised": lambda: behind(layers.Normalization(mean=[120.0] * 3, variance=[3600.0] * 3)),
    "nested": lambda: behind(behind(layers.Rescaling(1 / 255))),
    "divided": lambda: written(lambda x: x / 127.5 - 1),
}
PLAIN = {
    "plain": lambda: behind(layers.Conv2D(3, 3)),
    "stretched": lambda: behind(layers.Rescaling(2.0, -1)),
    "centred": lambda: behind(layers.Normalization(mean=[0.5] * 3, variance=[0.1] * 3)),
    "two ways": lambda: written(lambda x: layers.Concatenate()([x / 255, x])),
}


@pytest.mark.parametrize("name", [*SCALED, *PLAIN])
def test_models_that_scale_pixels_are_known(name: str) -> None:
    adapter = KerasAdapter.open({**SCALED, **PLAIN}[name]())
    assert adapter.inputs()[0].scales_pixels == (name in SCALED)


def test_pixels_reach_them_as_in_training() -> None:
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).integers(0, 256, (40, *SHAPE), dtype=np.uint8)
    for model, given in ((SCALED["rescaling"](), 1.0), (PLAIN["plain"](), 1 / 255)):
        expected = model.predict(given * x.astype(np.float32), verbose=0)
        found = attar.evaluate(model, x, "cosine", against=model)
        np.testing.assert_allclose(found.outputs, expected, rtol=1e-4, atol=1e-5)
        asked = attar.evaluate(model, x, "cosine", against=model, scale=0.5)
        np.testing.assert_allclose(
            asked.outputs, model.predict(0.5 * x.astype(np.float32), verbose=0), rtol=1e-4, atol=1e-4
        )
