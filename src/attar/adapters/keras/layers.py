"""Keras layers as canonical matrices: where each weight sits, and how its axes and its inputs map to W[rows, cols].

A `Site` is one weight of one layer. Its `Form` says how the variable's axes become rows and columns, which axes of the
layer's pre-activation are the rows, and how the layer's input unfolds to the columns x. Numpy and keras.ops only,
so that the TensorFlow, PyTorch and JAX backends are the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers as kl

from attar.adapters.keras.forms import Conv, ConvTranspose, Einsum, Form, Lookup, Recurrent
from attar.types import Array, Layer, Matrix

SMALLEST = 16
"""Weights with fewer elements are left alone: their header would outweigh them."""


@dataclass(frozen=True, slots=True)
class Bias:
    """A bias variable; where it has several axes their sizes without broadcast ones, and their order in the rows.

    part: the entry along the variable's first axis where it holds several biases.
    """

    variable: Any
    sizes: tuple[int, ...] = (-1,)
    order: tuple[int, ...] = (0,)
    part: int | None = None

    def read(self) -> Array:
        """[rows], float32."""
        return self.of(to_numpy(self.variable))

    def of(self, whole: Array) -> Array:
        """[rows], float32, of an array like the variable."""
        own = whole if self.part is None else whole[self.part]
        return own.reshape(self.sizes).transpose(self.order).reshape(-1).astype(np.float32)

    def write(self, bias: Array) -> None:
        """The exact inverse of read."""
        array = np.asarray(bias).reshape([self.sizes[axis] for axis in self.order]).transpose(np.argsort(self.order))
        whole = to_numpy(self.variable).copy()
        place = whole if self.part is None else whole[self.part]
        place[...] = array.reshape(place.shape)
        assign(self.variable, whole)


@dataclass(frozen=True, slots=True)
class Site:
    """One compressible weight: its name, layer, variable and form; `tap` names the product inside the layer."""

    name: str
    layer: Any
    variable: Any
    form: Form
    bias: Bias | None = None
    tap: str = "product"
    tied_to: str | None = None

    def describe(self) -> Layer:
        """The framework-free description."""
        shape = tuple(int(n) for n in self.variable.shape)
        rows = self.form.rows(shape)
        return Layer(
            self.name, self.form.kind, rows, int(np.prod(shape)) // rows, shape, self.form.groups(shape),
            str(keras.backend.standardize_dtype(self.variable.dtype)), self.bias is not None, self.tied_to,
        )  # fmt: skip

    def read(self) -> Matrix:
        """The canonical matrix [rows, cols], float32."""
        return self.form.matrix(to_numpy(self.variable)).astype(np.float32)

    @property
    def shows_product(self) -> bool:
        """Whether the product can be shifted while the model runs (not inside a recurrent loop)."""
        return not isinstance(self.form, Recurrent)

    def write(self, matrix: Matrix) -> None:
        """The exact inverse of read, rounded to the variable's dtype."""
        assign(self.variable, self.form.array(matrix, tuple(self.variable.shape)))


def to_numpy(value: Any) -> Array:
    """A tensor or variable as a numpy array in its own dtype (bfloat16 as ml_dtypes has it)."""
    dtype = keras.backend.standardize_dtype(value.dtype)
    if dtype == "bfloat16":
        import ml_dtypes

        return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(value, "float32"))).astype(ml_dtypes.bfloat16)
    return np.array(keras.ops.convert_to_numpy(value))


def assign(variable: Any, array: Array) -> None:
    """Set a variable, rounding to its dtype (through float32 where numpy has no such type)."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    source = np.asarray(array, "float32" if dtype == "bfloat16" else dtype, order="C")
    variable.assign(keras.ops.cast(keras.ops.convert_to_tensor(source), dtype))


def sites_of(layer: Any, name: str) -> Iterator[Site]:
    """The sites of one layer (not of its sublayers) that attar can map; `name` is the layer's path."""
    maker = _maker(layer)
    if maker is None or reason_to_skip(layer) is not None:
        return
    for site in maker(layer):
        yield replace(site, name=f"{name}/{site.name}" if name else site.name)


def reason_to_skip(layer: Any) -> str | None:
    """Why a layer's weights stay as they are, or None."""
    if getattr(layer, "quantization_mode", None) is not None:
        return f"quantised by Keras ({layer.quantization_mode})"
    if getattr(layer, "lora_enabled", False):
        return "low-rank adapters are enabled: merge them first"
    if isinstance(layer, kl.StackedRNNCells):
        return "recurrent cells stacked in one loop do not show their inputs"
    maker = _maker(layer)
    if maker is None:
        own = type(layer).__module__.startswith("keras.")
        return f"{type(layer).__name__} has no matrix form here" if own else f"custom layer {type(layer).__name__}"
    if maker is _einsum and _einsum_form(layer) is None:
        return f"the equation {layer.equation} is not a matrix product per group"
    if maker is _recurrent and _cell_kind(layer) is None:
        return f"the recurrent cell {type(layer.cell).__name__} has no matrix form here"
    return None


def _maker(layer: Any) -> Callable[[Any], Iterator[Site]] | None:
    """The function that lists a layer's sites; None for layers whose class changes what a Keras layer computes."""
    for base, maker in _MAKERS:
        if isinstance(layer, base):
            definer = next(c for c in type(layer).__mro__ if "call" in vars(c))
            return maker if definer.__module__.startswith("keras.") else None
    return None


def _dense(layer: Any) -> Iterator[Site]:
    bias = None if layer.bias is None else Bias(layer.bias)
    yield Site("kernel", layer, layer._kernel, Einsum("dense", "...c", "cr", "...r"), bias)


def _einsum(layer: Any) -> Iterator[Site]:
    form = _einsum_form(layer)
    assert form is not None  # reason_to_skip has looked
    bias = None
    labels = [c for c in form.output if c in (layer.bias_axes or "")]
    if layer.bias is not None and sorted(labels) == sorted(form.row_labels):  # Keras puts ones between them
        sizes = tuple(int(layer._kernel.shape[form.kernel.index(c)]) for c in labels)
        bias = Bias(layer.bias, sizes, tuple(labels.index(c) for c in form.row_labels))
    yield Site("kernel", layer, layer._kernel, form, bias)


def _einsum_form(layer: Any) -> Einsum | None:
    operands, output = layer.equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    form = Einsum("einsum", inputs, kernel, output)
    return form if form.is_product else None


def _conv(layer: Any) -> Iterator[Site]:
    bias = None if layer.bias is None else Bias(layer.bias)
    yield Site("kernel", layer, layer._kernel, Conv.of(layer, layer.groups), bias)


def _depthwise(layer: Any) -> Iterator[Site]:
    bias = None if layer.bias is None else Bias(layer.bias)
    yield Site("kernel", layer, layer.kernel, Conv.of(layer, 0), bias)


def _separable(layer: Any) -> Iterator[Site]:
    """Depthwise, then a 1x1 convolution that carries the bias."""
    bias = None if layer.bias is None else Bias(layer.bias)
    yield Site("depthwise_kernel", layer, layer.depthwise_kernel, Conv.of(layer, 0), tap="depthwise")
    yield Site("pointwise_kernel", layer, layer.pointwise_kernel, Conv.pointwise(layer), bias)


def _conv_transpose(layer: Any) -> Iterator[Site]:
    """Without the bias: see unfold."""
    yield Site("kernel", layer, layer.kernel, ConvTranspose.of(layer, 1))


def _embedding(layer: Any) -> Iterator[Site]:
    yield Site("embeddings", layer, layer._embeddings, Lookup())


def _reversible(layer: Any) -> Iterator[Site]:
    """The reverse projection is a weight of its own, or the transposed embedding, which the embedding owns."""
    yield from _embedding(layer)
    form = Einsum("dense", "...c", "cr", "...r")
    if not layer.tie_weights:
        yield Site("reverse_embeddings", layer, layer.reverse_embeddings, form, tap="reverse")


def _recurrent(layer: Any) -> Iterator[Site]:
    """Input and recurrent kernels of an LSTM, GRU or simple RNN cell; a GRU with reset_after has a bias for each."""
    cell = layer.cell
    biases: list[Bias | None] = [None, None]
    if cell.bias is not None and len(cell.bias.shape) == 2:
        biases = [Bias(cell.bias, part=0), Bias(cell.bias, part=1)]
    elif cell.bias is not None:
        biases = [Bias(cell.bias), None]
    yield Site("cell/kernel", layer, cell.kernel, Recurrent(), biases[0], tap="inputs")
    yield Site("cell/recurrent_kernel", layer, cell.recurrent_kernel, Recurrent(), biases[1], tap="states")


def _cell_kind(layer: Any) -> str | None:
    known = (kl.LSTMCell, kl.GRUCell, kl.SimpleRNNCell)
    cell = getattr(layer, "cell", None)
    return type(cell).__name__ if type(cell) in known else None


# The first that fits counts: a subclass stands before its base.
_MAKERS: tuple[tuple[type, Callable[[Any], Iterator[Site]]], ...] = (
    (kl.Dense, _dense),
    (kl.EinsumDense, _einsum),
    (kl.DepthwiseConv1D, _depthwise),
    (kl.DepthwiseConv2D, _depthwise),
    (kl.SeparableConv1D, _separable),
    (kl.SeparableConv2D, _separable),
    (kl.Conv1DTranspose, _conv_transpose),
    (kl.Conv2DTranspose, _conv_transpose),
    (kl.Conv3DTranspose, _conv_transpose),
    (kl.Conv1D, _conv),
    (kl.Conv2D, _conv),
    (kl.Conv3D, _conv),
    *(((kl.ReversibleEmbedding, _reversible),) if hasattr(kl, "ReversibleEmbedding") else ()),
    (kl.Embedding, _embedding),
    (kl.RNN, _recurrent),
)
