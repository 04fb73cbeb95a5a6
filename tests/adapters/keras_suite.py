"""What the Keras adapter must do on the backend that KERAS_BACKEND names; run by test_keras.py, once for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from adapters.keras_models import EXAMPLES
from attar.adapters.keras.adapter import KerasAdapter
from attar.types import Array
from kits.adapter_laws import LAWS, Case


def run(model: Any, batch: dict[str, Array]) -> Array:
    """The first output by Keras alone."""
    if isinstance(model, Path):
        model = keras.saving.load_model(model, compile=False)
    inputs = batch if len(batch) > 1 else next(iter(batch.values()))
    output = keras.tree.flatten(model(inputs, training=False))[0]
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")))


def case(name: str) -> Case:
    example = EXAMPLES[name]
    return Case(KerasAdapter, example.make, example.batches, run, run, example.tolerance)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", EXAMPLES)
def test_law(name: str, law: Callable[[Case], None]) -> None:
    law(case(name))
