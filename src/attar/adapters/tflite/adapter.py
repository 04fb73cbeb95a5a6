"""TFLite models: a .tflite file or its bytes, read and written by the schema's classes, run by LiteRT.

Reading, writing and inspecting run nothing of the model. The work is in the modules named tflite_*: reader (checks),
sparse, store (values), forms (layouts), sites (layers), skeleton, session, watch and run (execution). Operators in
graphs of If and While have layers too, whose inputs are not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from attar.adapters.base import Batch
from attar.adapters.keras.saved_model import converted, files_of, is_saved_model
from attar.adapters.leading import place_of
from attar.errors import FormatError, ModelError
from attar.types import Array, Capture, Layer, Stats, TensorSpec, Weight

if TYPE_CHECKING:
    from attar.adapters.tflite.session import Port
    from attar.adapters.tflite.store import Place, Store


class TfliteAdapter:
    """One TFLite model."""

    framework: ClassVar[str] = "tflite"
    suffixes: ClassVar[tuple[str, ...]] = (".tflite",)

    def __init__(self, store: Store) -> None:
        from attar.adapters.tflite.run import Runner
        from attar.adapters.tflite.scaled import takes_pixels
        from attar.adapters.tflite.session import ports, signature_names
        from attar.adapters.tflite.sites import find_sites

        self._store = store
        self._files: Sequence[Path] = ()
        try:
            sites, self._skipped = find_sites(store)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise FormatError(
                f"tflite model: every operator must be as its kind says. Received one that cannot be read "
                f"({type(error).__name__}: {error}). Convert the model again."
            ) from error
        self._layers = [site.layer for site in sites]
        self._sites = {site.layer.name: site for site in sites if site.layer.tied_to is None}
        graph = store.model.subgraphs[0]
        names = signature_names(store.model)
        self._inputs, self._outputs = ports(graph, graph.inputs, names), ports(graph, graph.outputs, names)
        for place, port in enumerate(self._inputs):
            spec = replace(port.spec, scales_pixels=takes_pixels(store, port.index))
            self._inputs[place] = replace(port, spec=spec)
        self._runner = Runner(store, sites, self._inputs, self._outputs)

    @classmethod
    def accepts(cls, model: object) -> bool:
        """A path that ends in .tflite or of a SavedModel folder, or such a file's bytes."""
        if isinstance(model, Path):
            return model.suffix.lower() in cls.suffixes or is_saved_model(model)
        return isinstance(model, bytes) and model[4:8] == b"TFL3"

    @classmethod
    def open(cls, model: object) -> Self:
        """A private copy; raises FormatError for what is not TFLite, ModelError where ai-edge-litert is missing."""
        from attar.adapters.tflite.session import in_order
        from attar.adapters.tflite.store import Store

        if isinstance(model, Path) and is_saved_model(model):
            adapter = cls(in_order(Store.open(converted(model))))
            adapter._files = files_of(model)
            return adapter
        return cls(Store.open(model))

    def files_beside(self) -> Sequence[Path]:
        """The files of the SavedModel folder that the model was made of, which are its size."""
        return self._files

    @property
    def store(self) -> Store:
        """The model with its values."""
        return self._store

    @property
    def ports(self) -> list[Port]:
        """The inputs as the runtime takes them."""
        return self._inputs

    @property
    def output(self) -> Port:
        """The first output as the runtime gives it."""
        return self._outputs[0]

    def trust(self) -> None:
        """Not to run the model in a process of its own first: that has been done, or it is attar's own."""
        self._runner.trust()

    @property
    def size(self) -> int | None:
        """How many examples the model takes at once, None for any number: found by running it."""
        return self._runner.size

    def inputs(self) -> Sequence[TensorSpec]:
        """The model's inputs; the first axis is that of the examples."""
        return [port.spec for port in self._inputs]

    def outputs(self) -> Sequence[TensorSpec]:
        """The model's outputs, the one that is looked at first."""
        return [port.spec for port in self._outputs]

    def lead(self, output: str) -> None:
        """From now on this output stands first; raises UsageError where there is none of the name."""
        place = place_of(output, [port.spec.name for port in self._outputs])
        self._outputs.insert(0, self._outputs.pop(place))  # the runner's list, too

    def layers(self) -> Sequence[Layer]:
        """Every compressible weight, in execution order."""
        return self._layers

    def skipped(self) -> Mapping[str, str]:
        """Tensors of two or more axes that are left alone, with the reason."""
        return self._skipped

    def read(self, name: str) -> Weight:
        """Canonical matrix and bias of a layer."""
        return self._sites[name].read(self._store)

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
        self._sites[name].write(self._store, weight)
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

    def remainder(self) -> Mapping[str, Array]:
        """Every stored tensor of numbers that is not a layer's weight or bias."""
        return {name: _plain(self._store.values(place)) for name, place in self._rest().items()}

    def _rest(self) -> dict[str, Place]:
        sites = self._sites.values()
        owned = {self._store.buffer(site.stored) for site in sites}
        owned |= {self._store.buffer(site.bias) for site in sites if site.bias is not None}
        return {
            name: place for name, place in self._store.names.items()
            if self._store.buffer(place) not in owned and not self._store.stays_inside(place)
        }  # fmt: skip

    def skeleton(self) -> bytes:
        """The file without values."""
        from attar.adapters.tflite.skeleton import skeleton_of

        return skeleton_of(self._store)

    @classmethod
    def rebuild(cls, skeleton: bytes, remainder: Mapping[str, Array]) -> Self:
        """A model from an archive's parts, with zeros where layers are to be written; raises FormatError."""
        from attar.adapters.tflite.skeleton import store_of

        adapter = cls(store_of(skeleton))
        try:
            adapter.restore(remainder)
        except ModelError as error:
            raise FormatError(f"archive: the skeleton and the remainder must belong together. {error}") from error
        return adapter

    def restore(self, remainder: Mapping[str, Array]) -> None:
        """Put a remainder into this model; raises ModelError where names or shapes differ, before anything changes.

        A wider float may come as float16: archives keep it so where every value survives.
        """
        places = self._rest()
        if set(places) != set(remainder):
            odd = sorted(set(places) ^ set(remainder))
            raise ModelError(
                f"tensor {odd[0]!r}: the model and the remainder must have the same tensors. Received "
                f"{len(remainder)}, expected {len(places)}. Pass the model that was compressed."
            )
        values = {}
        for name, place in places.items():
            given, wanted = np.asarray(remainder[name]), self._store.values(place)
            if given.dtype == np.float16 and wanted.dtype in (np.float32, np.float64):
                given = given.astype(wanted.dtype)
            if (given.shape, given.dtype) != (wanted.shape, _plain(wanted).dtype):
                raise ModelError(
                    f"tensor {name!r}: it must be {wanted.dtype.name} {list(wanted.shape)}. Received "
                    f"{given.dtype.name} {list(given.shape)}. Pass the model that was compressed."
                )
            values[name] = np.array(given).view(wanted.dtype).reshape(wanted.shape)
        for name, value in values.items():
            self._store.put(places[name], value)
        self._runner.forget()

    def model(self) -> bytes:
        """The bytes of a .tflite file; raises ModelError beyond 2 GB."""
        return self._store.packed()

    def save(self, path: Path) -> None:
        """Write a .tflite file: a reader never sees half of it."""
        place = Path(path)
        temporary = place.with_name(f".{place.name}.{id(self)}.tmp")
        try:
            temporary.write_bytes(self.model())
            temporary.replace(place)
        finally:
            temporary.unlink(missing_ok=True)


def _plain(values: Array | None) -> Array:
    """bfloat16 as unsigned integers of the same width."""
    assert values is not None
    return values.view(np.uint16) if values.dtype.name == "bfloat16" else values
