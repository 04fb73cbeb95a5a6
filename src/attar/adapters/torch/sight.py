"""A model as a PyTorch function of pixels, so that gradients reach the pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from attar.adapters.base import Adapter
from attar.errors import UsageError
from attar.types import Array

Sight = Callable[[Tensor], Tensor]
LAYOUTS: tuple[Sight, ...] = (
    lambda x: x,
    lambda x: x.permute(0, 2, 3, 1),
    lambda x: x.permute(0, 2, 3, 1).flatten(1),
    lambda x: x[:, 0],
)
"""From [n, channels, height, width] to what a model may take."""


def sight(adapter: Adapter, images: Array, fitted: Mapping[str, Array]) -> Sight:
    """The model's first output for pixels [n, channels, height, width] in 0 .. 255.

    images [n, height, width, channels] uint8 and what the model takes of them tell how pixels are laid out and scaled.
    Raises UsageError for a model through which PyTorch finds no gradient, and for scales that are not one number.
    """
    answer = _answers(adapter)
    if len(fitted) != 1:
        raise UsageError(f"for: the model must have one input. Received {', '.join(fitted)}. Leave out --for.")
    wanted = torch.from_numpy(np.asarray(next(iter(fitted.values())), np.float32))
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float()
    scale = float(wanted.max() / pixels.max().clamp_min(1))
    for layout in LAYOUTS:
        seen = layout(pixels) * scale
        if seen.shape == wanted.shape and torch.allclose(seen, wanted, atol=1e-4 * max(scale * 255, 1e-6)):
            return lambda x: answer(layout(x) * scale)
    raise UsageError(
        f"for: the model must take pixels, all scaled alike. Received input {list(wanted.shape)} for images "
        f"{list(images.shape)}. Leave out --for."
    )


def _answers(adapter: Adapter) -> Sight:
    """The model's first output as a function of its input."""
    if adapter.framework == "onnx":
        from attar.adapters.onnx.adapter import OnnxAdapter
        from attar.adapters.onnx.torch import Program

        assert isinstance(adapter, OnnxAdapter)
        program, name = Program(adapter.store, adapter.outputs()[0].name, ()), adapter.inputs()[0].name
        return lambda x: program({name: x})
    network = getattr(adapter, "network", None)
    if not isinstance(network, nn.Module):
        raise UsageError(
            f"for: the model must be ONNX or PyTorch, whose gradients are known. Received {adapter.framework}. "
            "Export it to ONNX, or leave out --for."
        )

    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))

    def run(x: Tensor) -> Tensor:
        found = network(x.to(device))
        return (found[0] if isinstance(found, tuple | list) else torch.as_tensor(found)).to(x.device)

    return run
