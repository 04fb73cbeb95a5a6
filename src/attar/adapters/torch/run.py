"""Runs one PyTorch network: plain, with hooks on the products of its layers, and its first batch with care."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.adapters.base import Batch
from attar.adapters.torch import inputs as torch_inputs
from attar.adapters.torch.axes import Place, find_places
from attar.adapters.torch.forms import Site
from attar.adapters.torch.products import Product
from attar.adapters.torch.source import Source
from attar.adapters.torch.taps import Hook, Watch, tapped
from attar.errors import AttarError, DataError, ModelError
from attar.types import Array

CPU = torch.device("cpu")
TRIED = 8
"""Examples of the first batch that a model is tried with."""


class Runner:
    """Remembers the shapes of the first batch and of its output; `flat` layers must put out two axes."""

    def __init__(self, source: Source, sites: Mapping[str, Site]) -> None:
        self._source, self._sites = source, sites
        self.signature = torch_inputs.Signature.of(source.network)
        self.example: dict[str, Array] = {}
        self.output: Array | None = None
        self.wanted: str | None = None
        """Which output is looked at, where it is not the first."""
        self.names = ["output"]
        """What the outputs of the last batch are called, the one that is looked at first."""
        self.flat: list[str] = []
        self._loops = any(site.form.kind == "recurrent" for site in sites.values())
        self._tried = False
        self._places: dict[str, list[Place | None]] | None = None

    def place(self) -> tuple[torch.dtype, torch.device]:
        """Dtype and device of the first parameter with a point."""
        for tensor in self._source.tensors.values():
            if tensor.is_floating_point():
                return tensor.dtype, tensor.device
        return torch.float32, CPU

    def arguments(self, batch: Batch) -> dict[str, Any]:
        """The batch as tensors and numbers by forward's names, its shape remembered."""
        arrays = self.signature.arguments({name: np.asarray(values) for name, values in batch.items()})
        if len({len(array) for array in arrays.values()}) != 1:
            raise DataError(
                "model inputs: all must have as many examples. Received "
                f"{ ({n: len(a) for n, a in arrays.items()}) }. Check the batch."
            )
        if not self.example:
            self.example = {n: np.zeros((torch_inputs.EXAMPLES, *a.shape[1:]), a.dtype) for n, a in arrays.items()}
        for name, array in arrays.items():
            known = self.example.get(name, array).dtype
            if known.kind == "f" and array.dtype.kind in "iu":
                arrays[name] = array.astype(known)
        dtype, device = self.place()
        return {
            name: torch_inputs.to_number(array, name)
            if name in self.signature.numbers
            else torch_inputs.to_tensor(array, dtype, device)
            for name, array in arrays.items()
        }

    def call(self, batch: Batch) -> Tensor:
        """The first output; see ready."""
        with undisturbed(self.place()[1], fused=not (self._loops and torch.is_grad_enabled())):
            args, kwargs = self.signature.split(self.arguments(batch))
            made = self._source.network(*args, **kwargs)
            first = torch_inputs.first_tensor(made, self.wanted)
            self.names = torch_inputs.in_order(made, self.wanted)
            return first

    @torch.no_grad()
    def ready(self, batch: Batch) -> None:
        """Before the first batch, outside of all hooks: whether the model takes it; raises ModelError."""
        if self._tried:
            return
        self._tried = True
        try:
            few = {name: values[:TRIED] for name, values in batch.items()}
            self._try(few)
            self._check_flat(few)
        except BaseException:
            self._tried = False
            raise

    def _try(self, batch: Batch) -> None:
        """Whether the model takes the batch; integers that it does not take are handed over as floats from now on."""
        try:
            torch_inputs.check_steady(self._source.network, lambda: self.call(batch), batch)
        except DataError:
            given = self.example
            self.example = {n: a.astype(np.float32) if a.dtype.kind in "iu" else a for n, a in given.items()}
            if all(array.dtype == self.example[name].dtype for name, array in given.items()):
                raise
            with suppress(AttarError):
                torch_inputs.check_steady(self._source.network, lambda: self.call(batch), batch)
                return
            self.example = given
            raise

    def _check_flat(self, batch: Batch) -> None:
        """Whether dense layers with a folded batch norm put out two axes."""

        def hook(product: Product) -> None:
            if product.y is not None and product.y.ndim != 2:
                raise ModelError(
                    f"layer {product.name!r}: a BatchNorm1d that follows a Linear must see one vector an example. "
                    f"Received outputs of shape {tuple(product.y.shape)}. Pass the model as torch.export has it."
                )

        if self.flat:
            self.tap(batch, self.flat, hook)

    def tap(self, batch: Batch, names: Sequence[str], hook: Hook) -> Tensor:
        """The first output, with a hook on every use of the named sites."""
        self.ready(batch)
        sites, examples = [self._sites[name] for name in names], len(next(iter(batch.values())))
        watch = Watch(sites, self._source.tensors, examples, hook)
        with tapped(watch, script=self._source.kind == "script"):
            return self.call(batch)

    @torch.no_grad()
    def run(self, batch: Batch) -> Array:
        """The first output, [n, ...], float32."""
        self.ready(batch)
        return self._noted(self.call(batch))

    @torch.no_grad()
    def watched(self, batch: Batch, names: Sequence[str], hook: Hook) -> Array:
        """The same with a hook on every use of the named sites."""
        return self._noted(self.tap(batch, names, hook))

    def perturbed(self, batch: Batch, perturb: Mapping[str, Array]) -> Array:
        """The same with something added to the outputs of layers; raises KeyError where that cannot be done."""
        for name in perturb:
            if not self.can_perturb(name):
                raise KeyError(name)
        places = self._places_of(batch)
        device = self.place()[1]
        deltas = {name: torch.tensor(np.asarray(delta, np.float32)).to(device) for name, delta in perturb.items()}
        calls = dict.fromkeys(deltas, 0)

        def hook(product: Product) -> Tensor:
            number = calls[product.name]
            calls[product.name] += 1
            place = (places.get(product.name, []) + [None] * (number + 1))[number]
            if place is None or product.y is None:
                raise KeyError(product.name)
            return product.shifted(deltas[product.name], place.axis, fastest=place.fastest)

        return self.watched(batch, list(deltas), hook)

    def _places_of(self, batch: Batch) -> dict[str, list[Place | None]]:
        """Where examples are in each layer's output; found with the first batch."""
        if self._places is None:
            names = [name for name in self._sites if self.can_perturb(name)]

            @torch.no_grad()
            def forward(probe: Batch, hook: Hook) -> object:
                return self.tap(probe, names, hook)

            self._places = find_places(forward, batch)
        return self._places

    def can_perturb(self, name: str) -> bool:
        """All but recurrent kernels, whose products are hidden in a loop, and tied weights."""
        site = self._sites[name]
        return site.form.kind != "recurrent" and site.tied_to is None

    def _noted(self, output: Tensor) -> Array:
        array = to_numpy(output)
        if self.output is None:
            self.output = array[:1].copy()
        return array


@contextmanager
def undisturbed(device: torch.device = CPU, *, fused: bool = True) -> Iterator[None]:
    """Within, random numbers start from a fixed state; the caller's generators are as before afterwards.

    On a GPU convolutions are in float32 there, and summed in one order, so that what was measured holds for the file
    on another machine; cuDNN's default is TensorFloat-32, which has 10 bits. fused: with cuDNN's kernels, which have no
    gradient of recurrent networks that are not in training.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        if device.type == "cuda":
            stack.enter_context(torch.random.fork_rng(devices=[device]))
            stack.enter_context(torch.backends.cudnn.flags(enabled=fused, deterministic=True, allow_tf32=False))
            torch.cuda.manual_seed(0)
        torch.default_generator.manual_seed(0)
        yield


def to_numpy(tensor: Tensor) -> Array:
    """A float32 copy on the CPU."""
    return np.array(tensor.detach().to("cpu", torch.float32).numpy())
