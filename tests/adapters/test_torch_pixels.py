"""8-bit images go into PyTorch models that scale them as they are, into others divided by 255."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attar
from attar.adapters.torch.adapter import TorchAdapter
from attar.data.fit import fit_inputs
from attar.types import Dataset


class Behind(nn.Module):
    """A convolution behind what the forward of a model may do to pixels first."""

    def __init__(self, first: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first = first
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.register_buffer("mean", torch.tensor([123.0, 116.0, 103.0]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([58.0, 57.0, 57.0]))
        self.register_buffer("small", torch.tensor([0.2, 0.2, 0.2]).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(self.first(self, x)).mean((2, 3)))


SCALED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "divided": lambda _, x: x / 255,
    "multiplied": lambda _, x: x.float() * (1 / 255),
    "standardised": lambda m, x: (x - m.mean) / m.std.view(3, 1, 1),
    "both": lambda m, x: (x.div(255) - 0.5) / m.small,
    "written": lambda _, x: (x - 117) / torch.tensor([58.0, 57.0, 57.0])[:, None, None],
    "resized": lambda _, x: F.interpolate(x, scale_factor=2) / 127.5 - 1,
    "reshaped": lambda _, x: x.reshape(x.shape[0], 3, x.size(2), -1) / 255,
}
OTHERS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "plain": lambda _, x: x,
    "from_0_to_1": lambda m, x: (x - 0.5) / m.small,
    "used_beside": lambda _, x: x / 255 + x,
}


@pytest.mark.parametrize("name", [*SCALED, *OTHERS])
@pytest.mark.parametrize("exported", [False, True])
def test_pixels_are_known_by_their_scale(name: str, exported: bool) -> None:
    model: Any = Behind({**SCALED, **OTHERS}[name]).eval()
    if exported:
        free = {0: torch.export.Dim("n")}
        model = torch.export.export(model, (torch.rand(2, 3, 8, 8),), dynamic_shapes={"x": free})
    adapter = TorchAdapter.open(model)
    adapter.run({"x": np.ones((2, 3, 8, 8), np.float32)})
    again = TorchAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    assert [one.inputs()[0].scales_pixels for one in (adapter, again)] == [name in SCALED] * 2


def test_they_go_in_as_they_are_channels_first() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    model = Behind(SCALED["both"]).eval()
    result = attar.compress(model, pixels, metric="cosine", max_drop=0.5, guarantee="estimate", preset="quick")
    (data,) = fit_inputs(Dataset({"x": pixels}), TorchAdapter.open(model).inputs()).inputs.values()
    assert np.asarray(data).max() > 200
    with torch.no_grad():
        answers = model(torch.tensor(np.moveaxis(pixels, -1, 1)).float()).numpy()
    # Those of the certify split are some of them.
    near = np.abs(result.before.outputs[:, None] - answers[None]).max(-1).min(1)
    assert near.max() < 1e-4


@pytest.mark.parametrize(("std", "takes"), [([58.0, 57.0, 57.0], True), ([0.2, 0.2, 0.2], False)])
def test_transforms_of_torchvision_are_seen_by_their_deviation(std: list[float], takes: bool) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError("a tensor is needed")
        return (x - 0.1) / torch.tensor(self.std)[:, None, None]

    made = type("Normalize", (nn.Module,), {"forward": forward, "__module__": "torchvision.transforms.transforms"})
    first: Any = made()
    first.std = std
    network = nn.Sequential(first, nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    assert TorchAdapter.open(network.eval()).inputs()[0].scales_pixels == takes
