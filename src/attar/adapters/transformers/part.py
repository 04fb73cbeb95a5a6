"""One part of a decoder with its values: its matrices, its other tensors, and what it does to a few windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from attar.adapters.base import Gradients
from attar.adapters.moments import IdCounts
from attar.adapters.torch import files as torch_files
from attar.adapters.torch.fisher import add_squares, sampled_loss
from attar.adapters.torch.forms import Site, covered, memory
from attar.adapters.torch.gradients import pullback
from attar.adapters.torch.products import Product
from attar.adapters.torch.run import to_numpy, undisturbed
from attar.adapters.torch.taps import Hook, Watch, tapped
from attar.adapters.transformers.fisher import of_scores
from attar.adapters.transformers.moments import SharedMoments
from attar.errors import FormatError, ModelError
from attar.types import Array, Layer, Stats, Weight

Inputs = tuple[Array | None, Array]
"""States [n, t, d] (None before the first block), and ids [n, t]."""


class Part:
    """Its tensors may be read and written until the next part is opened.

    call: states and ids to states, or scores behind the last block; finish: scores and ids to what metrics look at.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        sites: Sequence[Site],
        dtype: torch.dtype,
        call: Callable[[Tensor | None, Tensor], Tensor],
        finish: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        self.tensors, self._dtype = dict(tensors), dtype
        self._sites = {site.name: site for site in sites}
        self._call, self._finish = call, finish

    @property
    def layers(self) -> list[Layer]:
        """Its matrices; those that are tied to one of another part are not among them."""
        return [site.layer() for site in self._sites.values() if site.tied_to is None]

    def read(self, name: str) -> Weight:
        """A layer's matrix and bias, float32 copies."""
        site = self._sites[name]
        bias = None if site.bias is None else to_numpy(site.bias.of(self.tensors))
        return Weight(to_numpy(site.form.matrix(self.tensors[name].detach())), bias)

    @torch.no_grad()
    def write(self, name: str, weight: Weight) -> None:
        """The inverse, rounded to the dtype of the folder; raises ModelError for another shape."""
        site = self._sites[name]
        if weight.matrix.shape != (site.form.rows, site.form.cols):
            raise ModelError(
                f"layer {name!r}: the matrix must be {(site.form.rows, site.form.cols)}. Received "
                f"{weight.matrix.shape}. Pass what read gives."
            )
        if site.bias is not None and weight.bias is not None:
            bias = site.bias.of(self.tensors)
            bias.copy_(self._rounded(torch.from_numpy(weight.bias)).reshape(bias.shape))
        matrix = self._rounded(torch.from_numpy(np.ascontiguousarray(weight.matrix, np.float32)))
        self.tensors[name].copy_(site.form.tensor(matrix, site.shape).reshape(self.tensors[name].shape))

    def _rounded(self, values: Tensor) -> Tensor:
        return values if self._dtype == torch.float32 else values.to(self._dtype).float()

    def remainder(self) -> dict[str, Array]:
        """All other tensors that a folder holds, by name, in its dtype."""
        return {
            name: torch_files.to_array(tensor.to(self._dtype) if tensor.is_floating_point() else tensor)
            for name, tensor in self._rest().items()
        }

    @torch.no_grad()
    def restore(self, remainder: Mapping[str, Array]) -> None:
        """Put the part's own of a remainder into it; raises FormatError where one is missing or of another shape."""
        for name, tensor in self._rest().items():
            value = remainder.get(name)
            if value is None or value.shape != tuple(tensor.shape):
                received = "none" if value is None else f"one of {value.shape}"
                raise FormatError(
                    f"archive: tensor {name!r} must be {tuple(tensor.shape)}. Received {received}. Fetch it again."
                )
            plain = np.asarray(value, np.float32) if tensor.is_floating_point() else value
            tensor.copy_(torch_files.from_array(plain, tensor.dtype).reshape(tensor.shape))

    def _rest(self) -> dict[str, Tensor]:
        taken = {memory(self.tensors[name]) for name in self._sites}
        taken |= covered(list(self._sites.values()), self.tensors)
        rest: dict[str, Tensor] = {}
        for name, tensor in self.tensors.items():
            if memory(tensor) not in taken:
                rest[name] = tensor
                taken.add(memory(tensor))
        return rest

    @torch.no_grad()
    def run(self, states: Array | None, ids: Array) -> Array:
        """States, or behind the last block what metrics look at: float32 [n, t or t - 1, ...]."""
        with undisturbed():
            tokens = torch.from_numpy(ids)
            made = self._call(_tensor(states), tokens)
            return to_numpy(made if self._finish is None else self._finish(made, tokens))

    @torch.no_grad()
    def moments(self, inputs: Iterable[Inputs], names: Sequence[str] | None = None) -> dict[str, Stats]:
        """Input statistics of its layers, those of names alone; a layer that nothing reached has none."""
        names = list(self._sites) if names is None else names
        shared = SharedMoments({name: self._sites[name] for name in names if self._sites[name].form.kind == "dense"})
        counts = {name: IdCounts(self._sites[name].form.cols) for name in names if name not in shared.sites}
        for states, ids in inputs:
            shared.begin(len(ids))

            def hook(product: Product, examples: int = len(ids)) -> None:
                if product.name in counts:
                    found = product.ids()
                    assert found is not None
                    counts[product.name].add(found, examples)
                else:
                    shared.add(product)

            self._watched(names, (states, ids), hook)
        found = {name: each.stats() for name, each in counts.items()}
        return {**shared.stats(), **{name: each for name, each in found.items() if each is not None}}

    def pull(
        self, inputs: Inputs, cotangent: Array | None, squares: dict[str, Array], rng: np.random.Generator
    ) -> tuple[Array | None, dict[str, tuple[Array, Array]]]:
        """Gradient of a score behind its input, from that behind its output (None at the end: labels are drawn).

        Adds squared gradients of every layer's outputs [rows] to squares, and gives for each table the ids that were
        looked up with the squared gradients of their vectors; see fisher.py.
        """
        probes: list[tuple[Product, Tensor]] = []
        last: list[Tensor] = []

        def hook(product: Product) -> Tensor | None:
            if product.y is None:
                return None
            probe = torch.zeros_like(product.y, requires_grad=True)
            probes.append((product, probe))
            last[:] = [product.y + probe]
            return last[0]

        states = _tensor(inputs[0])
        if states is not None:
            states.requires_grad_(True)
        with torch.enable_grad():
            made = self._watched(list(self._sites), (states, inputs[1]), hook)
            if cotangent is None:
                logits = made[:, :-1].float()
                target = sampled_loss(logits.reshape(-1, logits.shape[-1]), rng)
                wanted = None
            else:
                target, wanted = made, torch.from_numpy(cotangent)
            ends = [probe for _, probe in probes] + ([] if states is None else [states])
            gradients = torch.autograd.grad(target, ends, wanted, allow_unused=True) if ends else ()
        looked: dict[str, tuple[Array, Array]] = {}
        for (product, _), gradient in zip(probes, gradients, strict=False):
            if gradient is not None:
                rows = self._sites[product.name].form.rows
                total = squares.setdefault(product.name, np.zeros(rows))
                if cotangent is None and product is probes[-1][0] and made is last[0]:
                    total += of_scores(made.detach()[:, :-1])
                else:
                    add_squares(total, product, gradient)
                ids = product.ids()
                if ids is not None:
                    looked[product.name] = (ids, gradient.double().square().sum(-1).reshape(-1).numpy())
        return None if states is None or gradients[-1] is None else to_numpy(gradients[-1]), looked

    def pullback(self, inputs: Inputs, cotangent: Callable[[Array], Array]) -> Gradients:
        """Gradients of a scalar of the states behind it [n, t, d], whose own gradient by these `cotangent` gives.

        Of its matrices, their biases, and other parameters (scales of norms), not buffers; see adapters/base.py. Raises
        ModelError where an operation has none.
        """
        others = [name for name, tensor in self._rest().items() if isinstance(tensor, nn.Parameter)]
        states, tokens = _tensor(inputs[0]), torch.from_numpy(inputs[1])
        with undisturbed():
            return pullback(
                lambda: self._call(states, tokens), cotangent, list(self._sites.values()), self.tensors, others
            )

    def _watched(self, names: Sequence[str], inputs: tuple[Array | Tensor | None, Array], hook: Hook) -> Tensor:
        """The call with a hook on every use of the named layers."""
        states, ids = inputs
        given = states if isinstance(states, Tensor) else _tensor(states)
        watch = Watch([self._sites[name] for name in names], self.tensors, len(ids), hook)
        with undisturbed(), tapped(watch):
            return self._call(given, torch.from_numpy(ids))


def _tensor(states: Array | None) -> Tensor | None:
    return None if states is None else torch.from_numpy(np.ascontiguousarray(states, np.float32))
