"""Keras 3 models, on the TensorFlow, PyTorch and JAX backends alike.

Nothing here imports Keras until a model is opened, and the backend is chosen only where the user has not
(KERAS_BACKEND unset and Keras not imported): the first installed of tensorflow, torch, jax.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from attar.adapters.base import Batch, Gradients
from attar.adapters.leading import place_of
from attar.errors import DataError, ModelError, UsageError
from attar.types import Array, Capture, Layer, Stats, TensorSpec, Weight

if TYPE_CHECKING:
    from attar.adapters.keras.gradients import Pullback
    from attar.adapters.keras.layers import Site
    from attar.adapters.keras.traced import Shifting
    from attar.structure.base import Structure
    from attar.structure.groups import Coupled


def start_keras() -> None:
    """Make Keras importable with a backend that is installed; raises UsageError where there is none."""
    if "keras" in sys.modules:
        return
    if find_spec("keras") is None:
        raise UsageError("keras: the package must be installed. Received none. Run pip install 'attar[tensorflow]'.")
    if not os.environ.get("KERAS_BACKEND"):
        found = [name for name in ("tensorflow", "torch", "jax") if find_spec(name) is not None]
        if not found:
            raise UsageError("keras: a backend must be installed. Received none. Install tensorflow, torch or jax.")
        os.environ["KERAS_BACKEND"] = found[0]


class KerasAdapter:
    """A Keras model as canonical matrices; see adapters.base for what every method does."""

    framework: ClassVar[str] = "keras"
    suffixes: ClassVar[tuple[str, ...]] = (".keras", ".h5", ".hdf5")

    def __init__(self, model: Any, compile_config: Any = None) -> None:
        """Take over a private, built model; use `open`."""
        from attar.adapters.keras.fold import fold
        from attar.adapters.keras.layers import SMALLEST
        from attar.adapters.keras.walk import check_steady, inventory

        self._model = model
        self._compile_config = compile_config
        check_steady(model)
        self._inventory = inventory(model, SMALLEST)
        self._sites = fold(model, self._inventory.sites)
        self._pullback: Pullback | None = None
        self._shifting: Shifting | None = None
        if not self._sites:
            raise ModelError(
                f"model {model.name!r}: it must hold a matrix that can be compressed. "
                f"Received none ({self._inventory.skipped or 'no weights'}). Use a model with Keras' own layers."
            )

    @classmethod
    def accepts(cls, model: object) -> bool:
        """A keras.Model, or a path that ends like one."""
        if isinstance(model, str | Path):
            return Path(model).suffix in cls.suffixes
        keras = sys.modules.get("keras")
        return keras is not None and hasattr(keras, "Model") and isinstance(model, keras.Model)

    @classmethod
    def open(cls, model: object) -> Self:
        """A private, folded copy of a model object or file."""
        start_keras()
        from attar.adapters.keras import copy as keras_copy
        from attar.adapters.keras import files

        if isinstance(model, str | Path):
            copy, config = files.read_file(Path(model))
        elif cls.accepts(model):
            copy = keras_copy.copy_of(model)
            config = model.get_compile_config() if model.compiled else None  # type: ignore[attr-defined]
        else:
            raise ModelError(f"keras: it takes a keras.Model or a path. Received {type(model).__name__}. Pass one.")
        files.compile_as(copy, config)
        return cls(copy, config)

    def inputs(self) -> Sequence[TensorSpec]:
        """The model's inputs, in the order of its signature."""
        from attar.adapters.keras.run import input_specs

        return input_specs(self._model)

    def outputs(self) -> Sequence[TensorSpec]:
        """The model's outputs, flattened, the one that is looked at first."""
        from attar.adapters.keras.run import LOOKED_AT, output_specs

        found = output_specs(self._model)
        return [found.pop(getattr(self._model, LOOKED_AT, 0)), *found]

    def lead(self, output: str) -> None:
        """From now on this output is looked at; raises UsageError where there is none of the name."""
        from attar.adapters.keras.run import LOOKED_AT, output_specs

        setattr(self._model, LOOKED_AT, place_of(output, [spec.name for spec in output_specs(self._model)]))
        self._pullback = self._shifting = None

    def layers(self) -> Sequence[Layer]:
        """Every compressible weight, in the order in which the model lists its layers."""
        return [site.describe() for site in self._sites.values()]

    def skipped(self) -> Mapping[str, str]:
        """Weights of two or more dimensions that stay as they are, with the reason."""
        return dict(self._inventory.skipped)

    def read(self, name: str) -> Weight:
        """The canonical matrix and bias, float32 copies."""
        site = self._site(name)
        return Weight(site.read(), None if site.bias is None else site.bias.read())

    def write(self, name: str, weight: Weight) -> None:
        """Put a canonical matrix and bias back; raises ModelError where the shapes differ."""
        site = self._site(name)
        layer = site.describe()
        if weight.matrix.shape != (layer.rows, layer.cols):
            raise ModelError(
                f"layer {name!r}: the matrix must be {(layer.rows, layer.cols)}. Received {weight.matrix.shape}. "
                "Write what read returned, changed in value only."
            )
        if (weight.bias is None) != (site.bias is None) or (
            weight.bias is not None and weight.bias.shape != (layer.rows,)
        ):
            raise ModelError(
                f"layer {name!r}: the bias must be {'[rows]' if site.bias else 'None'}. "
                f"Received {None if weight.bias is None else weight.bias.shape}. Write what read returned."
            )
        site.write(weight.matrix)
        if site.bias is not None and weight.bias is not None:
            site.bias.write(weight.bias)

    def capture(self, batches: Iterable[Batch], only: Sequence[str] | None = None) -> Iterator[Capture]:
        """What each layer saw, batch by batch; calls of a shared layer follow each other along n."""
        from attar.adapters.keras.capture import captures

        sites = self._chosen(only)
        for batch in batches:
            yield from captures(self._model, sites, self._arrange(batch))

    def moments(self, batches: Iterable[Batch], only: Sequence[str] | None = None) -> Mapping[str, Stats]:
        """Input statistics; a layer that was never reached is missing."""
        from attar.adapters.keras.capture import moments

        return moments(self._model, self._chosen(only), (self._arrange(batch) for batch in batches))

    def fisher(self, batches: Iterable[Batch], seed: int = 0) -> Mapping[str, Array]:
        """Per layer [rows], float64: E over examples of the squared gradient of -log p(y|x), summed over positions.

        Labels y are drawn from the model's own distribution; layers inside recurrent loops are missing.
        """
        from attar.adapters.keras.fisher import fisher

        sites = [site for site in self._sites.values() if site.shows_product]
        return fisher(self._model, sites, (self._arrange(batch) for batch in batches), np.random.default_rng(seed))

    def run(self, batch: Batch, perturb: Mapping[str, Array] | None = None) -> Array:
        """The first output, [n, ...], float32; perturb adds delta[n, rows] to every position before the activation."""
        from attar.adapters.keras.run import predict
        from attar.adapters.keras.traced import shifting

        inputs = self._arrange(batch)
        if not perturb:
            self._shifting = None
            return predict(self._model, inputs)
        for name in perturb:
            if not self.can_perturb(name):
                raise KeyError(f"layer {name!r}: a recurrent loop does not show its product. Leave it out.")
        if self._shifting is None:
            self._shifting = shifting(self._model, [site for site in self._sites.values() if site.shows_product])
        return self._shifting(inputs, perturb)

    def can_perturb(self, name: str) -> bool:
        """Whether the layer shows its product (all but recurrent kernels)."""
        return self._site(name).shows_product

    def pullback(self, batch: Batch, cotangent: Callable[[Array], Array]) -> Gradients:
        """Gradients of weights, biases and other trained variables; see adapters/base.py and keras/gradients.py."""
        from attar.adapters.keras.gradients import Pullback

        if self._pullback is None:
            self._pullback = Pullback(self._model, list(self._sites.values()), self._rest())
        return self._pullback(self._arrange(batch), cotangent)

    def remainder(self) -> Mapping[str, Array]:
        """All other weights by name, in their own dtype."""
        from attar.adapters.keras.layers import to_numpy

        return {name: to_numpy(variable) for name, variable in self._rest().items()}

    def skeleton(self) -> bytes:
        """The config as small JSON."""
        from attar.adapters.keras.config import to_bytes

        return to_bytes(self._model, self._compile_config)

    @classmethod
    def rebuild(cls, skeleton: bytes, remainder: Mapping[str, Array]) -> Self:
        """An adapter over a new model; layers are written afterwards."""
        start_keras()
        from attar.adapters.keras.config import from_bytes
        from attar.adapters.keras.files import compile_as

        model, config = from_bytes(skeleton)
        compile_as(model, config)
        adapter = cls(model, config)
        adapter.restore(remainder)
        return adapter

    def restore(self, remainder: Mapping[str, Array]) -> None:
        """Put a remainder into this adapter's model; raises ModelError where names or shapes differ."""
        from attar.adapters.keras.copy import finish
        from attar.adapters.keras.layers import assign, to_numpy

        rest = self._rest()
        if set(rest) != set(remainder):
            odd = sorted(set(rest) ^ set(remainder))[:5]
            raise ModelError(
                f"remainder: its names must be the model's. Received a difference in {odd}. Use its own model."
            )
        for name, variable in rest.items():
            if tuple(variable.shape) != np.shape(remainder[name]):
                raise ModelError(
                    f"remainder {name!r}: the shape must be {tuple(variable.shape)}. "
                    f"Received {np.shape(remainder[name])}. Use its own model."
                )
        changed = {name for name, v in rest.items() if not np.array_equal(to_numpy(v), np.asarray(remainder[name]))}
        for name in changed:
            assign(rest[name], np.asarray(remainder[name]))
        if finish(self._model) and changed:
            self._shifting = self._model.predict_function = None  # constants are compiled into both
        # Constants may be compiled in; what training moves is read anew, and training restores it at every step.
        if self._pullback is not None and not changed <= self._pullback.trained:
            self._pullback = None

    def structure(self) -> Structure:
        """Channels that can be removed; raises ModelError for a model that is not functional or sequential."""
        return self._coupled.structure

    @cached_property
    def _coupled(self) -> Coupled:
        from attar.adapters.keras.groups import neutral
        from attar.structure.groups import coupled

        return coupled(neutral(self._model, self._names()))

    def _names(self) -> dict[int, str]:
        """Names of variables by id: a layer's for its weight, the remainder's for others."""
        return {**self._inventory.names, **{id(site.variable): name for name, site in self._sites.items()}}

    def copied(self) -> Self:
        """A new adapter over a copy of the model."""
        return self.shrunk({})

    def shrunk(self, keep: Mapping[str, Array]) -> Self:
        """A new adapter over a smaller model; this one is unchanged. Raises UsageError, ModelError."""
        from attar.adapters.keras.files import compile_as
        from attar.adapters.keras.run import LOOKED_AT
        from attar.adapters.keras.shrink import shrunk

        smaller = shrunk(self._model, self._names(), self._coupled, keep)
        compile_as(smaller, self._compile_config)
        made = type(self)(smaller, self._compile_config)
        setattr(made._model, LOOKED_AT, getattr(self._model, LOOKED_AT, 0))
        return made

    def model(self) -> Any:
        """The keras.Model, compiled where the original was."""
        return self._model

    def save(self, path: Path) -> None:
        """Write a .keras (or .h5, .hdf5) file that keras.saving.load_model opens; the optimizer's state is left out."""
        from attar.adapters.keras.files import write_file

        write_file(self._model, Path(path))

    def _site(self, name: str) -> Site:
        if name not in self._sites:
            raise KeyError(f"layer {name!r}: it must be one of layers(). Use {', '.join(list(self._sites)[:5])} ...")
        return self._sites[name]

    def _chosen(self, only: Sequence[str] | None) -> list[Site]:
        return [self._site(name) for name in (self._sites if only is None else only)]

    def _arrange(self, batch: Batch) -> Any:
        from attar.adapters.keras.run import arrange

        if not batch:
            raise DataError("batch: it must hold the model's inputs. Received none. Give one array per input.")
        return arrange(self._model, batch)

    def _rest(self) -> dict[str, Any]:
        """Variables that no layer's read returns, by name."""
        parts: dict[int, int] = {}
        for site in self._sites.values():
            if site.bias is not None:
                variable = site.bias.variable
                whole = 1 if site.bias.part is None else int(variable.shape[0])
                parts[id(variable)] = parts.get(id(variable), whole) - 1
        owned = {id(site.variable) for site in self._sites.values()} | {key for key, left in parts.items() if left == 0}
        return {name: v for name, v in self._inventory.variables.items() if id(v) not in owned}
