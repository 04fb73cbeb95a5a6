"""ONNX models: a file or a ModelProto, read and written by `onnx`, run by `onnxruntime`.

Reading, writing and inspecting need `onnx` only. The work is in the modules named onnx_*: tensors (storage), graph
(chains of nodes), forms and ops (layouts), sites (layers), fold (batch norm), sizes, groups and shrink
(removal of channels), files, session, watch and run (execution).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from attar.adapters.base import Batch, Gradients
from attar.adapters.leading import place_of
from attar.errors import FormatError, ModelError
from attar.types import Array, Capture, Layer, Stats, TensorSpec, Weight

if TYPE_CHECKING:
    from attar.adapters.onnx.gradients import Pullback
    from attar.adapters.onnx.tensors import Store
    from attar.structure.base import Structure
    from attar.structure.groups import Coupled


class OnnxAdapter:
    """One ONNX model."""

    framework: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)
    sparse_suffixes = suffixes

    def __init__(self, store: Store):
        from attar.adapters.onnx.run import Runner
        from attar.adapters.onnx.session import specs
        from attar.adapters.onnx.sites import find_sites

        self._store = store
        self.came: Self | None = None
        """The model as it came, where this one need not answer the same."""
        self._pullback: Pullback | None = None
        sites, self._skipped = find_sites(store)
        self._layers = [site.layer for site in sites]
        self._sites = {site.layer.name: site for site in sites if site.layer.tied_to is None}
        graph = store.model.graph
        stored = {tensor.name for tensor in [*graph.initializer, *(s.values for s in graph.sparse_initializer)]}
        self._outputs = specs(list(graph.output), set())
        self._runner = Runner(store, sites, specs(list(graph.input), stored), self._outputs)

    @classmethod
    def accepts(cls, model: object) -> bool:
        """A path that ends in .onnx, or a ModelProto."""
        if isinstance(model, Path):
            return model.suffix.lower() in cls.suffixes
        onnx = sys.modules.get("onnx")
        return onnx is not None and hasattr(onnx, "ModelProto") and isinstance(model, onnx.ModelProto)

    @classmethod
    def open(cls, model: object) -> Self:
        """A private, folded copy; raises FormatError for what is not ONNX, ModelError where `onnx` is missing."""
        _need_onnx()
        from attar.adapters.onnx.files import broken, open_store
        from attar.adapters.onnx.fold import in_integers, prepared

        store = open_store(model)
        with broken(model.name if isinstance(model, Path) else "model"):
            came = cls(store.clone()) if in_integers(store) else None
            opened = cls(prepared(store))
        opened.came = came
        return opened

    @property
    def store(self) -> Store:
        """The model with its tensors, which are read anew where they have been replaced."""
        return self._store

    def inputs(self) -> Sequence[TensorSpec]:
        """The model's inputs, with the axis of the examples first."""
        return self._inputs

    @cached_property
    def _inputs(self) -> list[TensorSpec]:
        from attar.adapters.onnx.graph import scopes
        from attar.adapters.onnx.scaled import takes_pixels

        root = scopes(self._store)
        return [replace(spec, scales_pixels=takes_pixels(root, spec.name)) for spec in self._runner.inputs]

    def outputs(self) -> Sequence[TensorSpec]:
        """The model's outputs, the one that is looked at first."""
        return self._outputs

    def lead(self, output: str) -> None:
        """From now on this output stands first; raises UsageError where there is none of the name."""
        place = place_of(output, [spec.name for spec in self._outputs])
        self._outputs.insert(0, self._outputs.pop(place))  # the runner's list, too
        self._pullback = None
        if self.came is not None:
            self.came.lead(output)

    def layers(self) -> Sequence[Layer]:
        """Every compressible weight, in execution order."""
        return self._layers

    def skipped(self) -> Mapping[str, str]:
        """Tensors of two or more axes that are left alone, with the reason."""
        return self._skipped

    def read(self, name: str) -> Weight:
        """Canonical matrix and bias of a layer."""
        return self._sites[name].read()

    def write(self, name: str, weight: Weight) -> None:
        """Put a canonical matrix and bias back; raises ModelError for a wrong shape, before anything changes."""
        layer = self._sites[name].layer
        wanted, received = (layer.rows, layer.cols), np.shape(weight.matrix)
        if received != wanted or (weight.bias is not None and np.shape(weight.bias) != (layer.rows,)):
            bias = "" if weight.bias is None else f" and a bias of {list(np.shape(weight.bias))}"
            raise ModelError(
                f"layer {name!r}: a weight must be {list(wanted)}. Received {list(received)}{bias}. Use read's shape."
            )
        if weight.bias is not None and not layer.has_bias:
            raise ModelError(f"layer {name!r}: it has no bias. Received one. Write the matrix alone.")
        self._sites[name].write(weight)
        self._runner.forget()

    def capture(self, batches: Iterable[Batch], only: Sequence[str] | None = None) -> Iterator[Capture]:
        """What each layer of the main graph saw, piece by piece of each batch."""
        return self._runner.captures(batches, only)

    def moments(self, batches: Iterable[Batch], only: Sequence[str] | None = None) -> Mapping[str, Stats]:
        """Input statistics of the layers of the main graph."""
        return self._runner.moments(batches, only)

    def run(self, batch: Batch, perturb: Mapping[str, Array] | None = None) -> Array:
        """The first output, float32."""
        return self._runner.run(batch, perturb)

    def can_perturb(self, name: str) -> bool:
        """Whether `run` takes a perturbation for this layer."""
        return self._runner.can_perturb(name)

    def pullback(self, batch: Batch, cotangent: Callable[[Array], Array]) -> Gradients:
        """Gradients of weights, biases and other trained tensors, through PyTorch; see adapters/base.py.

        Raises ModelError where PyTorch is not installed, and for an operator without a gradient (docs/adapters.md).
        """
        if self._pullback is None:
            _need_torch()
            from attar.adapters.onnx.gradients import Pullback

            sites = list(self._sites.values())
            self._pullback = Pullback(self._store, sites, self._rest(), self._outputs[0].name)
        return self._pullback(self._runner.pieces(batch), cotangent)

    def remainder(self) -> Mapping[str, Array]:
        """Every stored tensor that is not a layer's weight or bias; types that numpy lacks as unsigned integers."""
        return {name: _plain(slot.array) for name, slot in self._store.slots.items() if name in self._rest()}

    def _rest(self) -> set[str]:
        from attar.adapters.onnx.tensors import stays_inside

        owned = {site.chain.slot.name for site in self._sites.values()}
        owned |= {site.bias.chain.slot.name for site in self._sites.values() if site.bias}
        return {name for name, slot in self._store.slots.items() if name not in owned and not stays_inside(slot.proto)}

    def files_beside(self) -> Sequence[Path]:
        """Files of external data that the model was read with, which count for its size."""
        return sorted(self._store.files)

    def skeleton(self) -> bytes:
        """The graph without values, and without what exporters note about their own source code."""
        from attar.adapters.onnx.skeleton import skeleton_of

        return skeleton_of(self._store, self._layers)

    @classmethod
    def rebuild(cls, skeleton: bytes, remainder: Mapping[str, Array]) -> Self:
        """A model from an archive's parts, with zeros where layers are to be written; raises FormatError."""
        _need_onnx()
        from attar.adapters.onnx.files import broken
        from attar.adapters.onnx.skeleton import store_of

        store = store_of(skeleton)
        with broken("archive"):
            adapter = cls(store)
        try:
            adapter.restore(remainder)
        except ModelError as error:
            raise FormatError(f"archive: the skeleton and the remainder must belong together. {error}") from error
        return adapter

    def restore(self, remainder: Mapping[str, Array]) -> None:
        """Put a remainder into this model; raises ModelError where names or shapes differ, before anything changes.

        A wider float may come as float16: archives keep it so where every value survives.
        """
        slots = {name: self._store.slots[name] for name in self._rest()}
        if set(slots) != set(remainder):
            odd = sorted(set(slots) ^ set(remainder))
            raise ModelError(
                f"tensor {odd[0]!r}: the model and the remainder must have the same tensors. Received "
                f"{len(remainder)}, expected {len(slots)}. Pass the model that was compressed."
            )
        values = {}
        for name, slot in slots.items():
            given = np.asarray(remainder[name])
            wanted = _plain(slot.array)
            if given.dtype == np.float16 and wanted.dtype in (np.float32, np.float64):
                given = given.astype(wanted.dtype)
            if (given.shape, given.dtype) != (wanted.shape, wanted.dtype):
                raise ModelError(
                    f"tensor {name!r}: it must be {wanted.dtype.name} {list(wanted.shape)}. Received "
                    f"{given.dtype.name} {list(given.shape)}. Pass the model that was compressed."
                )
            values[name] = np.array(given).view(slot.dtype).reshape(slot.array.shape)
        for name, value in values.items():
            slots[name].values = value
        self._runner.forget()

    def structure(self) -> Structure:
        """Channels of the main graph that can be removed."""
        return self._coupled.structure

    @cached_property
    def _coupled(self) -> Coupled:
        from attar.adapters.onnx.groups import neutral
        from attar.structure.groups import coupled

        return coupled(neutral(self._store))

    def copied(self) -> Self:
        """A new adapter over a copy of the model."""
        return self.shrunk({})

    def shrunk(self, keep: Mapping[str, Array]) -> Self:
        """A new adapter without the other channels; this one is unchanged. Raises UsageError."""
        from attar.adapters.onnx.shrink import shrunk

        smaller = type(self)(shrunk(self._store, self._coupled, keep))
        smaller.lead(self._outputs[0].name)
        return smaller

    def model(self) -> Any:
        """A new ModelProto with all values; raises ModelError beyond 2 GB."""
        from attar.adapters.onnx.files import whole

        return whole(self._store)

    def save(self, path: Path) -> None:
        """Write a .onnx file; large models, and those that came so, with external data in a file beside it."""
        from attar.adapters.onnx.files import write_file

        write_file(self._store, Path(path))

    def save_sparse(self, path: Path) -> Mapping[str, tuple[int, int]]:
        """One .onnx file with sparse initializers where they are smaller; raises ModelError beyond 2 GB."""
        from attar.adapters.onnx.files import write_sparse

        return write_sparse(self._store, Path(path))


def _plain(values: Array) -> Array:
    """Types of ml_dtypes as unsigned integers of the same width."""
    if values.dtype.kind in "biufc" and not values.dtype.name.startswith(("bfloat", "float8")):
        return values
    return values.view(np.uint16 if values.dtype.itemsize == 2 else np.uint8)


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "onnx model: reading it needs the onnx package. Received an environment without it. "
            "Install it with `pip install 'attar[onnx]'`."
        ) from error


def _need_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "onnx model: training through it needs PyTorch. Received an environment without it. "
            "Install it with `pip install 'attar[torch]'`, or compress without recovery (--no-train)."
        ) from error
