"""A private copy of what the user hands over, with its tensors by name: a module, an exported program, or a script."""

from __future__ import annotations

import inspect
import io
import warnings
from copy import deepcopy
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from attar.errors import ModelError


@dataclass(slots=True)
class Source:
    """network is what runs, in eval mode; program the exported program, if it is one; outer the network in the wrapper
    that it came in (torch.compile, DataParallel), otherwise the network; modes are outer's training flags as they came.
    """

    kind: Literal["module", "program", "script"]
    network: nn.Module
    modes: dict[str, bool]
    program: torch.export.ExportedProgram | None = None
    outer: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.outer = self.network

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
        outer = deepcopy(model, _detached(model))
    except (RuntimeError, TypeError, NotImplementedError, AttributeError) as error:
        raise ModelError(
            f"model {type(model).__name__}: attar works on a deep copy. Received a module that cannot be copied "
            f"({error}). Define __deepcopy__ or pass a fresh instance."
        ) from error
    _check_parameters(outer)
    for parameter in outer.parameters():
        parameter.grad = None
    modes = {name: module.training for name, module in outer.named_modules()}
    make_plain(outer)
    outer.eval()
    source = Source("module", unwrapped(outer), modes)
    source.outer = outer
    _check_complete(source)
    return source


def _check_complete(source: Source) -> None:
    """That the state dict holds no tensors besides parameters and buffers; raises ModelError."""
    known = source.tensors
    others = [n for n, value in source.network.state_dict().items() if n not in known and isinstance(value, Tensor)]
    if others:
        raise ModelError(
            f"model {type(source.network).__name__}: its tensors must be parameters and buffers. Received a state dict "
            f"with others, such as {others[0]!r}, perhaps of a quantised module. Pass the model as it was before "
            "quantisation."
        )


def _detached(model: nn.Module) -> dict[int, Any]:
    """What deepcopy takes for copied already: results of computations that modules keep, which it would refuse.

    Such are stored activations, and weights under the older torch.nn.utils.weight_norm and spectral_norm.
    """
    kept = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return {id(tensor): tensor.detach().clone() for tensor in kept if not tensor.is_leaf}


def _check_parameters(model: nn.Module) -> None:
    """That every parameter has a shape and values; raises ModelError."""
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise ModelError(
                f"model {type(model).__name__}: all parameters must have a shape. Received a lazy module: {name!r} "
                "has none. Run it once before."
            )
        if parameter.is_meta:
            raise ModelError(
                f"model {type(model).__name__}: all parameters must have values. Received {name!r} on the meta device. "
                "Load its weights before."
            )


def unwrapped(module: nn.Module) -> nn.Module:
    """The user's own module inside torch.compile and data parallelism, whose names and signature it hides."""
    while True:
        if isinstance(module, nn.DataParallel | DistributedDataParallel):
            module = module.module
        elif type(module).__name__ == "OptimizedModule":
            module = module._orig_mod  # type: ignore[assignment]
        else:
            return module


def make_plain(network: nn.Module) -> None:
    """Replace weights that are computed from others (weight norm, spectral norm, ...) by their value, in place."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            _remove_parametrizations(module)
        hooks: list[Any] = list(module._forward_pre_hooks.values())
        for hook in hooks:
            legacy: Any = {"WeightNorm": nn.utils.remove_weight_norm, "SpectralNorm": nn.utils.remove_spectral_norm}
            if type(hook).__name__ in legacy:
                legacy[type(hook).__name__](module.eval(), hook.name)


def _remove_parametrizations(module: nn.Module) -> None:
    """Of all tensors of a module, each becoming a parameter with its present value."""
    # A copy shares its class, made for this one module, with the caller's; torch takes the property off the class.
    own = type(module)
    content = {name: value for name, value in vars(own).items() if name not in ("__dict__", "__weakref__")}
    module.__class__ = type(own.__name__, own.__bases__, content)
    module.eval()
    lists: Any = module.parametrizations
    for name in list(lists):
        trained = list(lists[name].parameters(recurse=False))
        parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        value = getattr(module, name)
        if trained and not isinstance(value, nn.Parameter):  # torch makes a buffer of what is frozen
            delattr(module, name)
            module.register_parameter(name, nn.Parameter(value.detach(), requires_grad=False))


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


def restored_modes(source: Source, *, copy: bool = True) -> nn.Module:
    """A copy of the network, or itself, in its wrapper, with its training flags as they came."""
    made = source.outer
    if copy:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, about how it copies the graph's containers
            made = deepcopy(source.outer)
    for name, module in made.named_modules():
        module.training = source.modes.get(name, False)
    if source.program is not None:
        made.eval = MethodType(_itself, made)  # type: ignore[method-assign]
    return made


def _itself(module: nn.Module) -> nn.Module:
    """eval() of an exported module, which torch refuses although it is in no other mode."""
    return module
