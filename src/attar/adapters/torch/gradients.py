"""Gradients of PyTorch models with respect to canonical matrices, biases and the other parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from attar.adapters.base import Gradients
from attar.adapters.torch.forms import Site
from attar.errors import ModelError
from attar.types import Array, Weight


def pullback(
    call: Callable[[], Tensor],
    cotangent: Callable[[Array], Array],
    sites: Sequence[Site],
    tensors: Mapping[str, Tensor],
    others: Sequence[str],
) -> Gradients:
    """See adapters/base.py; call runs the network once, sites own their weights, others name further parameters."""
    names = [site.name for site in sites] + [site.bias.name for site in sites if site.bias is not None] + list(others)
    wanted = {name: tensors[name] for name in names if tensors[name].is_floating_point()}
    with watched(list(wanted.values())):
        output = call()
        seed = torch.tensor(cotangent(_numpy(output))).to(output)
        try:
            found = torch.autograd.grad(output, list(wanted.values()), seed, allow_unused=True)
        except RuntimeError as error:
            raise ModelError(
                f"model: every operation between the weights and the output must have a gradient. Received {error}. "
                "Compress without recovery (--no-train)."
            ) from error
    by_name = dict(zip(wanted, found, strict=True))
    return Gradients(
        {site.name: _weight(site, by_name) for site in sites if by_name.get(site.name) is not None},
        {name: _numpy(g) for name in others if (g := by_name.get(name)) is not None},
    )


def _weight(site: Site, found: Mapping[str, Tensor | None]) -> Weight:
    """One site's gradients as `read` gives its values."""
    gradient = found[site.name]
    assert gradient is not None
    matrix = _numpy(site.form.matrix(gradient))
    if site.bias is None:
        return Weight(matrix)
    whole = found[site.bias.name]
    if whole is None:
        return Weight(matrix, np.zeros(site.form.rows, np.float32))
    return Weight(matrix, _numpy(site.bias.of({site.bias.name: whole})).reshape(-1))


@contextmanager
def watched(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Gradients on for these leaves, and as they were afterwards."""
    before = [tensor.requires_grad for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for tensor, wanted in zip(tensors, before, strict=True):
            tensor.requires_grad_(wanted)


def _numpy(tensor: Tensor) -> Array:
    """float32 on the CPU."""
    return tensor.detach().to("cpu", torch.float32).numpy()
