"""Training a network for images: what it learns is what the integers give, gradients reach through a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attar.adapters.torch.latent import Trainer
from attar.adapters.torch.sight import sight
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.errors import UsageError
from attar.latent import codes
from attar.latent.settings import Settings
from attar.opening import open_model
from attar.sets.aims import Viewer
from attar.types import Dataset
from sets.image_cases import blobs

LENET = Path(__file__).parents[2] / "examples" / "models" / "lenet5.onnx"


def trained(images, steps=60, settings=None):
    trainer = Trainer(images, settings or Settings(latents=4, width=8, encoder=8, batch=16))
    losses = []
    for step in range(steps):
        if step == steps // 2:
            trainer.settle()
        losses.append(trainer.step(1e-3, 1, noisy=step < 10))
    return trainer, np.array(losses)


@pytest.mark.parametrize(("height", "width", "channels"), [(12, 10, 1), (9, 7, 3), (40, 36, 4)])
def test_the_file_s_network_is_what_was_trained(height, width, channels):
    images = blobs(64, height, width, channels)
    trainer, losses = trained(images)
    assert losses[-5:, 1].mean() < losses[:5, 1].mean() and np.isfinite(losses).all()
    latents = trainer.encode(images)
    assert latents.shape == (64, -(-height // 4), -(-width // 4), 4) and latents.dtype == np.int16
    made = codes.pixels(trainer.network(), latents, height, width)
    away = np.abs(made.astype(int) - trainer.pictures(latents, height, width))
    # Halves are rounded to even in training and upwards in the file.
    assert away.max() <= 3 and away.mean() < 0.3


def test_the_same_seed_gives_the_same_network():
    images = blobs(64, 12, 10, 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        first, again = (trained(images)[0].network().arrays() for _ in range(2))
        other = (
            trained(images, settings=Settings(latents=4, width=4, encoder=8, batch=16, seed=1))[0].network().arrays()
        )
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)


def test_pixels_reach_a_model_as_its_runtime_gets_them():
    adapter, images = open_model(LENET), blobs(20, 28, 28, 1)
    fitted = fit_inputs(Dataset({"x": images[..., 0]}), adapter.inputs())
    see = sight(adapter, images, fitted.inputs)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float().requires_grad_()
    answers = see(pixels)
    np.testing.assert_allclose(answers.detach().numpy(), adapter.run(fitted.inputs), atol=1e-3)
    answers.square().sum().backward()
    assert pixels.grad is not None and float(pixels.grad.abs().sum()) > 0


def test_answers_are_repaired():
    adapter, images = open_model(LENET), read(LENET.parents[1] / "fashion-mnist")["test"].inputs["x"][:200, ..., None]
    viewer = Viewer(adapter, images, None)
    trainer, _ = trained(images)
    latents = trainer.encode(images)
    network, before = trainer.network(), viewer.answers(images)

    def wrong(found):
        return np.flatnonzero(before != viewer.answers(codes.pixels(network, found, 28, 28)))

    other = wrong(latents)
    assert other.size > 10
    fixed = latents.copy()
    fixed[other] = trainer.repaired(images[other], latents[other], viewer.sight, 1e-4)
    assert wrong(fixed).size < 0.7 * other.size
    assert fixed.dtype == np.int16 and not np.array_equal(fixed[other], latents[other])


def test_other_scales_are_refused():
    adapter, images = open_model(LENET), blobs(20, 28, 28, 1)
    fitted = fit_inputs(Dataset({"x": images[..., 0]}), adapter.inputs(), mean=0.3, std=0.5)
    with pytest.raises(UsageError, match="scaled alike"):
        sight(adapter, images, fitted.inputs)


class Squares(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(60, 3)

    def forward(self, x):
        return self.line(x.flatten(1) ** 2)


def test_pytorch_models_are_seen_through():
    adapter, images = open_model(Squares()), blobs(20, 10, 6, 1)
    see = sight(adapter, images, {"x": images[..., 0].astype(np.float32) / 255})
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float().requires_grad_()
    see(pixels).sum().backward()
    assert pixels.grad is not None and float(pixels.grad.abs().sum()) > 0
