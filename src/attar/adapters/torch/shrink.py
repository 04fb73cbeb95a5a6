"""A smaller PyTorch module: parameters and buffers without the channels that go, and the attributes that count them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from attar.adapters.torch.forms import memory
from attar.adapters.torch.groups import all_tensors
from attar.adapters.torch.source import Source, unwrapped
from attar.errors import ModelError
from attar.structure.base import Index
from attar.structure.groups import Coupled
from attar.types import Array

COUNTS: tuple[tuple[tuple[str, ...], str, int, str], ...] = (
    (("Linear",), "out_features", 0, "weight"),
    (("Linear",), "in_features", 1, "weight"),
    (("Conv1d", "Conv2d", "Conv3d"), "out_channels", 0, "weight"),
    (("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"), "out_channels", 1, "weight"),
    (("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"), "in_channels", 0, "weight"),
    (("Embedding",), "embedding_dim", 1, "weight"),
    (("PReLU",), "num_parameters", 0, "weight"),
)
"""Classes, an attribute of theirs, and the axis of the tensor that it counts."""


def shrunk(source: Source, coupled: Coupled, keep: Mapping[str, Array]) -> Source:
    """A new source over a copy of the module; raises UsageError for a keep that cannot be."""
    positions = coupled.positions(keep)
    outer = deepcopy(source.outer)
    smaller = Source(source.kind, unwrapped(outer), dict(source.modes))
    smaller.outer = outer
    names: dict[tuple[int, ...], str] = {}
    for name, tensor in all_tensors(smaller.network).items():
        names.setdefault(memory(tensor), name)
    made: dict[tuple[int, ...], Tensor] = {}
    for module in smaller.network.modules():
        multiplier = _multiplier(module)
        changed = [_replace(store, names, positions, made) for store in (module._parameters, module._buffers)]
        if any(changed):
            _count(module, multiplier)
    return smaller


def _replace(
    store: dict[str, Any], names: Mapping[tuple[int, ...], str], positions: Mapping[tuple[str, int], Index],
    made: dict[tuple[int, ...], Tensor],
) -> bool:  # fmt: skip
    """Put smaller tensors in the place of a module's own; tied ones stay one."""
    changed = False
    for own, tensor in store.items():
        if tensor is None:
            continue
        key = memory(tensor)
        if key not in made:
            made[key] = _taken(tensor, names[key], positions)
        if made[key] is not tensor:
            store[own], changed = made[key], True
    return changed


def _taken(tensor: Tensor, name: str, positions: Mapping[tuple[str, int], Index]) -> Tensor:
    """The tensor without what goes; itself where nothing does."""
    smaller = tensor.detach()
    axes = [axis for tensor_name, axis in positions if tensor_name == name]
    for axis in axes:
        kept = torch.as_tensor(positions[name, axis], device=tensor.device)
        smaller = smaller.index_select(axis, kept)
    if not axes:
        return tensor
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(smaller.clone(), requires_grad=tensor.requires_grad)
    return smaller.clone()


def _multiplier(module: nn.Module) -> int:
    """Outputs for each input channel of a depthwise convolution; 0 for all others."""
    groups, channels = getattr(module, "groups", 1), getattr(module, "in_channels", 0)
    return getattr(module, "out_channels", 0) // groups if groups > 1 and groups == channels else 0


def _count(module: Any, multiplier: int) -> None:
    """Set the attributes that say how many channels a module has."""
    for classes, attribute, axis, tensor in COUNTS:
        if type(module).__name__ in classes:
            setattr(module, attribute, getattr(module, tensor).shape[axis])
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        if multiplier:
            module.groups = module.weight.shape[0] // multiplier
        module.in_channels = module.weight.shape[1] * module.groups
    if hasattr(module, "num_features"):
        own = next(t for t in (module.weight, module.running_mean) if t is not None)
        module.num_features = own.shape[0]


def runs(network: nn.Module, attempt: Callable[[], object]) -> None:
    """Try a smaller module on an example; raises ModelError where its code counts channels by itself."""
    try:
        attempt()
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ModelError(
            f"model {type(network).__name__}: its code must run with fewer channels. Received "
            f"{str(error).strip().splitlines()[0][:120]} Take sizes from tensors, or remove channels of its ONNX "
            "export."
        ) from error
