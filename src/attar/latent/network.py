"""The network that makes pixels of latents: integer weights, integer arithmetic, the same pixels on every machine.

Convolutions are matrix products of integers that are held in floats. Every partial sum is an integer below 2**24
(float32) or 2**53 (float64), so that no sum is rounded, whatever the order in which it is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.archive.base import broken
from attar.types import Array

I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
Floats = NDArray[np.floating]
TOP = 255
"""Values between layers, and pixels, are 0 .. TOP."""
MOST_LATENT = 1023
"""Latents lie within -MOST_LATENT .. MOST_LATENT."""
MOST_LAYERS, MOST_WIDTH, MOST_KERNEL, MOST_UP, MOST_SHIFT = 8, 256, 5, 2, 24
"""Of layers; of outputs at a place; rows of a kernel; rows out for a row in; bits shifted out."""
MOST_COLUMNS, MOST_WORK = 1024, 1 << 16
"""Inputs that an output sees; products for each place of an image, which is time that a file may ask for."""
STRIDE = 4
"""Rows and columns of pixels for each row and column of latents."""


@dataclass(frozen=True)
class Layer:
    """A convolution with zeros around: `clip((weight x + bias) >> shift, 0, 255)`, then channels become places.

    weight [out, kernel * kernel * in] int16, columns by (row, column, channel); bias [out] int32. With up 2 the outputs
    at a place are (row, column, channel) of four places.
    """

    kernel: int
    up: int
    shift: int
    weight: I16
    bias: I32

    @property
    def inputs(self) -> int:
        """Channels in."""
        return int(self.weight.shape[1]) // self.kernel**2

    @property
    def outputs(self) -> int:
        """Channels out."""
        return len(self.weight) // self.up**2


@dataclass(frozen=True)
class Network:
    """Layers, first to last; together they make STRIDE rows of one."""

    layers: tuple[Layer, ...]

    @property
    def latents(self) -> int:
        """Latents at a place."""
        return self.layers[0].inputs

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.layers[-1].outputs

    def arrays(self) -> dict[str, Array]:
        """By name, as they are written."""
        form = np.array([(layer.kernel, layer.up, layer.shift) for layer in self.layers], np.uint8)
        found: dict[str, Array] = {"form": form}
        for k, layer in enumerate(self.layers):
            found |= {f"weight {k}": layer.weight, f"bias {k}": layer.bias}
        return found


def network_from(arrays: Mapping[str, Array]) -> Network:
    """A file's network, every shape and value checked; raises FormatError."""
    form = arrays.get("form")
    if form is None or form.dtype != np.uint8 or form.ndim != 2 or form.shape[1] != 3:
        raise broken("network", "it must have an array 'form' [layers, 3] of bytes", ", ".join(sorted(arrays))[:200])
    number = len(form)
    names = {"form", *(f"{kind} {k}" for kind in ("weight", "bias") for k in range(number))}
    if not 0 < number <= MOST_LAYERS or set(arrays) != names:
        raise broken(
            "network",
            f"it must have 1 to {MOST_LAYERS} layers with weight and bias",
            f"{number} and {', '.join(sorted(arrays))}"[:200],
        )
    layers = []
    for k, (kernel, up, shift) in enumerate(form.tolist()):
        right = kernel % 2 and kernel <= MOST_KERNEL and 0 < up <= MOST_UP and shift <= MOST_SHIFT
        weight, bias = arrays[f"weight {k}"], arrays[f"bias {k}"]
        right = right and weight.dtype == np.int16 and bias.dtype == np.int32 and weight.ndim == 2
        right = right and bias.shape == weight.shape[:1] and len(weight) > 0 and len(weight) % up**2 == 0
        if not right or not 0 < weight.shape[1] <= MOST_COLUMNS or weight.shape[1] % kernel**2:
            raise broken(
                f"network, layer {k}", "its shapes must be those of a convolution", f"{weight.shape}, {form[k]}"
            )
        layers.append(Layer(kernel, up, shift, weight, bias))
    _check_chain(layers)
    return Network(tuple(layers))


def _check_chain(layers: list[Layer]) -> None:
    """That each layer takes what the one before gives, and that they end as an image."""
    for k, layer in enumerate(layers):
        before = layers[k - 1].outputs if k else layer.inputs
        if layer.inputs != before or len(layer.weight) > MOST_WIDTH:
            raise broken(
                f"network, layer {k}",
                f"it must take the {before} channels before it and give {MOST_WIDTH} at most",
                f"{layer.inputs} and {len(layer.weight)}",
            )
    rows = int(np.prod([layer.up for layer in layers]))
    if rows != STRIDE or layers[-1].outputs > 4:
        raise broken(
            "network", f"it must make {STRIDE} rows of one and 1 to 4 channels", f"{rows} and {layers[-1].outputs}"
        )
    work, rows = 0, 1
    for layer in layers:
        work += layer.weight.size * rows**2
        rows *= layer.up
    if work > MOST_WORK * STRIDE**2:
        raise broken("network", f"it must take {MOST_WORK} products for a place of an image", str(work // STRIDE**2))


def places(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of latents of an image."""
    return -(-height // STRIDE), -(-width // STRIDE)


def seen(network: Network) -> int:
    """Bytes of what a layer sees at most, in doubles, for each place of latents."""
    most, rows = 0, 1
    for layer in network.layers:
        most = max(most, 8 * layer.weight.shape[1] * rows**2)
        rows *= layer.up
    return most


def run(network: Network, latents: I16) -> U8:
    """Pixels [n, STRIDE * h, STRIDE * w, channels] of latents [n, h, w, c], which lie within MOST_LATENT."""
    x: Any = latents
    for layer, kind in zip(network.layers, _kinds(network), strict=True):
        total = _columns(x.astype(kind), layer.kernel) @ layer.weight.T.astype(kind)
        total += layer.bias.astype(kind)
        total *= kind(0.5**layer.shift)
        x = _shuffled(np.clip(np.floor(total, out=total), 0, TOP, out=total), layer.up)
    return np.asarray(x, np.uint8)


def run_slowly(network: Network, latents: I16) -> U8:
    """What `run` gives, in 64-bit integers."""
    x: Any = latents.astype(np.int64)
    for layer in network.layers:
        total: I64 = _columns(x, layer.kernel) @ layer.weight.T.astype(np.int64) + layer.bias.astype(np.int64)
        x = _shuffled(np.clip(total >> layer.shift, 0, TOP), layer.up)
    return np.asarray(x, np.uint8)


def _kinds(network: Network) -> list[Any]:
    """The float of each layer, by the largest sum that its weights can make; MOST_COLUMNS keeps all below 2**53."""
    found, top = [], MOST_LATENT
    for layer in network.layers:
        most = np.abs(layer.weight.astype(np.int64)).sum(1) * top + np.abs(layer.bias.astype(np.int64))
        found.append(np.float32 if int(most.max()) < 1 << 24 else np.float64)
        top = TOP
    return found


def _columns(x: Array, kernel: int) -> Array:
    """[n, h, w, kernel * kernel * c]: what each place sees."""
    if kernel == 1:
        return x
    n, height, width, channels = x.shape
    edge = kernel // 2
    wide = np.zeros((n, height + 2 * edge, width + 2 * edge, channels), x.dtype)
    wide[:, edge : edge + height, edge : edge + width] = x
    out = np.empty((n, height, width, kernel * kernel, channels), x.dtype)
    for k in range(kernel * kernel):
        y, left = divmod(k, kernel)
        out[:, :, :, k] = wide[:, y : y + height, left : left + width]
    return out.reshape(n, height, width, -1)


def _shuffled(x: Array, up: int) -> Array:
    """[n, h, w, up * up * c] as [n, up * h, up * w, c]."""
    if up == 1:
        return x
    n, height, width, depth = x.shape
    parts = x.reshape(n, height, width, up, up, depth // up**2).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(n, up * height, up * width, -1)
