"""From named numpy batches to the arguments of a model's forward, and from what it returns to one array."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attar.adapters.leading import place_of
from attar.adapters.torch.calls import Call
from attar.errors import AttarError, DataError, ModelError
from attar.types import Array, TensorSpec

EXAMPLES = 2
"""Examples that are remembered in shape, for export: torch.export takes sizes 0 and 1 for constants."""
NUMBERS = {"int": "int64", "bool": "bool", "float": "float32"}
"""TorchScript's types of single numbers, and the dtypes of what the data give for them."""


@dataclass(frozen=True, slots=True)
class Signature:
    """forward's parameters: all names, and those without a default; none of either for forward(*args).

    numbers are the names, in TorchScript, of what is not a tensor but one number for all examples.
    """

    names: tuple[str, ...]
    required: tuple[str, ...]
    numbers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, network: nn.Module) -> Signature:
        """From Python's signature or TorchScript's schema; raises ModelError where inputs go by any name."""
        if isinstance(network, torch.jit.ScriptModule):
            forward: Any = network.forward
            arguments = forward.schema.arguments[1:]
            numbers = frozenset(a.name for a in arguments if str(a.type) in NUMBERS)
            required = tuple(a.name for a in arguments if not a.has_default_value())
            return cls(tuple(a.name for a in arguments), required, numbers)
        parameters = list(inspect.signature(network.forward).parameters.values())
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY, p.KEYWORD_ONLY)]
        if not named and not any(p.kind == p.VAR_POSITIONAL for p in parameters):
            raise ModelError(
                f"model {type(network).__name__}: forward must name its inputs. Received forward"
                f"{inspect.signature(network.forward)}. Wrap it in a module whose forward does."
            )
        return cls(tuple(p.name for p in named), tuple(p.name for p in named if p.default is p.empty))

    def arguments(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The batch by forward's names; a model with one input takes the only entry. Raises DataError."""
        if len(batch) == 1:
            (name, only), names = next(iter(batch.items())), self.required or self.names or tuple(batch)
            return {name if name in self.names else names[0]: only}
        unknown, missing = set(batch) - set(self.names), set(self.required) - set(batch)
        if self.names and (unknown or missing):
            raise DataError(
                f"model inputs: names must be those of forward, {list(self.names)}. "
                f"Received {sorted(batch)}. Rename the entries."
            )
        return {name: batch[name] for name in self.names or batch if name in batch}

    def split(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What is handed over by position, the leading parameters or all of forward(*args), and by name."""
        leading = list(takewhile(arguments.__contains__, self.names or arguments))
        rest = {name: value for name, value in arguments.items() if name not in leading}
        return tuple(arguments[name] for name in leading), rest


def to_tensor(array: Array, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers with a point in the model's dtype, whole numbers as int64, truth values as they are."""
    values = np.ascontiguousarray(array)
    if values.dtype.kind == "V" or values.dtype.name == "bfloat16":
        values = values.astype(np.float32)
    target = dtype if values.dtype.kind == "f" else torch.bool if values.dtype.kind == "b" else torch.int64
    return torch.tensor(values).to(device, target)


def to_number(array: Array, name: str) -> int | float | bool:
    """The one value that all examples [n] have; raises DataError where there are several."""
    values = np.unique(array)
    if len(values) != 1:
        raise DataError(
            f"model input {name!r}: it is one number for all examples. Received {len(values)} values, {values[:2]}. "
            "Compress with the data of one."
        )
    return values[0].item()  # type: ignore[no-any-return]


def check_steady(network: nn.Module, call: Callable[[], Tensor], batch: Mapping[str, Array]) -> None:
    """Raise DataError where the network fails on the batch, ModelError where it has two answers to it."""
    try:
        first, second = call(), call()
    except (AttarError, MemoryError):
        raise
    except Exception as error:
        given = ", ".join(f"{name} {list(values.shape)} {values.dtype}" for name, values in batch.items())
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[-1 if isinstance(error, torch.jit.Error) else 0][:200]
        raise DataError(
            f"model {type(network).__name__}: its forward must take the data. Received {given}, on which it failed "
            f"({reason}). Check shapes, dtypes and names."
        ) from error
    a, b = (answer.detach().float().cpu().numpy() for answer in (first, second))
    examples = len(next(iter(batch.values())))
    if a.shape[:1] != (examples,):
        raise ModelError(
            f"model {type(network).__name__}: the first axis of its first output must be that of the {examples} "
            f"examples. Received {list(a.shape)}. Wrap it in a module that returns its answers example by example, "
            "filled up to one length, or name another output."
        )
    scale = float(np.nan_to_num(np.abs(a)).max(initial=0))
    if a.shape != b.shape or not np.allclose(a, b, rtol=1e-2, atol=1e-3 * scale, equal_nan=True):
        raise ModelError(
            f"model {type(network).__name__}: the same examples must be answered the same way twice. Received "
            "different answers: it keeps a state between calls. Wrap it in a module that starts anew in each."
        )


def first_tensor(output: Any, wanted: str | None = None) -> Tensor:
    """The tensor that metrics look at: the output, its `logits`, or its first entry; raises ModelError.

    wanted: the entry to look at instead, by its key or place; raises UsageError where there is none.
    """
    if wanted is not None:
        entries = named(output)
        return first_tensor(list(entries.values())[place_of(wanted, list(entries))])
    if isinstance(output, Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    for value in _entries(output):
        if isinstance(value, Tensor | list | tuple | Mapping) or is_dataclass(value):
            return first_tensor(value)
    raise ModelError(
        f"model output: there must be a tensor in it. Received {type(output).__name__}. Return a tensor, tuple or dict."
    )


def named(output: Any) -> dict[str, Any]:
    """The entries of an output with a tensor in them, by their keys in a mapping, else by their places."""
    if isinstance(output, Tensor):
        return {"output": output}
    entries = output if isinstance(output, Mapping) else dict(enumerate(_entries(output)))
    return {str(key): value for key, value in entries.items() if _holds(value)}


def in_order(output: Any, wanted: str | None) -> list[str]:
    """The names of an output's entries, the one that `first_tensor` looks at first."""
    names = list(named(output))
    own = names.index("logits") if "logits" in names else 0
    return [names.pop(own if wanted is None else place_of(wanted, names)), *names]


def _holds(value: Any) -> bool:
    """Whether there is a tensor in it."""
    return isinstance(value, Tensor) or any(map(_holds, _entries(value)))


def _entries(output: Any) -> Iterable[Any]:
    """What an output is made of."""
    if isinstance(output, Mapping):
        return output.values()
    if is_dataclass(output):
        return [getattr(output, field.name) for field in fields(output)]
    return output if isinstance(output, list | tuple) else ()


def expected(call: Call, name: str) -> TensorSpec:
    """What an input must be that is handed straight to this call: a convolution tells channels and rank, a lookup ids.

    An empty shape says that nothing is known: a dense layer takes any number of axes.
    """
    shape = call.weight.shape
    if call.op in ("conv", "conv_transpose"):
        channels = shape[0] if call.op == "conv_transpose" else shape[1] * call.form.groups
        return TensorSpec(name, "float32", (None, channels, *[None] * (len(shape) - 2)))
    return TensorSpec(name, "int64" if call.op in ("lookup", "bag") else "float32", ())


def guessed(name: str) -> TensorSpec:
    """An input of which only the name is known; ids and masks are whole numbers by custom, torch's own masks bools."""
    if name.endswith(("padding_mask", "pad_mask")):
        return TensorSpec(name, "bool", (), guessed=True)
    return TensorSpec(name, "int64" if name.endswith(("ids", "mask")) else "float32", (), guessed=True)


def specification(name: str, array: Array) -> TensorSpec:
    """Name, dtype and shape with a free batch of what was seen."""
    return TensorSpec(name, array.dtype.name, (None, *array.shape[1:]))
