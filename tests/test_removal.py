"""Compression of models that lose channels first: drops are from the original, the result is a smaller model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import attar
from attar import registry
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.errors import ModelError, UsageError
from attar.types import Dataset
from fakes import trained

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def fashion() -> tuple[Dataset, Dataset, Dataset]:
    """Train, select and certify: parts of the fresh images and of the test images."""
    import onnx

    assert onnx
    specs = registry.get("adapter", "onnx").open(ROOT / "examples/models/lenet300.onnx").inputs()
    parts = read(ROOT / "examples/fashion-mnist")
    assert not isinstance(parts, Dataset)
    fresh, test = (fit_inputs(parts[name], specs) for name in ("train", "test"))
    return fresh.take(range(2000)), fresh.take(range(2000, 3500)), test.take(range(1500))


def test_half_the_work_goes_and_the_rest_is_trained(fashion, tmp_path) -> None:
    train, select, certify = fashion
    path = ROOT / "examples/models/lenet300.onnx"
    sets = {"calibrate": train.take(range(1000)), "select": select, "certify": certify, "train": train}
    settings = {"recovery": {"epochs": 2, "candidates": 1}}
    result = attar.compress(path, **sets, remove=0.5, max_drop=8, guarantee="estimate", settings=settings, out=tmp_path)
    event = next(e for e in result.events if e["event"] == "removal")
    assert event["share"] >= 0.5 and event["trained"]
    shapes = {layer.name: layer.shape for layer in result.adapter.layers()}
    whole = {layer.name: layer.shape for layer in registry.get("adapter", "onnx").open(path).layers()}
    assert set(shapes) == set(whole) and sum(map(np.prod, shapes.values())) < 0.55 * sum(map(np.prod, whole.values()))
    plain = attar.evaluate(path, certify)
    assert result.certificate.before == pytest.approx(plain.value)
    assert attar.evaluate(tmp_path / "lenet300.attar", certify).value == pytest.approx(result.certificate.after)
    assert attar.evaluate(tmp_path / "lenet300.onnx", certify).value == pytest.approx(result.certificate.after, abs=0.1)
    assert (
        "--remove 0.5" in json.loads((tmp_path / "ledger.jsonl").read_text().splitlines()[-1])["reproduce"]["command"]
    )


def test_without_a_training_set_the_refit_stands_alone(fashion) -> None:
    train, select, certify = fashion
    sets = {"calibrate": train.take(range(1000)), "select": select, "certify": certify}
    result = attar.compress(
        ROOT / "examples/models/lenet300.onnx", **sets, remove=0.3, max_drop=8, guarantee="estimate"
    )
    assert not next(e for e in result.events if e["event"] == "removal")["trained"]
    assert result.certificate.drop < 8


def test_a_module_comes_back_smaller(fashion, monkeypatch) -> None:
    import torch

    monkeypatch.syspath_prepend(ROOT / "examples")
    from torch_models import LeNet300100

    model = LeNet300100()
    model.load_state_dict(torch.load(ROOT / "examples/models/lenet300.pt", weights_only=True))
    train, select, certify = fashion
    sets = {"calibrate": train.take(range(1000)), "select": select, "certify": certify}
    result = attar.compress(model, **sets, remove=0.3, max_drop=8, guarantee="estimate")
    assert isinstance(result.model, torch.nn.Module)
    assert result.model.get_parameter("fc1.weight").shape[0] < 300
    assert model.fc1.weight.shape == (300, 784)
    batch = next(certify.batches(100))
    seen = result.model(torch.tensor(next(iter(batch.values())))).detach().numpy()
    np.testing.assert_allclose(seen, result.adapter.run(batch), atol=1e-4)


def test_excluded_layers_cannot_be_fitted_anew(fashion) -> None:
    train, select, certify = fashion
    sets = {"calibrate": train, "select": select, "certify": certify}
    with pytest.raises(UsageError, match="Received exclude and remove"):
        attar.compress(ROOT / "examples/models/lenet300.onnx", **sets, remove=0.3, exclude=["fc3*"], max_drop=8)


def test_what_has_no_groups_is_refused(monkeypatch) -> None:
    monkeypatch.setitem(registry.REGISTRY["adapter"], "numpy", "fakes:NumpyNet")
    net, data = trained()
    with pytest.raises(ModelError, match="channels are removed from ONNX, PyTorch and Keras models"):
        attar.compress(net, data, remove=0.5, max_drop=2)
    with pytest.raises(UsageError, match="'remove'"):
        attar.compress(net, data, remove=1.5, max_drop=2)


def test_a_recipe_says_how_channels_are_removed(fashion) -> None:
    train, select, certify = fashion
    sets = {"calibrate": train.take(range(1000)), "select": select, "certify": certify}
    path = ROOT / "examples/models/lenet300.onnx"
    result = attar.compress(
        path, **sets, remove=0.3, max_drop=8, guarantee="estimate", settings={"removal": {"multiple": 32, "floor": 0.3}}
    )
    event = next(e for e in result.events if e["event"] == "removal")
    for before, after in event["channels"].values():
        assert after == before or (after % 32 == 0 and after >= 0.3 * before)
    assert any(after < before for before, after in event["channels"].values())


def test_settings_of_removal_are_checked_before_any_work(fashion) -> None:
    train, select, certify = fashion
    sets = {"calibrate": train, "select": select, "certify": certify}
    path = ROOT / "examples/models/lenet300.onnx"
    for settings, said in (
        ({"multiple": 0}, "settings.removal.multiple: it must be from 1 to 256"),
        ({"unit": "seconds"}, "settings.removal.unit: it must be one of 'macs', 'bytes'"),
        ({"share": 0.5}, "settings.removal: a parameter must be one of unit, multiple, floor"),
    ):
        with pytest.raises(UsageError, match=said):
            attar.compress(path, **sets, remove=0.3, max_drop=8, settings={"removal": settings})
    rule = {"fc1*": {"settings": {"removal": {"multiple": 4}}}}
    with pytest.raises(UsageError, match=r"layers.fc1.*settings: each table must be one of .* Received 'removal'"):
        attar.compress(path, **sets, remove=0.3, max_drop=8, layers=rule)
