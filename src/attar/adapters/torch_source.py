"""A private copy of what the user hands over, with its tensors by name: a module, an exported program, or a script."""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from attar.errors import ModelError


@dataclass(slots=True)
class Source:
    """network is what runs, in eval mode; modes its training flags as they came; program the exported program, if it is
    one; tensors: parameters and buffers by name, tied ones under each name.
    """

    kind: Literal["module", "program", "script"]
    network: nn.Module
    modes: dict[str, bool]
    program: torch.export.ExportedProgram | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name."""
        found = dict(self.network.named_parameters(remove_duplicate=False))
        return found | dict(self.network.named_buffers(remove_duplicate=False))

    def saved_names(self) -> set[str]:
        """Names in the state dict; buffers that are not persistent are missing."""
        return set(self.program.state_dict if self.program is not None else self.network.state_dict())


def from_module(model: nn.Module) -> Source:
    """A deep copy without gradients and parametrisations; raises ModelError where the module cannot be copied."""
    try:
        network = deepcopy(model)
    except (RuntimeError, TypeError, NotImplementedError, AttributeError) as error:
        raise ModelError(
            f"model {type(model).__name__}: attar works on a deep copy. Received a module that cannot be copied "
            f"({error}). Define __deepcopy__ or pass a fresh instance without stored activations."
        ) from error
    if any(nn.parameter.is_lazy(p) for p in network.parameters()):
        raise ModelError(
            f"model {type(model).__name__}: all parameters must have a shape. Received a lazy module. Run it once "
            "before."
        )
    for parameter in network.parameters():
        parameter.grad = None
    modes = {name: module.training for name, module in network.named_modules()}
    _plain_weights(network.modules())
    network.eval()
    return Source("module", network, modes)


def _plain_weights(modules: Iterable[nn.Module]) -> None:
    """Replace weights that are computed from others (weight norm, spectral norm, ...) by their value."""
    for module in list(modules):
        if parametrize.is_parametrized(module):
            module.eval()
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        hooks: list[Any] = list(module._forward_pre_hooks.values())
        for hook in hooks:
            legacy: Any = {"WeightNorm": nn.utils.remove_weight_norm, "SpectralNorm": nn.utils.remove_spectral_norm}
            if type(hook).__name__ in legacy:
                legacy[type(hook).__name__](module, hook.name)


def from_program(program: torch.export.ExportedProgram) -> Source:
    """The module of an exported program, whose tensors it shares; no copy is made."""
    # Guards are Python code from the file; without them the shapes are still checked.
    known = "check_guards" in inspect.signature(program.module).parameters
    network = program.module(check_guards=False) if known else program.module()
    return Source("program", network, {}, program)


def copied(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """A copy by way of a file in memory; deepcopy may rename a graph's nodes, which torch.export.save then refuses."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    return torch.export.load(buffer)


def from_script(script: torch.jit.ScriptModule) -> Source:
    """A copy of a TorchScript module; raises ModelError where its weights are frozen into the code."""
    network = deepcopy(script)
    if not any(p.ndim > 1 for p in network.parameters()):
        raise ModelError(
            "TorchScript model: its weights must be parameters. Received a module without any (torch.jit.freeze makes "
            "them constants). Save it unfrozen, or use torch.export."
        )
    modes = {name: bool(getattr(module, "training", False)) for name, module in network.named_modules()}
    network.eval()
    return Source("script", network, modes)


def restored_modes(source: Source) -> nn.Module:
    """A copy of the network with its training flags as they came."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, about how it copies the graph's containers
        copy = deepcopy(source.network)
    for name, module in copy.named_modules():
        if name in source.modes:
            module.training = source.modes[name]
    return copy
