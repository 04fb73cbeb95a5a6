"""Modules whose weights stay as a file has them: each is decoded when it is read, and forgotten afterwards.

A parameter becomes a property of a class of its own, so that whatever module or graph reads it gets the decoded tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn


class Store:
    """Decoded tensors by name; the first that fit into `keep_bytes` stay, as all are needed in every forward pass.

    Of layers that are read in turn a cache of the last ones would never have the next.
    """

    def __init__(self, decode: Callable[[str], Tensor], keep_bytes: int = 0) -> None:
        self._decode, self._left = decode, keep_bytes
        self._kept: dict[str, Tensor] = {}

    def __call__(self, name: str) -> Tensor:
        """One tensor."""
        if name in self._kept:
            return self._kept[name]
        tensor = self._decode(name)
        if tensor.nbytes <= self._left:
            self._left -= tensor.nbytes
            self._kept[name] = tensor
        return tensor


def hold(network: nn.Module, store: Store, places: Mapping[str, str]) -> None:
    """Take parameters out of a network, in place: each name reads its owner's tensor from the store from now on."""
    for name, owner in places.items():
        path, _, attribute = name.rpartition(".")
        module = network.get_submodule(path)
        module._parameters.pop(attribute, None)
        module._buffers.pop(attribute, None)
        own = type(module)
        read = property(partial(_read, store, owner))
        module.__class__ = type(own.__name__, (own,), {attribute: read, "__module__": own.__module__})


def _read(store: Store, owner: str, module: nn.Module) -> Tensor:
    del module
    return store(owner)
