"""A causal decoder without weights, of which one part at a time gets values from the shards of its checkpoint.

The network is made by transformers' own class with its parameters on torch's meta device; its blocks are replaced by
ways through, so that masks, rotary embeddings and whatever else a block is called with come from the model's own
forward. Names and layouts of the checkpoint become those of the model by transformers' own loader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from attar.adapters.transformers.files import LARGEST, described, quiet
from attar.errors import FormatError, ModelError
from attar.types import Json


class Reached(Exception):
    """Ends a forward where its blocks begin or end; not an error."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


class Through(nn.Module):
    """Stands for a block: hands its input on, and tells who asks for an attribute what the block would."""

    def __init__(self, block: nn.Module, passed: Callable[[tuple[Any, ...], dict[str, Any]], Any]):
        super().__init__()
        object.__setattr__(self, "block", block)  # not a child: its parameters are not the network's
        object.__setattr__(self, "passed", passed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["block"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What `passed` makes of the call."""
        return self.passed(args, kwargs)


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Within, parameters have shapes and no values; buffers, which are small, are computed as always."""
    register = nn.Module.register_parameter

    def registered(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        register(module, name, parameter)

    nn.Module.register_parameter = registered  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def empty_network(config: Json) -> Any:
    """A model of a configuration with its parameters on the meta device; raises ModelError, FormatError."""
    made, told = described(config)
    with parameters_on_meta(), torch.random.fork_rng(devices=[]), quiet():
        network: Any = made(told)
    claimed = sum(p.numel() * 4 for p in network.parameters())
    if claimed > LARGEST:
        raise FormatError(f"skeleton: tensors must take less than {LARGEST} bytes. Received {claimed}. Check the file.")
    return network.eval().requires_grad_(False)


def blocks_of(network: Any) -> str:
    """The name of the list of a decoder's blocks; raises ModelError where there is no one such list.

    It is the list of modules with as many entries as the configuration has layers that holds most of the weights.
    """
    config = network.config.get_text_config()
    count = int(getattr(config, "num_hidden_layers", 0) or 0)
    found = {
        name: sum(p.numel() for p in module.parameters())
        for name, module in network.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count and len({type(block) for block in module}) == 1
    }
    name = max(found, key=lambda one: found[one], default="")
    whole = sum(p.numel() for p in network.parameters())
    outer = sum(p.numel() for p in network.get_input_embeddings().parameters())
    if not name or 2 * found[name] < whole - 2 * outer:
        raise ModelError(
            f"model {type(network).__name__}: streaming needs a decoder with one list of {count} blocks of a kind, as "
            f"Llama, Mistral, Qwen, GPT-2 or Mixtral have. Received none. Leave --stream out."
        )
    return name


class Shards:
    """The tensors of a checkpoint by the part of the network that they belong to, read when they are asked for."""

    def __init__(self, network: Any, paths: Sequence[Path], blocks: str):
        """network must have its blocks; raises ModelError where weights are missing."""
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        self._mapping = get_model_conversion_mapping(network, None, None)
        renamings = [entry for entry in self._mapping if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in self._mapping if isinstance(entry, WeightConverter)]
        expected = network.state_dict()
        self._of: dict[str, list[tuple[str, Path]]] = {}
        found: set[str] = set()
        for path in paths:
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118
                    name, _ = rename_source_key(key, renamings, converters, network.base_model_prefix, expected)
                    if name not in expected and key in expected:
                        name = key
                    found.add(name)
                    self._of.setdefault(part_of(name, blocks), []).append((key, path))
        missing = [names[0] for names in same_tensors(network) if not found.intersection(names)]
        if missing and not any(len(entry.target_patterns) > 1 for entry in converters):
            raise _missing(missing)

    def fill(self, network: Any, part: str) -> None:
        """Give values to a block of the network (by its number) or to an outer tensor (by its name).

        Raises FormatError where a shape is not the model's.
        """
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        with ExitStack() as stack, quiet():
            files: dict[Path, Any] = {}
            slices = {}
            for key, path in self._of.get(part, []):
                if path not in files:
                    files[path] = stack.enter_context(safe_open(path, "pt"))
                slices[key] = files[path].get_slice(key)
            settings = LoadStateDictConfig(dtype=torch.float32, weight_mapping=deepcopy(self._mapping))
            told, _ = convert_and_load_state_dict_in_model(network, slices, settings)
        wrong = sorted(map(str, [*told.mismatched_keys, *told.conversion_errors, *told.error_msgs]))
        if wrong:
            raise FormatError(
                f"model: tensors must have the shapes that config.json says. Received another ({wrong[0][:200]}). "
                "Fetch the folder again."
            )


def part_of(name: str, blocks: str) -> str:
    """What `fill` calls the part that a tensor is in."""
    return name[len(blocks) + 1 :].partition(".")[0] if name.startswith(f"{blocks}.") else name


def same_tensors(network: nn.Module) -> list[list[str]]:
    """The names of each parameter, several where it is tied."""
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return list(names.values())


def check_filled(tensors: Mapping[str, Tensor]) -> None:
    """That every tensor of a part has values; raises ModelError."""
    empty = [name for name, tensor in tensors.items() if tensor.is_meta]
    if empty:
        raise _missing(empty)


def _missing(names: Sequence[str]) -> ModelError:
    return ModelError(
        f"model: every weight must be in its files. Received none for {', '.join(names[:3])} ({len(names)} in all), "
        "which transformers would draw at random. Fetch the folder again."
    )
