"""Make the network of a Hugging Face folder or configuration: by classes of transformers, without code of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.adapters.torch.source import Source
from attar.adapters.transformers.files import LARGEST, checked_config, described, quiet, read_config
from attar.errors import FormatError, ModelError
from attar.types import Json

SPARE = "pooler."
"""Weights of BERT's kin that may be missing: a folder saved without them does not use them."""
STORED = ("gate_up_proj", "up_proj", "down_proj", "gate_proj")
"""Names under which transformers keep the experts of a layer in one tensor."""


class Slices(nn.ParameterList):
    """The experts of a layer, a parameter each, in the place of one tensor [experts, ...] that is indexed.

    transposed: whether they are [inputs, outputs].
    """

    transposed = False

    def __getitem__(self, index: Any) -> Any:
        """One expert's matrix."""
        return super().__getitem__(int(index) if isinstance(index, Tensor) else index)


def network_of(folder: Path) -> nn.Module:
    """The model of a folder in float32; raises ModelError where weights are missing, FormatError for damaged ones."""
    made = checked_config(read_config(folder))
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
    try:
        with quiet():
            network, told = made.from_pretrained(str(folder), dtype=torch.float32, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise FormatError(
            f"model {str(folder)!r}: transformers must load it. Received a folder that it refuses ({first}). Check "
            "that AutoModel.from_pretrained takes it."
        ) from error
    missing = sorted(told["missing_keys"])
    if told.get("mismatched_keys") or any(not _spare(name) for name in missing):
        named = [name for name in missing if not _spare(name)] or [str(k) for k in told["mismatched_keys"]]
        raise ModelError(
            f"model {str(folder)!r}: every weight must be in its files. Received none for {', '.join(named[:3])} "
            f"({len(named)} in all), which transformers would draw at random. Fetch the folder again."
        )
    _clear(network, missing)
    return prepared(network)


def _spare(name: str) -> bool:
    return name.startswith(SPARE) or f".{SPARE}" in name


def _clear(network: nn.Module, names: list[str]) -> None:
    """Zeros for weights that are missing and not used, so that a model is the same whenever it is opened."""
    tensors = network.state_dict()
    for name in names:
        if name in tensors:
            tensors[name].zero_()


def network_from(config: Json) -> nn.Module:
    """A model of a configuration, its weights of no meaning; raises FormatError where it cannot be."""
    made, told = described(config)
    with torch.device("meta"):
        claimed = sum(p.numel() * 4 for p in made(told).parameters())
    if claimed > LARGEST:
        raise FormatError(f"skeleton: tensors must take less than {LARGEST} bytes. Received {claimed}. Check the file.")
    with torch.random.fork_rng(devices=[]), quiet():
        network = made(described(config)[1])
    return prepared(network)


def prepared(network: nn.Module) -> nn.Module:
    """In eval mode, without gradients, its experts apart, and what no folder holds no parameter."""
    network.eval().requires_grad_(False)
    for module, leaf in _unsaved(network):
        value = getattr(module, leaf).detach()
        delattr(module, leaf)
        module.register_buffer(leaf, value, persistent=False)
    for module in network.modules():
        if hasattr(module, "is_transposed") and hasattr(module, "has_gate"):
            _split(module)
    return network


def _unsaved(network: nn.Module) -> list[tuple[nn.Module, str]]:
    """Where the network has what transformers leave out of folders and make anew (Marian's tables of positions).

    A layer made of it would be gone in the plain folder.
    """
    found = []
    for name in getattr(network, "_keys_to_ignore_on_save", None) or ():
        place, _, leaf = name.rpartition(".")
        module = dict(network.named_modules()).get(place)
        if module is not None and isinstance(getattr(module, leaf, None), Tensor):
            found.append((module, leaf))
    return found


def _split(module: nn.Module) -> None:
    """Every tensor of experts as a list of matrices, which transformers' own plain loop over experts takes."""
    module.config._experts_implementation = "eager"  # type: ignore[union-attr]
    for name in STORED:
        tensor = getattr(module, name, None)
        if isinstance(tensor, nn.Parameter) and tensor.ndim == 3:
            delattr(module, name)
            parts = Slices([nn.Parameter(each.clone(), requires_grad=False) for each in tensor])
            parts.transposed = bool(module.is_transposed)
            setattr(module, name, parts)


def joined(network: nn.Module) -> nn.Module:
    """The network, changed in place, as transformers make it: experts in one tensor, tables as parameters."""
    for module, leaf in _unsaved(network):
        value = getattr(module, leaf)
        delattr(module, leaf)
        module.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Slices):
                delattr(module, name)
                setattr(module, name, nn.Parameter(torch.stack(list(child)), requires_grad=False))
    return network


def source_of(network: nn.Module) -> Source:
    """A source over a network of our own, which is not copied."""
    return Source("module", network, {name: False for name, _ in network.named_modules()})
