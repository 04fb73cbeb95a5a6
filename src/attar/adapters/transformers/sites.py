"""Find the matrices of a transformer: by the class of their modules, and by their use in one run on a few tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attar.adapters.torch.calls import Call, Operand, name_of, parse
from attar.adapters.torch.forms import Site, dense_form, dtype_name, memory
from attar.adapters.torch.layers import find_sites, first_names, weights
from attar.adapters.torch.taps import Watch, tapped
from attar.adapters.transformers.load import Slices
from attar.types import Array, TensorSpec

TOKENS, EXAMPLES = 6, 2
FREE, SAMPLES = 224, 4000
"""What a free size of an image or of features is in the run, of which RT-DETR looks at 300 places at least, and of a
sound, of which models take 400 at least."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Sites with what was skipped and why; which are tables of positions, and whether there are experts."""

    sites: tuple[Site, ...]
    skipped: dict[str, str]
    positions: frozenset[str]
    experts: bool


class _Recorder(Watch):
    """Notes every use of a weight."""

    def __init__(self, tensors: dict[str, Tensor]):
        super().__init__([SimpleNamespace(name=name) for name in tensors], tensors, EXAMPLES, lambda _: None)  # type: ignore[misc]
        self.calls: list[Call] = []

    def call(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The function's result."""
        self.calls += parse(
            name_of(function), args, kwargs, self.find, lambda v: v.ndim if hasattr(v, "ndim") else None
        )
        return function(*args, **kwargs)


def example(specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """A batch that fits: different small ids, and zeros."""
    batch: dict[str, Array] = {}
    for spec in specs:
        if not spec.optional and spec.dtype == "int64":
            batch[spec.name] = np.arange(EXAMPLES * TOKENS).reshape(EXAMPLES, TOKENS) % 7 + 2
        elif not spec.optional:
            free = SAMPLES if len(spec.shape) == 2 else FREE
            sizes = [EXAMPLES, *(size or free for size in spec.shape[1:])]
            batch[spec.name] = np.random.default_rng(0).normal(size=sizes).astype(np.float32)
    return batch


def find(network: nn.Module, call: Callable[[], object], dtype: torch.dtype) -> Seen:
    """The sites, tied ones under each name; call runs the network on `example`.

    Of a weight that is both looked up and multiplied by (tied embeddings) the product counts: its inputs say more than
    counts do.
    """
    names = first_names(network)
    owners = {name: tensor for name, tensor in weights(network) if tensor.ndim > 1 and names[memory(tensor)] == name}
    recorder = _Recorder(owners)
    with torch.no_grad(), tapped(recorder):
        call()
    biases = {memory(t): n for n, t in network.named_parameters()}
    calls = [replace(c, bias=_named(c.bias, biases)) for c in recorder.calls if c.weight.rows is None]
    multiplied = {c.weight.name for c in calls if c.op == "product"}
    experts = _experts(network)
    found = find_sites(network, [*calls, *experts], names)
    tensors = dict(weights(network))
    sites = [_stored(site, names[memory(tensors[site.name])], multiplied, dtype) for site in found.sites]
    positions = {c.weight.name for c in calls if c.op == "lookup" and (c.x.ndim < 2 or c.x.shape[0] != EXAMPLES)}
    return Seen(tuple(sites), found.skipped, frozenset(positions), bool(experts))


def _experts(network: nn.Module) -> list[Call]:
    """The products of all experts, which a few tokens do not visit."""
    calls = []
    for name, module in network.named_modules():
        for place, matrix in enumerate(module if isinstance(module, Slices) else ()):
            perm = (1, 0) if module.transposed else (0, 1)
            operand = Operand(f"{name}.{place}", tuple(matrix.shape), perm)
            calls.append(Call("product", operand, dense_form(matrix.shape, perm), None))
    return calls


def _named(bias: Any, names: dict[tuple[int, ...], str]) -> str | None:
    return names.get(memory(bias)) if isinstance(bias, Tensor) else None


def _stored(site: Site, owner: str, multiplied: set[str], dtype: torch.dtype) -> Site:
    """The site in the dtype of the files, as a product where its owner is one."""
    form = site.form
    if form.kind == "embedding" and owner in multiplied:
        form = dense_form(site.shape)
    return replace(site, form=form, dtype=dtype_name(dtype))
