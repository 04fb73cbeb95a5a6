"""Open and save PyTorch's files without unpickling anything but tensors."""

from __future__ import annotations

import inspect
import re
import zipfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attar.adapters.torch import programs as torch_programs
from attar.adapters.torch.adapter import FactorySpec
from attar.adapters.torch.forms import COUNTER
from attar.adapters.torch.source import Source, copied, from_module, from_program, from_script, make_plain
from attar.adapters.torch.sparse import densified
from attar.errors import FormatError, ModelError, OutputError, UsageError
from attar.types import Array

SUFFIXES = {
    "module": (".safetensors", ".pt", ".pth"),
    "program": (".pt2", ".safetensors", ".pt", ".pth"),
    "script": (".pt", ".ts", ".pth", ".jit", ".torchscript"),
}
"""Endings that `save` takes for each kind of source; a module and a program have state dicts."""
WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""
PARAMETRISED = re.compile(r"\bparametrizations\.|_(g|v|orig)$")
"""Names of the parts that a weight under weight norm, spectral norm and their kin is made of."""


def source_of(model: Any) -> Source:
    """A private copy of a module, program, script, factory or file; raises ModelError, FormatError."""
    if isinstance(model, str | Path):
        return _from_file(Path(model))
    if isinstance(model, FactorySpec):
        return from_module(_made(model))
    if isinstance(model, torch.export.ExportedProgram):
        return from_program(copied(model))
    if isinstance(model, torch.jit.ScriptModule):
        return from_script(model)
    if isinstance(model, nn.Module):
        return from_module(model)
    raise ModelError(
        "torch: the model must be a Module, an ExportedProgram, a FactorySpec or a path. Received "
        f"{type(model).__name__}."
    )


def _from_file(path: Path) -> Source:
    if not path.is_file():
        raise ModelError(f"{path}: there must be a file. Received nothing there. Check the path.")
    if path.suffix == ".pt2":
        return from_program(torch_programs.read(path.read_bytes(), str(path)))
    if is_script(path):
        try:
            return from_script(torch.jit.load(str(path), map_location="cpu"))
        except RuntimeError as error:
            raise FormatError(
                f"{path}: it must be a TorchScript archive. Received a damaged one ({_first(error)}). Save it anew."
            ) from error
    state = read_state(path)
    raise ModelError(
        f"{path}: a state dict alone does not say what the model computes. Received {len(state)} tensors. "
        "Pass a factory: --factory package.module:function, or FactorySpec('package.module:function', path). "
        "Without one, save it by safetensors.torch.save_file, and compress that without data: --bits."
    )


def is_script(path: Path) -> bool:
    """Whether the file is a zip archive with TorchScript code in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict by name; raises FormatError for anything else, which is never unpickled."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise FormatError(
                f"{path}: it must be a safetensors file. Received a damaged one ({error}). Save it anew."
            ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        received = f"one that names {named[1]}" if named else f"one that holds others or is damaged ({_first(error)})"
        raise FormatError(
            f"{path}: only tensors are read from a checkpoint, never objects that run code. Received {received}. Save "
            "model.state_dict(), or export with torch.export.save."
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise FormatError(
            f"{path}: it must hold a state dict. Received {type(state).__name__}. Save model.state_dict()."
        )
    return densified(dict(state))


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__


def _made(spec: FactorySpec) -> nn.Module:
    """The factory's module with its state loaded."""
    module, _, name = spec.factory.partition(":")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"factory {spec.factory!r}: it must be 'package.module:function'. Received one that does not import "
            f"({error}). Check PYTHONPATH."
        ) from error
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"factory {spec.factory!r}: it must be a function without arguments. Received a "
            f"{type(function).__name__} ({_first(error) if callable(function) else 'not callable'}). Bind its "
            "arguments by functools.partial."
        ) from error
    made = function()
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"factory {spec.factory!r}: it must return a torch.nn.Module. Received {type(made).__name__}. Return "
            "the module."
        )
    if spec.state is not None:
        _load(made, Path(spec.state))
    return made


def _load(module: nn.Module, path: Path) -> None:
    """Load a state dict; of tied tensors one name is enough. Raises ModelError where it does not fit."""
    own = module.state_dict(keep_vars=True)
    state = _bare(read_state(path), own)
    if own.keys() - state.keys() and not any(PARAMETRISED.search(name) for name in state):
        make_plain(module)  # as attar saves it
        own = module.state_dict(keep_vars=True)
    given = {own[name].data_ptr() for name in state if name in own}
    absent = [name for name in own if name not in state and not name.endswith(COUNTER)]
    missing = [name for name in absent if own[name].data_ptr() not in given]
    extra = [name for name in state if name not in own]
    wrong = [
        f"{name} {list(state[name].shape)} for {list(own[name].shape)}"
        for name in state
        if name in own and state[name].shape != own[name].shape
    ]
    if missing or extra or wrong:
        parts = (("missing", missing), ("unknown", extra), ("of another shape", wrong))
        raise ModelError(
            f"{path}: the state dict must fit the factory's module. Received one with tensors "
            f"{'; '.join(f'{what}: {_listed(names)}' for what, names in parts if names)}. Check the class and its "
            "arguments."
        )
    module.load_state_dict(state, strict=False)


def _bare(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without what wrappers put before every name."""
    for prefix in WRAPPERS:
        if state.keys() - own.keys() and all(name.startswith(prefix) for name in state):
            return _bare({name.removeprefix(prefix): value for name, value in state.items()}, own)
    return state


def _listed(names: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def save(source: Source, path: Path) -> None:
    """Write the file in the format that fits the source; raises OutputError for an ending that does not."""
    if path.suffix not in SUFFIXES[source.kind]:
        raise OutputError(
            f"{path}: the ending must be one of {', '.join(SUFFIXES[source.kind])} for this model. Received "
            f"{path.suffix!r}. Rename the output."
        )
    if path.suffix == ".pt2" and source.program is not None:
        torch.export.save(source.program, path)
    elif source.kind == "script":
        source.network.save(str(path))  # type: ignore[operator]
    elif path.suffix == ".safetensors":
        from safetensors.torch import save_model

        save_model(source.network, str(path))
    else:
        torch.save(source.network.state_dict(), path)


def to_array(tensor: Tensor) -> Array:
    """A copy in the tensor's own dtype, bfloat16 and float8 as ml_dtypes has them."""
    plain = tensor.detach().cpu().contiguous()
    try:
        return np.array(plain.numpy())
    except TypeError:
        import ml_dtypes

        name = str(plain.dtype).removeprefix("torch.")
        wide = plain.view(torch.uint8 if plain.element_size() == 1 else torch.int16)
        return np.array(wide.numpy()).view(np.dtype(getattr(ml_dtypes, name))).reshape(tuple(plain.shape))


def from_array(array: Array, dtype: torch.dtype) -> Tensor:
    """The inverse of to_array."""
    values = np.array(array, order="C")
    if values.dtype.kind == "V" or values.dtype.name.startswith(("bfloat16", "float8")):
        plain = values.view(np.uint8 if values.dtype.itemsize == 1 else np.int16)
        return torch.from_numpy(plain).view(dtype).reshape(values.shape)
    return torch.from_numpy(values).to(dtype)


def as_tensor(array: Array) -> Tensor:
    """An array as a tensor with the same bits; raises UsageError for a dtype that PyTorch lacks."""
    dtype = getattr(torch, array.dtype.name, None)
    if not isinstance(dtype, torch.dtype):
        raise UsageError(
            f"tensor: PyTorch must have its dtype. Received {array.dtype.name}. Open the archive with framework='np'."
        )
    return from_array(array, dtype)


def check_same(rest: Mapping[str, Tensor], remainder: Mapping[str, Array]) -> None:
    """Raise ModelError unless both have the same names and shapes."""
    if set(rest) != set(remainder):
        missing, extra = sorted(set(rest) - set(remainder)), sorted(set(remainder) - set(rest))
        raise ModelError(
            f"remainder: its names must be the model's. Received {extra[:5]} too many, {missing[:5]} missing. Load "
            "into the model it came from."
        )
    for name, tensor in rest.items():
        if tuple(remainder[name].shape) != tuple(tensor.shape):
            raise ModelError(
                f"remainder {name!r}: the shape must be {tuple(tensor.shape)}. Received {remainder[name].shape}. "
                "Load into the model it came from."
            )
