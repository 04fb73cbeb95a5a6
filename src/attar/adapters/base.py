"""What a framework offers to attar: layers as canonical matrices, statistics, execution, and a way back.

The laws, each a test in tests/kits/adapter_laws.py run over every registered adapter:

- `write(name, read(name))` changes no bit of the model's outputs or of its weights;
- `y = W x` holds for every Capture (within float rounding), `y + bias` is what the layer hands on
  (through an identity batch norm where the bias is the batch norm's shift);
- `open` works on a private copy: the caller's model is bit for bit as before, whatever is done with the adapter;
- `rebuild(skeleton(), read of all layers, remainder())` gives the same outputs.

Batch norm that directly follows one dense or convolution layer (and is its only consumer) is folded by `open` on the
private copy: W' = diag(gamma / sqrt(var + eps)) W, and the batch norm is left in place as an identity with a shift
(gamma such that its scale is exactly or nearly 1, mean 0, beta = the folded shift). Structure and names stay; its beta
is the layer's bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from attar.structure.base import Structure
from attar.types import Array, Capture, Dataset, Layer, Recordings, Stats, TensorSpec, Texts, Weight

Batch = Mapping[str, Array]
"""Inputs by name, [n, ...] each, as a Dataset's `batches` yields them: pictures may be `attar.types.Scaled`, which
become an array by `np.asarray`, or where rows are taken."""


@runtime_checkable
class Adapter(Protocol):
    """One model of one framework; see the module's docstring for the laws."""

    framework: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    """File endings that `open` takes and `save` writes; the first is the default for `save`."""

    @classmethod
    def accepts(cls, model: object) -> bool:
        """Whether `open` would take it: a framework object (looked for in sys.modules, never imported) or a path."""
        ...

    @classmethod
    def open(cls, model: object) -> Self:
        """A private, folded copy of a model object or file; raises ModelError, FormatError."""
        ...

    def inputs(self) -> Sequence[TensorSpec]:
        """The model's inputs."""
        ...

    def outputs(self) -> Sequence[TensorSpec]:
        """The model's outputs; metrics look at the first."""
        ...

    def layers(self) -> Sequence[Layer]:
        """Every compressible weight, in execution order where it is known."""
        ...

    def skipped(self) -> Mapping[str, str]:
        """Weights of two or more dimensions that are left as they are, with the reason."""
        ...

    def read(self, name: str) -> Weight:
        """The canonical matrix and bias of a layer, float32 copies."""
        ...

    def write(self, name: str, weight: Weight) -> None:
        """Put a canonical matrix (and bias, where `has_bias`) back: the exact inverse of read."""
        ...

    def capture(self, batches: Iterable[Batch], only: Sequence[str] | None = None) -> Iterator[Capture]:
        """What each layer saw, batch by batch; the model is as before afterwards, also after an error."""
        ...

    def moments(self, batches: Iterable[Batch], only: Sequence[str] | None = None) -> Mapping[str, Stats]:
        """Input statistics; a layer that was never reached is missing."""
        ...

    def run(self, batch: Batch, perturb: Mapping[str, Array] | None = None) -> Array:
        """The first output, [n, ...], as float32.

        perturb maps a layer's name to delta[n, rows], added to every position of that layer's output rows (before
        the non-linearity) for each example: how attar measures sensitivities without gradients. A layer for which
        this is not possible (recurrent) raises KeyError.
        """
        ...

    def can_perturb(self, name: str) -> bool:
        """Whether `run` takes a perturbation for this layer."""
        ...

    def remainder(self) -> Mapping[str, Array]:
        """Everything else the model needs, by name: biases not listed with a layer, norms, buffers, constants.

        Biases that `read` returns are not in it. Small structural tensors (shapes, axes) may live in the skeleton.
        """
        ...

    def skeleton(self) -> bytes:
        """The model without layer weights, their biases and remainder, as uncompressed bytes that carry no code.

        JSON or protobuf, the smallest that does; the archive compresses it. Raises ModelError where the framework
        cannot describe the model without code (`load` then needs `into=`).
        """
        ...

    @classmethod
    def rebuild(cls, skeleton: bytes, remainder: Mapping[str, Array]) -> Self:
        """An adapter over a new model from an archive's parts; layers are written afterwards. Raises FormatError."""
        ...

    def restore(self, remainder: Mapping[str, Array]) -> None:
        """Put a remainder into this adapter's own model (for `load(into=)`); raises ModelError where names differ."""
        ...

    def model(self) -> Any:
        """The framework's own object, ready to use: ModelProto, nn.Module (in the mode it came in), keras.Model."""
        ...

    def save(self, path: Path) -> None:
        """Write the model as a plain file of its framework that loads without attar."""
        ...


@dataclass(frozen=True)
class Gradients:
    """What a scalar of the outputs changes by, per unit of each trainable value, float32.

    layers: by name, like `read`; a layer that the output does not depend on is missing. others: floating-point tensors
    of the remainder that training may move (scales of norms, loose biases; no running statistics), by remainder name.
    """

    layers: Mapping[str, Weight]
    others: Mapping[str, Array] = field(default_factory=dict)


@runtime_checkable
class Differentiable(Protocol):
    """An adapter whose models can be trained: it hands gradients back through them; recover/ does the rest.

    The model runs as in `run`: dropout is off, norms use their stored statistics. Nothing of it is changed.
    """

    def pullback(self, batch: Batch, cotangent: Callable[[Array], Array]) -> Gradients:
        """Gradients of sum(outputs * cotangent(outputs)) with the cotangent held fixed: a vector-Jacobian product.

        cotangent takes the first output [n, ...], float32 as `run` gives it, and returns the gradient of a loss with
        respect to it, of the same shape. Raises ModelError where the model has an operation without a gradient.
        """
        ...


@runtime_checkable
class Leading(Protocol):
    """An adapter whose models may hand out several outputs, of which a user names the one that counts."""

    def lead(self, output: str) -> None:
        """From now on, also in copies, the output of this name, or at this place from 0, is the first.

        The model itself stays as it is. Raises UsageError where there is none such, at the latest when it is run.
        """
        ...


@runtime_checkable
class Texted(Protocol):
    """An adapter whose model comes with what turns texts into its inputs."""

    def read_texts(self, texts: Texts, window: int) -> Dataset:
        """Examples of at most `window` tokens, none of which are in two; raises DataError, ModelError."""
        ...

    def observe(self, metric: str) -> None:
        """From now on outputs are what this metric needs, where the whole ones would not fit in memory."""
        ...

    def labelled(self, data: Dataset) -> Dataset:
        """The data set with labels that fit the model's outputs, where the inputs tell them (next tokens)."""
        ...


@runtime_checkable
class Reading(Texted, Protocol):
    """One that is in memory as a whole, and knows beforehand what texts are like."""

    @property
    def heads(self) -> frozenset[str]:
        """Names of the layers whose rows are the words that may come next, of which a few texts have few.

        What their rows cost is known exactly: it is not corrected by what a few texts show.
        """
        ...

    def settled(self, stats: Mapping[str, Stats]) -> Mapping[str, Stats]:
        """Statistics of a few texts, with what is known beforehand of all: words that did not occur still exist."""
        ...

    def fisher(self, batches: Iterable[Batch], seed: int = 0) -> Mapping[str, Array]:
        """Row sensitivities [rows] by gradients, in nats per squared unit."""
        ...

    def weighed(self, stats: Mapping[str, Stats]) -> Mapping[str, Stats]:
        """Statistics in which a word counts by what its vector does to the output, as `fisher` has last seen.

        With couplings of rows, and with sensitivities where more is known of rows than their gradients.
        """
        ...


@runtime_checkable
class Hearing(Protocol):
    """An adapter whose model may write down speech."""

    @property
    def hears(self) -> bool:
        """Whether this one does."""
        ...

    def read_recordings(self, recordings: Recordings, window: int) -> Dataset:
        """Examples of at most `window` tokens: what is said, or what the model writes down where nobody told."""
        ...

    def transcripts(self, batch: Batch) -> tuple[Array, Array]:
        """Words as numbers [n, words], filled up with -1: what the model writes down, and what is said."""
        ...


@runtime_checkable
class Traced(Protocol):
    """An adapter that knows how its model's channels hang together, so that scales can be moved between layers."""

    def structure(self) -> Structure:
        """Groups of channels, and what must stay with the reason; raises ModelError where the graph is not known."""
        ...

    def copied(self) -> Adapter:
        """A new adapter over a copy of the model; this one does not see what is written there."""
        ...


@runtime_checkable
class Grouped(Traced, Protocol):
    """An adapter whose models can lose whole channels; the laws are in tests/kits/structure_laws.py.

    - keeping all channels gives the same outputs, bit for bit;
    - where nothing reads a channel (its columns in every "in" member are zero), removing it changes the outputs by
      rounding only;
    - the smaller model is a normal one: it saves, loads and runs without attar; the adapter it came from is unchanged.
    """

    def shrunk(self, keep: Mapping[str, Array]) -> Adapter:
        """A new adapter over a smaller model, with these channels of each named group and all of the others.

        This one is unchanged. Layers keep their names. Raises UsageError for an unknown group or channel.
        """
        ...


@runtime_checkable
class Sparse(Protocol):
    """An adapter whose format has a layout for weights with many zeros; runtimes make them dense on loading."""

    @property
    def sparse_suffixes(self) -> tuple[str, ...]:
        """File endings that `save_sparse` takes, the default first; empty where this model has none."""
        ...

    def save_sparse(self, path: Path) -> Mapping[str, tuple[int, int]]:
        """Like `save`, with weights without their zeros where that is smaller: their bytes before and after, by name.

        The file loads without attar, and computes what the plain one does.
        """
        ...


@runtime_checkable
class Packable(Protocol):
    """An adapter whose models can decode a weight whenever it is used."""

    def packed(self, weight_of: Callable[[str], Weight], names: Sequence[str], keep_bytes: int = 0) -> Any:
        """The framework's own object, with these layers as `weight_of` decodes them; up to keep_bytes stay decoded.

        Outputs are those of the model with every weight written. The adapter is of no use afterwards.
        """
        ...
