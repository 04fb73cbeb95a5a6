"""Gradients of ONNX models with respect to canonical matrices, biases and other trained tensors, through PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from attar.adapters.base import Gradients
from attar.adapters.onnx.chain import Chain, resolve
from attar.adapters.onnx.forms import gather
from attar.adapters.onnx.graph import is_op, scopes
from attar.adapters.onnx.sites import Bias, Site
from attar.adapters.onnx.tensors import Slot, Store
from attar.adapters.onnx.torch import Program
from attar.adapters.onnx.torch_spec import REMEDY
from attar.errors import ModelError
from attar.types import Array, Weight

ROLES: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2), "LayerNormalization": (1, 2), "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2), "SkipLayerNormalization": (2, 3, 4), "EmbedLayerNormalization": (5, 6),
    "Conv": (2,), "FusedConv": (2,), "ConvTranspose": (2,), "Gemm": (2,), "Attention": (2,), "PRelu": (1,),
    "LSTM": (3,), "GRU": (3,), "RNN": (3,),
}  # fmt: skip
"""Inputs that are scales and biases, by operator."""
SUMS = ("Add", "Mul")
"""Operators whose constant operand is a bias or scale where it is a vector: norms may be exported in parts."""

Piece = tuple[Mapping[str, Array], int]
"""Inputs as the model takes them, and how many of their examples are no repetition."""


class Pullback:
    """One model's gradients: the graph is converted once, and stored tensors are read anew where they have changed."""

    def __init__(self, store: Store, sites: Sequence[Site], rest: set[str], output: str) -> None:
        """sites own their weights; rest: names of the remainder. Raises ModelError for an operator without gradient."""
        self._sites = sites
        self._others = _trained(store, sites, rest)
        biases = [site.bias.chain.slot for site in sites if site.bias is not None]
        slots = [*(site.chain.slot for site in sites), *biases, *self._others.values()]
        self._slots = {slot.name: slot for slot in slots}
        self._program = Program(store, output, self._slots)

    def __call__(self, pieces: Iterable[Piece], cotangent: Callable[[Array], Array]) -> Gradients:
        """See adapters/base.py."""
        with torch.enable_grad():
            outputs = [self._program(inputs)[:count] for inputs, count in pieces]
            output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        seed = np.asarray(cotangent(output.detach().to(torch.float32).numpy()))
        leaves = [self._program.tensor(slot) for slot in self._slots.values()]
        try:
            found = torch.autograd.grad(output, leaves, torch.tensor(seed).to(output), allow_unused=True)
        except RuntimeError as error:
            raise ModelError(
                "model: every operation between the weights and the output must have a gradient. "
                f"Received {error} {REMEDY}"
            ) from error
        by_name = {name: _numpy(g) for name, g in zip(self._slots, found, strict=True) if g is not None}
        return Gradients(
            {site.layer.name: _weight(site, by_name) for site in self._sites if site.chain.slot.name in by_name},
            {name: by_name[name] for name in self._others if name in by_name},
        )


def _trained(store: Store, sites: Sequence[Site], rest: set[str]) -> dict[str, Slot]:
    """Scales and biases of the remainder, by their roles.

    Without the scale of a folded batch norm and the bias before it: the layer's own rows and bias say as much.
    """
    folded = {site.norm.scale.name for site in sites if site.norm is not None}
    folded |= {site.prior.chain.slot.name for site in sites if site.prior is not None}
    found = {}
    for scope in scopes(store).all():
        for node in scope.graph.node:
            places = (0, 1) if is_op(node, *SUMS) else ROLES.get(node.op_type, ())
            for name in [node.input[place] for place in places if place < len(node.input) and node.input[place]]:
                chain = resolve(scope, name)
                if chain is not None and (not is_op(node, *SUMS) or _is_vector(chain.slot)):
                    found[chain.slot.name] = chain.slot
    return {
        name: slot
        for name, slot in found.items()
        if name in rest and name not in folded and slot.dtype.name in ("float16", "float32", "float64")
    }


def _is_vector(slot: Slot) -> bool:
    return prod(slot.shape) > 1 and max(slot.shape) == prod(slot.shape)


def _weight(site: Site, found: Mapping[str, Array]) -> Weight:
    """One site's gradients as `read` gives its values."""
    matrix = np.ascontiguousarray(site.form.matrix(_seen(site.chain, found[site.chain.slot.name])))
    return Weight(matrix, None if site.bias is None else _bias(site.bias, found))


def _bias(bias: Bias, found: Mapping[str, Array]) -> Array:
    whole = found.get(bias.chain.slot.name)
    if whole is None:
        return np.zeros(prod(bias.sizes), np.float32)
    return np.ascontiguousarray(gather(_seen(bias.chain, whole), bias.axes, bias.sizes))


def _seen(chain: Chain, gradient: Array) -> Array:
    """The gradient of a stored tensor in the layout that the operator sees, in float32 whatever the steps cast to."""
    for step in chain.steps:
        if not is_op(step.node, "Cast"):
            gradient = step.forward(gradient)
    return gradient


def _numpy(gradient: Tensor) -> Array:
    return gradient.to(torch.float32).numpy()
