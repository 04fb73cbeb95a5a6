"""Adapters hand gradients back and let channels be removed, but for those named: no optional law is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.transformers_models import folder
from attar import registry
from attar.adapters.base import Differentiable, Grouped, Traced
from attar.adapters.torch.adapter import FactorySpec

MODELS = Path(__file__).parents[2] / "examples" / "models"
OPENED = {
    "onnx": MODELS / "lenet300.onnx",
    "keras": MODELS / "lenet300.keras",
    "torch": FactorySpec("examples.torch_models:LeNet300100", MODELS / "lenet300.pt"),
    "transformers": folder("bert"),
}


WITHOUT = {
    "tflite": "its files are for running: the Keras or PyTorch model is what is trained and cut",
    "tensors": "weights without a network compute nothing",
}


@pytest.mark.parametrize("name", [name for name in registry.names("adapter") if name not in WITHOUT])
def test_gradients_and_groups_are_offered(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(MODELS.parents[1])
    adapter = registry.get("adapter", name).open(OPENED[name])
    assert isinstance(adapter, Differentiable)
    assert isinstance(adapter, Traced)
    assert isinstance(adapter, Grouped) == (name != "transformers"), "configurations say how many channels there are"
