"""One PyTorch model as canonical matrices: a module, an exported program (.pt2) or TorchScript."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from attar.adapters.base import Batch, Gradients
from attar.adapters.parts import in_parts
from attar.adapters.torch import files as torch_files
from attar.adapters.torch import inputs as torch_inputs
from attar.adapters.torch import skeleton as torch_skeleton
from attar.adapters.torch import sparse as torch_sparse
from attar.adapters.torch.adapter import TorchAdapter
from attar.adapters.torch.fisher import fisher
from attar.adapters.torch.fold import fold
from attar.adapters.torch.forms import COUNTER, Site, covered, memory
from attar.adapters.torch.gradients import pullback
from attar.adapters.torch.graph import exported, scaled_by, trace
from attar.adapters.torch.layers import find_sites, first_names
from attar.adapters.torch.moments import gathered
from attar.adapters.torch.products import Product
from attar.adapters.torch.run import Runner, to_numpy
from attar.adapters.torch.script import script_graph
from attar.adapters.torch.source import Source, restored_modes
from attar.adapters.torch.taps import Hook
from attar.errors import ModelError
from attar.structure.base import Structure
from attar.structure.groups import Coupled
from attar.types import Array, Capture, Layer, Stats, TensorSpec, Weight


class TorchModel(TorchAdapter):
    """One PyTorch model; see adapters/base.py for the laws."""

    def __init__(
        self, source: Source, sites: Sequence[Site], skipped: Mapping[str, str], constants: Mapping[str, float]
    ):
        self._source = source
        self._sites = {site.name: site for site in sites}
        self._skipped = dict(skipped)
        self._constants = dict(constants)
        self._runner = Runner(source, self._sites)
        self._declared: Mapping[str, TensorSpec] = {}
        self._scaled = frozenset[str]()
        self._exact: dict[str, tuple[Array, Tensor]] = {}
        self.suffixes = torch_files.SUFFIXES[source.kind]
        if source.kind == "script":
            self.fisher = None  # type: ignore[method-assign,assignment]  # gradients inside a script are not visible

    @classmethod
    def opened(cls, model: object) -> Self:
        """See TorchAdapter.open."""
        return cls.over(torch_files.source_of(model))

    @classmethod
    def over(cls, source: Source) -> Self:
        """An adapter that takes over a private source; raises ModelError where there is nothing to compress."""
        names = first_names(source.network)
        if source.program is not None:
            graph = exported(source.program)
        else:
            graph = script_graph(source.network) if source.kind == "script" else trace(source.network, names)
        found = find_sites(source.network, graph.calls, names)
        if not found.sites:
            raise ModelError(
                f"model {type(source.network).__name__}: it must have a weight that is a matrix. Received none. "
                f"{_reasons(found.skipped)}"
            )
        sites, constants = fold(graph.norms, found.sites, source.tensors)
        adapter = cls(source, sites, found.skipped, constants)
        adapter._declared = graph.inputs
        adapter._scaled = graph.scaled if source.program is None else scaled_by(source.program, source.tensors)
        adapter._runner.flat = [norm.layer for norm in graph.norms if norm.flat and norm.weight in constants]
        return adapter

    @property
    def network(self) -> torch.nn.Module:
        """The private copy."""
        return self._source.network

    @property
    def device(self) -> torch.device:
        """Where its weights are, and runs."""
        return self._runner.place()[1]

    def inputs(self) -> Sequence[TensorSpec]:
        """The model's inputs as the graph or the first batch shows them; an empty shape says that it is not known."""
        return [replace(spec, scales_pixels=spec.name in self._scaled) for spec in self._specs()]

    def _specs(self) -> list[TensorSpec]:
        if self._runner.example:
            return [torch_inputs.specification(name, array) for name, array in self._runner.example.items()]
        names = self._runner.signature.required or self._runner.signature.names[:1] or ("input",)
        needed = [self._declared.get(name) or torch_inputs.guessed(name) for name in names]
        others = [torch_inputs.guessed(name) for name in self._runner.signature.names if name not in names]
        return [*needed, *(replace(spec, optional=True) for spec in others)]

    def outputs(self) -> Sequence[TensorSpec]:
        """The output that metrics look at, and the names of the others; an empty shape until a batch was run."""
        if self._runner.output is None:
            return [TensorSpec("output", "float32", ())]
        first, *others = self._runner.names
        seen = torch_inputs.specification(first, self._runner.output)
        return [seen, *(TensorSpec(name, "float32", ()) for name in others)]

    def lead(self, output: str) -> None:
        """From now on this output is looked at; that it is there is seen when the model is run."""
        self._runner.wanted, self._runner.output = output, None

    def layers(self) -> Sequence[Layer]:
        """Every compressible weight, in the order of the state dict."""
        return [site.layer() for site in self._sites.values()]

    def skipped(self) -> Mapping[str, str]:
        """Parameters and buffers of two or more axes that are left as they are, with the reason."""
        return dict(self._skipped)

    def read(self, name: str) -> Weight:
        """The canonical matrix and bias, float32 copies; raises KeyError for a tied weight that another one owns."""
        site, tensors = self._owner(name), self._source.tensors
        bias = None if site.bias is None else to_numpy(site.bias.of(tensors))
        return Weight(to_numpy(site.form.matrix(tensors[name].detach())), bias)

    @torch.no_grad()
    def write(self, name: str, weight: Weight) -> None:
        """The exact inverse of read, rounded to the parameter's dtype; a float64 weight just read keeps its digits."""
        site, tensors = self._owner(name), self._source.tensors
        if weight.matrix.shape != (site.form.rows, site.form.cols):
            raise ModelError(
                f"layer {name!r}: the matrix must be {(site.form.rows, site.form.cols)}. Received "
                f"{weight.matrix.shape}. Pass what read gives."
            )
        if site.bias is not None and weight.bias is not None:
            self._put(f"{name}/bias", site.bias.of(tensors), torch.tensor(np.asarray(weight.bias, np.float32)))
        matrix = torch.tensor(np.asarray(weight.matrix, np.float32))
        self._put(name, tensors[name], site.form.tensor(matrix, site.shape))

    def _put(self, key: str, target: Tensor, value: Tensor) -> None:
        """Copy, but keep the digits of a float64 tensor beyond float32 where the value is its own rounding."""
        if target.dtype == torch.float64:
            original = self._exact.setdefault(key, (to_numpy(target), target.detach().clone()))
            if np.array_equal(original[0], value.numpy()):
                target.copy_(original[1])
                return
        target.copy_(value.reshape(target.shape))

    def capture(self, batches: Iterable[Batch], only: Sequence[str] | None = None) -> Iterator[Capture]:
        """What each layer saw, one Capture per call of a layer."""
        for batch in batches:
            found: list[Capture] = []

            def hook(product: Product, found: list[Capture] = found) -> None:
                ids = product.ids()
                x, y = None if ids is not None else product.columns(), product.rows()
                # Copies: the model may go on to change its tensors in place.
                found.append(Capture(product.name, *(None if a is None else np.array(a) for a in (x, y, ids))))

            self._runner.watched(batch, self._wanted(only), hook)
            yield from found

    def moments(self, batches: Iterable[Batch], only: Sequence[str] | None = None) -> Mapping[str, Stats]:
        """Input statistics; convolutions by a seeded sample of their patches (unfold.pick)."""
        wanted = self._wanted(only)
        return gathered(lambda batch, hook: self._runner.watched(batch, wanted, hook), self._sites, batches)

    def run(self, batch: Batch, perturb: Mapping[str, Array] | None = None) -> Array:
        """The first output, [n, ...], float32; see the protocol for perturb."""

        def one(part: Batch, deltas: Mapping[str, Array] | None) -> Array:
            return self._runner.perturbed(part, deltas) if deltas else self._runner.run(part)

        return in_parts(one, batch, perturb)

    def can_perturb(self, name: str) -> bool:
        """All but recurrent kernels, whose products are hidden in a loop, and tied weights."""
        return self._runner.can_perturb(name)

    def fisher(self, batches: Iterable[Batch], seed: int = 0) -> Mapping[str, Array]:
        """Row sensitivities [rows] by gradients, in nats per squared unit; see fisher.py."""
        names = [name for name in self._sites if self.can_perturb(name)]

        def forward(batch: Batch, hook: Hook) -> Tensor:
            return self._runner.tap(batch, names, hook)

        return fisher(forward, batches, {name: self._sites[name].form.rows for name in names}, seed)

    def pullback(self, batch: Batch, cotangent: Callable[[Array], Array]) -> Gradients:
        """Gradients of weights, biases and other parameters; see adapters/base.py and torch/gradients.py."""
        self._runner.ready(batch)
        sites = [site for site in self._sites.values() if site.tied_to is None]
        parameters = dict(self._source.network.named_parameters(remove_duplicate=False))
        others = [name for name in self._rest() if name in parameters]
        return pullback(lambda: self._runner.call(batch), cotangent, sites, self._source.tensors, others)

    def remainder(self) -> Mapping[str, Array]:
        """All other parameters and buffers by name, each once; constants of folded batch norms are not in it."""
        return {name: torch_files.to_array(tensor) for name, tensor in self._rest().items()}

    @torch.no_grad()
    def restore(self, remainder: Mapping[str, Array]) -> None:
        """Put a remainder into the model; raises ModelError where names or shapes differ, before anything changes."""
        rest = self._rest()
        torch_files.check_same(rest, remainder)
        for name, tensor in rest.items():
            tensor.copy_(torch_files.from_array(remainder[name], tensor.dtype).reshape(tensor.shape))

    def skeleton(self) -> bytes:
        """The graph as torch.export has it, without weights or code; the shapes are those of the first batch that ran.

        Raises ModelError before any batch ran, for TorchScript, and for modules that torch.export does not take.
        """
        return torch_skeleton.dump(
            self._source, list(self._sites.values()), self._skipped, self._constants, self._runner.example, self._rest()
        )

    @classmethod
    def rebuilt(cls, skeleton: bytes, remainder: Mapping[str, Array]) -> Self:
        """See TorchAdapter.rebuild."""
        parts = torch_skeleton.load(skeleton)
        adapter = cls(parts.source, parts.sites, parts.skipped, parts.constants)
        adapter._runner.example = parts.example
        adapter.restore(remainder)
        if parts.source.program is not None:
            adapter._scaled = scaled_by(parts.source.program, parts.source.tensors)
        return adapter

    def program(self) -> torch.export.ExportedProgram:
        """The model as torch.export has it, over the adapter's own tensors; raises ModelError where there is none.

        Of a module on a GPU it is that of a copy on the CPU.
        """
        return torch_skeleton.program_of(self._source, self._runner.example)

    def tensors_of(self, batch: Batch) -> list[Any]:
        """The batch as the program takes it, in the order of its inputs."""
        arguments = self._runner.arguments(batch)
        args, kwargs = self._runner.signature.split(arguments)
        return [arguments[name] for name in self._runner.example] if kwargs else list(args)

    def structure(self) -> Structure:
        """Channels that can be removed; raises ModelError before any batch ran, and for all but traceable modules."""
        return self._coupled.structure

    @cached_property
    def _coupled(self) -> Coupled:
        from attar.adapters.torch.groups import coupled_network

        def arguments(batch: Batch) -> tuple[Any, Any]:
            return self._runner.signature.split(self._runner.arguments(batch))

        zeros = [name for name, value in self._constants.items() if value == 0]
        return coupled_network(self._source, self._runner.example, arguments, zeros)

    def copied(self) -> Self:
        """A new adapter over a copy of the model."""
        return self.shrunk({})

    def shrunk(self, keep: Mapping[str, Array]) -> Self:
        """A new adapter over a smaller module of the same class; this one is unchanged. Raises UsageError, ModelError.

        It is tried on an example: code that counts channels by itself would fail.
        """
        from attar.adapters.torch.shrink import runs, shrunk

        smaller = type(self).over(shrunk(self._source, self._coupled, keep))
        smaller._runner.wanted = self._runner.wanted
        runs(self._source.network, lambda: smaller.run(self._runner.example))
        return smaller

    def model(self) -> Any:
        """A module of the class that came in and in its mode, a module of the exported program, or a ScriptModule.

        It is on the device of the one that came in.
        """
        return restored_modes(self._source)

    def packed(self, weight_of: Callable[[str], Weight], names: Sequence[str], keep_bytes: int = 0) -> Any:
        """The adapter's own network, which decodes the weights of these layers whenever it reads them.

        weight_of gives a layer's weight. Biases are put into the network; so are recurrent kernels, which torch keeps
        references to. The adapter is of no use afterwards.
        """
        from attar.adapters.torch.packed import Store, hold

        plain = {name for name in names if self._sites[name].form.kind == "recurrent"}
        device = self.device
        for name in names:
            weight = weight_of(name)
            site = self._owner(name)
            if name in plain:
                self.write(name, weight)
            elif site.bias is not None and weight.bias is not None:
                bias = site.bias.of(self._source.tensors)
                bias.data.copy_(torch.tensor(np.asarray(weight.bias, np.float32)).to(getattr(torch, site.dtype)))

        def decoded(name: str) -> Tensor:
            site = self._sites[name]
            matrix = torch.tensor(np.asarray(weight_of(name).matrix, np.float32))
            return site.form.tensor(matrix, site.shape).to(device, getattr(torch, site.dtype)).contiguous()

        owners = {site.name: site.tied_to or site.name for site in self._sites.values()}
        held = {name: owner for name, owner in owners.items() if owner in names and owner not in plain}
        hold(self._source.network, Store(decoded, keep_bytes), held)
        return restored_modes(self._source, copy=False)

    def save(self, path: Path) -> None:
        """A .pt2 or TorchScript as it came in, or a state dict: .safetensors, .pt for torch.load(weights_only=True)."""
        torch_files.save(self._source, Path(path))

    @property
    def sparse_suffixes(self) -> tuple[str, ...]:
        """Those of state dicts, which scripts do not have."""
        return () if self._source.kind == "script" else torch_sparse.SUFFIXES

    def save_sparse(self, path: Path) -> Mapping[str, tuple[int, int]]:
        """A state dict whose dense layers are CSR tensors where these are smaller; raises OutputError."""
        dense = [site.name for site in self._sites.values() if site.layer().kind == "dense"]
        return torch_sparse.save_sparse(self._source, Path(path), dense)

    def _owner(self, name: str) -> Site:
        site = self._sites[name]
        if site.tied_to is not None:
            raise KeyError(f"{name} is tied to {site.tied_to}")
        return site

    def _rest(self) -> dict[str, Tensor]:
        """The tensors of the remainder: saved ones that are no layer's weight or bias, no constant, no counter."""
        tensors = self._source.tensors
        taken = {memory(tensors[site.name]) for site in self._sites.values()}
        taken |= covered([site for site in self._sites.values() if site.tied_to is None], tensors)
        rest: dict[str, Tensor] = {}
        for name in tensors:
            tensor = tensors[name]
            spare = name in self._constants or name.endswith(COUNTER) or memory(tensor) in taken
            if name in self._source.saved_names() and not spare:
                rest[name] = tensor
                taken.add(memory(tensor))
        return rest

    def _wanted(self, only: Sequence[str] | None) -> list[str]:
        names = self._sites if only is None else only
        return [name for name in names if self._sites[name].tied_to is None]


def _reasons(skipped: Mapping[str, str]) -> str:
    listed = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:5])
    return f"Skipped: {listed}." if listed else "Pass a model with parameters of two or more axes."
