"""Keras layers in the words of `attar.structure.graph`: one short handler for each kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from keras import activations
from keras import layers as kl

from attar.adapters.keras.groups import Reader, along
from attar.structure.graph import Factors, Join, Multiply, Node, Permute, Reshape

Handler = Callable[[Reader, Any, list[str], list[str]], list[Node] | None]
"""(reader, layer, values read, values made) -> nodes; None where it is used in a way that is not described."""
POINTWISE = (
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish", "sigmoid", "tanh",
    "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "softplus", "softsign", "exponential", "tanh_shrink",
)  # fmt: skip
OPERATIONS = ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Relu", "Sigmoid", "Tanh", "Silu", "Gelu", "Relu6")
"""keras.ops in a functional graph that work position by position on their values."""
HOMOGENEOUS = ("linear", "relu", "leaky_relu")
"""Activations f with f(s x) = s f(x) for s > 0."""
SUMS = ("Add", "Subtract", "Average", "Maximum", "Minimum")
"""Operations and layers that take the factors of all that they read, if these are the same."""


def handle(reader: Reader, node: Any, given: list[str], made: list[str]) -> list[Node] | None:
    """The neutral nodes of one call; None where the layer is not known."""
    layer = node.operation
    kind = type(layer)
    if kind.__module__.startswith("keras.src.ops") and kind.__name__ in OPERATIONS:
        numbers = [item for item in node.arguments.args if isinstance(item, int | float)]
        plain = len(numbers) + len(given) == len(node.arguments.args) and not node.arguments.kwargs
        factors = _factors(kind.__name__, number=bool(numbers))
        return [along(layer.name, given, made, factors=factors)] if plain else None
    for kinds, handler in LAYERS:
        if kind in kinds and getattr(layer, "quantization_mode", None) is None:
            return handler(reader, layer, given, made)
    return None


def _activated(layer: Any, name: str, nodes: list[Node], made: list[str]) -> list[Node] | None:
    """Nodes that end in the value `name`, and the layer's activation after them."""
    kind = getattr(layer.activation, "__name__", "") if layer.activation is not None else "linear"
    if layer.activation is activations.softmax or kind == "log_softmax":
        return [*nodes, along(layer.name, [name], made, mixed=(-1,))]
    factors: Factors = "same" if kind in HOMOGENEOUS else ""
    return [*nodes, along(layer.name, [name], made, factors=factors)] if kind in POINTWISE else None


def _channel_axis(layer: Any, ndim: int) -> int:
    return ndim - 1 if layer.data_format == "channels_last" else 1


def _inner(reader: Reader, like: str) -> str:
    """A value between a layer's product and its activation."""
    return reader.value(reader.values[like])


def _dense(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:
    product, last = _inner(reader, made[0]), len(reader.values[made[0]]) - 1
    weight, vectors = reader.names[id(layer._kernel)], reader.vector(layer.bias, last)
    node = Multiply(layer.name, (given[0],), (product,), weight, 1, 0, last, last, 1, False, vectors)
    return None if layer.lora_enabled else _activated(layer, product, [node], made)


def _conv(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:
    product, ndim = _inner(reader, made[0]), len(reader.values[made[0]])
    axis, kernel = _channel_axis(layer, ndim), layer._kernel if hasattr(layer, "_kernel") else layer.kernel
    rows, cols = (ndim - 2, ndim - 1) if "Transpose" in type(layer).__name__ else (ndim - 1, ndim - 2)
    groups = 1 if "Transpose" in type(layer).__name__ else layer.groups
    vectors = reader.vector(layer.bias, axis)
    weight = reader.names[id(kernel)]
    node = Multiply(layer.name, (given[0],), (product,), weight, rows, cols, axis, axis, groups, True, vectors)
    return None if getattr(layer, "lora_enabled", False) else _activated(layer, product, [node], made)


def _depthwise_part(reader: Reader, layer: Any, kernel: Any, value: str, product: str, bias: Any) -> Node | None:
    """One filter for each channel; a multiplier above one has no place in the neutral graph."""
    axis, shape = _channel_axis(layer, len(reader.values[product])), tuple(kernel.shape)
    if shape[-1] != 1 or shape[-2] < 2:
        return None
    vectors = reader.vector(bias, axis)
    weight, rows, cols = reader.names[id(kernel)], len(shape) - 2, len(shape) - 1
    return Multiply(layer.name, (value,), (product,), weight, rows, cols, axis, axis, shape[-2], True, vectors)


def _depthwise(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:
    product = _inner(reader, made[0])
    node = _depthwise_part(reader, layer, layer.kernel, given[0], product, layer.bias)
    return None if node is None else _activated(layer, product, [node], made)


def _separable(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:
    axis, sizes = _channel_axis(layer, len(reader.values[made[0]])), list(reader.values[made[0]])
    sizes[axis] = reader.values[given[0]][axis]
    middle, product = reader.value(sizes), _inner(reader, made[0])
    first = _depthwise_part(reader, layer, layer.depthwise_kernel, given[0], middle, None)
    ndim = len(layer.pointwise_kernel.shape)
    weight, vectors = reader.names[id(layer.pointwise_kernel)], reader.vector(layer.bias, axis)
    second = Multiply(layer.name, (middle,), (product,), weight, ndim - 1, ndim - 2, axis, axis, 1, True, vectors)
    return None if first is None else _activated(layer, product, [first, second], made)


def _embedding(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:
    if layer.mask_zero or layer.lora_enabled:
        return None
    last = len(reader.values[made[0]]) - 1
    return [Multiply(layer.name, (given[0],), (made[0],), reader.names[id(layer._embeddings)], 1, None, last, last)]


def _batch_norm(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    axis %= len(reader.values[made[0]])
    parts = ((layer.gamma, False), (layer.beta, True), (layer.moving_mean, True), (layer.moving_variance, False))
    vectors = [replace(v, carries=carries) for part, carries in parts for v in reader.vector(part, axis)]
    return [along(layer.name, given, made, vectors, factors="same")]


def _layer_norm(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    ndim = len(reader.values[made[0]])
    parts = [part for part in (layer.gamma, layer.beta) if part is not None]
    if [axis % ndim for axis in axes] != list(range(ndim - len(axes), ndim)):
        return None
    vectors = [replace(reader.broadcast(part, ndim), carries=True) for part in parts]
    return [along(layer.name, given, made, vectors, axes, factors="own")]


def _prelu(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:
    slope = reader.broadcast(layer.alpha, len(reader.values[made[0]]))
    return [along(layer.name, given, made, [slope], factors="same")]


def _same(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:  # noqa: ARG001
    return [along(layer.name, given, made, factors=_factors(type(layer).__name__))]


def _relu(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:  # noqa: ARG001
    """Homogeneous where it has no upper end and its threshold is zero."""
    plain = layer.max_value is None and not layer.threshold
    return [along(layer.name, given, made, factors="same" if plain else "")]


def _factors(kind: str, *, number: bool = False) -> Factors:
    """What an operation of this class makes of factors; a number beside values is the same for all channels."""
    if kind == "Multiply":
        return "product"
    plain = kind in SUMS or kind in ("Relu", "Identity", "LeakyReLU") or kind.endswith("Dropout")
    return "same" if plain and not number and kind not in ("AlphaDropout", "GaussianDropout") else ""


def _activation(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:  # noqa: ARG001
    return _activated(layer, given[0], [], made)


def _softmax(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:  # noqa: ARG001
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    return [along(layer.name, given[:1], made, mixed=axes)]


def _spatial(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:
    """Pooling, padding, cropping, upsampling: all axes but those of examples and channels."""
    ndim = len(reader.values[given[0]])
    channels = ndim - 1 if getattr(layer, "data_format", "channels_last") in (None, "channels_last") else 1
    mixed = [axis for axis in range(1, ndim) if axis != channels]
    return [along(layer.name, given, made, mixed=mixed, drop=len(reader.values[made[0]]) < ndim, factors="same")]


def _concatenate(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:  # noqa: ARG001
    return [Join(layer.name, tuple(given), tuple(made), layer.axis)]


def _flatten(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:
    if layer.data_format == "channels_first" and len(reader.values[given[0]]) > 2:
        return None
    return [Reshape(layer.name, tuple(given), tuple(made))]


def _reshape(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:  # noqa: ARG001
    return [Reshape(layer.name, tuple(given), tuple(made))]


def _permute(reader: Reader, layer: Any, given: list[str], made: list[str]) -> list[Node] | None:  # noqa: ARG001
    return [Permute(layer.name, tuple(given), tuple(made), (0, *layer.dims))]


def _kinds(names: str) -> Sequence[type]:
    return tuple(getattr(kl, name) for name in names.split() if hasattr(kl, name))


LAYERS: tuple[tuple[Sequence[type], Handler], ...] = (
    (_kinds("Dense"), _dense),
    (_kinds("Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose"), _conv),
    (_kinds("DepthwiseConv1D DepthwiseConv2D"), _depthwise),
    (_kinds("SeparableConv1D SeparableConv2D"), _separable),
    (_kinds("Embedding"), _embedding),
    (_kinds("BatchNormalization"), _batch_norm),
    (_kinds("LayerNormalization"), _layer_norm),
    (_kinds("PReLU"), _prelu),
    (
        _kinds(
            "LeakyReLU ELU Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianNoise AlphaDropout "
            "GaussianDropout Identity Rescaling Add Subtract Multiply Average Maximum Minimum ActivityRegularization"
        ),
        _same,
    ),
    (_kinds("ReLU"), _relu),
    (_kinds("Activation"), _activation),
    (_kinds("Softmax"), _softmax),
    (
        _kinds(
            "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D "
            "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D "
            "GlobalMaxPooling2D GlobalMaxPooling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D "
            "Cropping3D UpSampling1D UpSampling2D UpSampling3D"
        ),
        _spatial,
    ),
    (_kinds("Concatenate"), _concatenate),
    (_kinds("Flatten"), _flatten),
    (_kinds("Reshape"), _reshape),
    (_kinds("Permute"), _permute),
)
