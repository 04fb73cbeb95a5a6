"""Run the Keras suite, each backend in a process of its own: Keras takes one backend per process."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.test_keras import needs_keras, run_suite

SUITE = str(Path(__file__).parent / "keras_suite.py")


@needs_keras
@pytest.mark.slow
def test_all_models_on_torch() -> None:
    run_suite("torch", SUITE)


@needs_keras
def test_a_model_on_tensorflow() -> None:
    run_suite("tensorflow", SUITE, "-k", "words")


@needs_keras
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_all_models(backend: str) -> None:
    run_suite(backend, SUITE)
