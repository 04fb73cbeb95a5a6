"""See every use of a model's parameters while it runs, whatever module, function or script makes it.

A torch function mode sees the calls of eager code and of exported graphs, above autograd; a dispatch mode sees the
operators that TorchScript's interpreter runs, below it. Both look the arguments up by the memory they share with a
parameter, so that transposed, split or tied weights are found too. Nothing is left behind.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import permutations
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from attar.adapters.torch.calls import Call, Operand, name_of, parse
from attar.adapters.torch.forms import Site
from attar.adapters.torch.products import Product
from attar.adapters.torch.recurrent import unroll

Hook = Callable[[Product], Tensor | None]
"""Called with every use of a site; returns the output to go on with, or None to keep it."""


class Watch:
    """Finds the sites among the arguments of calls, and tells the hook."""

    def __init__(self, sites: Sequence[Site], tensors: Mapping[str, Tensor], examples: int, hook: Hook):
        self.sites = {site.name: site for site in sites}
        self.hook = hook
        self.examples = examples
        self._owners: dict[int, list[tuple[str, Tensor]]] = {}
        for name in self.sites:
            tensor = tensors[name]
            self._owners.setdefault(tensor.untyped_storage().data_ptr(), []).append((name, tensor))

    def find(self, value: Any) -> Operand | None:
        """The operand that a tensor is, by its memory."""
        if not isinstance(value, Tensor) or value.layout != torch.strided or not self._owners:
            return None
        for name, owner in self._owners.get(value.untyped_storage().data_ptr(), ()):
            operand = _as_operand(name, owner, value)
            if operand is not None:
                return operand
        return None

    def call(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The function's result, seen and perhaps changed by the hook."""
        calls = [c for c in parse(name_of(function), args, kwargs, self.find, _ndim) if self._fits(c)]
        result = function(*args, **kwargs)
        if calls and calls[0].op == "loop":
            for call in unroll(function, args, kwargs, calls):
                self.hook(Product(call, None, self.examples))
            return result
        for call in calls:
            y = None if call.op == "states" else result[0] if isinstance(result, tuple) else result
            changed = self.hook(Product(call, y, self.examples))
            if changed is not None:
                result = (changed, *result[1:]) if isinstance(result, tuple) else changed
        return result

    def _fits(self, call: Call) -> bool:
        """Whether the weight is used in the form the site has; not so for the second role of a tied weight."""
        site = self.sites[call.weight.name]
        lookup = call.op in ("lookup", "bag")
        sizes = call.op != "product" or _sizes_agree(call)
        return lookup == (site.form.kind == "embedding") and call.form.same_matrix(site.form) and sizes


def _ndim(value: Any) -> int | None:
    return value.ndim if isinstance(value, Tensor) else None


def _sizes_agree(call: Call) -> bool:
    """Whether equal labels have equal sizes, so that nothing is broadcast along a group or a column."""
    inputs, own, _ = call.labels
    if not isinstance(call.x, Tensor) or len(inputs) != call.x.ndim:
        return False
    size = {label: call.weight.shape[axis] for label, axis in zip(own, call.weight.perm, strict=True)}
    return all(size.get(label, n) == n for label, n in zip(inputs, call.x.shape, strict=True))


def _as_operand(name: str, owner: Tensor, value: Tensor) -> Operand | None:
    """The value as a permutation of its owner, or as some of its rows."""
    if value.ndim != owner.ndim or value.dtype != owner.dtype:
        return None
    shape = tuple(owner.shape)
    for perm in permutations(range(owner.ndim)):
        view = owner.permute(perm)
        if value.stride() != view.stride() and value.numel() > 1:
            continue
        if value.shape == view.shape and value.storage_offset() == view.storage_offset():
            return Operand(name, shape, perm)
        part = _part(owner, value, perm)
        if part is not None:
            return Operand(name, shape, perm, part)
    return None


def _part(owner: Tensor, value: Tensor, perm: tuple[int, ...]) -> tuple[int, int] | None:
    """The rows [start, stop) of a matrix that the value is."""
    sizes = [value.shape[perm.index(axis)] for axis in range(owner.ndim)]
    ahead = value.storage_offset() - owner.storage_offset()
    if owner.ndim != 2 or sizes[1] != owner.shape[1] or not owner.stride(0) or ahead % owner.stride(0):
        return None
    start = ahead // owner.stride(0)
    return (start, start + sizes[0]) if 0 <= start <= owner.shape[0] - sizes[0] else None


class _FunctionTap(TorchFunctionMode):
    """Above autograd: eager code and exported graphs."""

    def __init__(self, watch: Watch):
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Each call of torch's API; attention is run step by step, so that its projections are seen."""
        if func is functional.multi_head_attention_forward:
            with self:
                return _attention(*args, **(kwargs or {}))
        return self.watch.call(func, args, kwargs or {})


class _DispatchTap(TorchDispatchMode):
    """Below autograd: what TorchScript runs."""

    def __init__(self, watch: Watch):
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Each operator."""
        return self.watch.call(func, args, kwargs or {})


def _step_by_step(function: Any) -> Any:
    """A function of torch.nn.functional that does not hand itself to a mode as a whole, with globals of its own."""
    scope = {**vars(functional), "has_torch_function": lambda _: False}
    copy = FunctionType(function.__code__, scope, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


_attention = _step_by_step(functional.multi_head_attention_forward)


@contextmanager
def tapped(watch: Watch, *, script: bool = False) -> Iterator[None]:
    """Within, every use of the watched sites is seen."""
    if not script:
        with _FunctionTap(watch):
            yield
        return
    with ExitStack() as stack:
        if any(site.form.kind == "recurrent" for site in watch.sites.values()):
            # The fused recurrent kernels would hide the products.
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", UserWarning)  # torch's own, on flags of other devices
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))  # type: ignore[no-untyped-call]
        stack.enter_context(torch.jit.optimized_execution(False))  # type: ignore[no-untyped-call,attr-defined]
        stack.enter_context(_DispatchTap(watch))
        yield
