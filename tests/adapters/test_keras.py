"""Run the Keras suites, each backend in a process of its own: Keras takes one backend per process."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SUITES = [str(HERE / f"keras_{name}suite.py") for name in ("", "gradients_", "files_", "copies_", "traced_", "pixels_")]
FEW = {
    "tensorflow": "mlp or convolutions or embeddings or attention",
    "jax": "mlp or embeddings",
}
"""Models that a backend runs in the quick tests (the rest are slow there: each shape is compiled)."""

needs_keras = pytest.mark.skipif(find_spec("keras") is None, reason="keras is not installed")


def run_suite(backend: str, *arguments: str) -> None:
    """Pytest on the backend; the whole output is shown where it fails."""
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    paths = [str(HERE.parent), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(paths),
        "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3",
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@needs_keras
@pytest.mark.slow
def test_all_models_and_files_on_torch() -> None:
    run_suite("torch", *SUITES)


@needs_keras
@pytest.mark.parametrize("backend", FEW)
def test_some_models_and_gradients(backend: str) -> None:
    """All in one process: a backend takes seconds to start."""
    few = f"(keras_suite and ({FEW[backend]})) or (keras_gradients_suite and not gate) or keras_traced_suite or pixels"
    suites = [str(HERE / f"keras_{name}suite.py") for name in ("", "gradients_", "traced_", "pixels_")]
    run_suite(backend, *suites, "-k", few)


@needs_keras
@pytest.mark.slow
@pytest.mark.parametrize("backend", FEW)
def test_all_models_and_files(backend: str) -> None:
    run_suite(backend, *SUITES)


@needs_keras
def test_a_backend_is_chosen_only_where_none_is() -> None:
    code = (
        "import sys, os; from attar.adapters.keras.adapter import KerasAdapter, start_keras;"
        "assert not KerasAdapter.accepts('model.onnx') and KerasAdapter.accepts('model.keras');"
        "assert 'keras' not in sys.modules; start_keras(); print(os.environ['KERAS_BACKEND'])"
    )
    first = next(name for name in ("tensorflow", "torch", "jax") if find_spec(name) is not None)
    for given, expected in (("", first), ("torch", "torch")):
        environment = os.environ | {"KERAS_BACKEND": given, "PYTHONPATH": str(HERE.parents[1] / "src")}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == expected, done.stderr
