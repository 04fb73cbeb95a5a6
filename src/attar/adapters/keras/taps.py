"""See and shift the products inside Keras layers while a model runs, and leave the layers as they were.

A hook is called with the site, the layer's input and the product z (before the activation, with the bias) and returns
the z to go on with. Methods are replaced on the layer object only, in its instance dictionary, and removed on exit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from typing import Any

import keras
import numpy as np
from keras import ops

from attar.adapters.keras.forms import ConvTranspose
from attar.adapters.keras.layers import Site

Hook = Callable[[Site, Any, Any], Any]
"""(site, input, z) -> z; z is None where the product is hidden in a recurrent loop."""

_ABSENT = object()


@contextmanager
def replaced(layer: Any, **attributes: Any) -> Iterator[None]:
    """Attributes of the object alone, past Keras' tracking, put back at the end."""
    own = vars(layer)
    before = {name: own.get(name, _ABSENT) for name in attributes}
    own.update(attributes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is _ABSENT:
                own.pop(name, None)
            else:
                own[name] = value


@contextmanager
def tapped(sites: Sequence[Site], hook: Hook) -> Iterator[None]:
    """Within, every call of a site's layer goes through the hook; nothing is left behind, also after an error."""
    layers: dict[int, list[Site]] = {}
    for site in sites:
        layers.setdefault(id(site.layer), []).append(site)
    with ExitStack() as stack:
        for own in layers.values():
            by_tap = {site.tap: site for site in own}
            stack.enter_context(replaced(own[0].layer, call=_wrapper(own[0].layer, by_tap, hook)))
        yield


def _wrapper(layer: Any, sites: dict[str, Site], hook: Hook) -> Callable[..., Any]:
    """The layer's `call` with the hook in it."""
    call = layer.call
    if isinstance(layer, keras.layers.RNN):
        return _recurrent(layer, call, sites, hook)
    if isinstance(layer, keras.layers.Embedding):
        return _lookup(layer, call, sites, hook)
    if isinstance(layer, keras.layers.SeparableConv1D | keras.layers.SeparableConv2D):
        return _separable(layer, sites, hook)
    site = sites["product"]

    def wrapped(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        activation = layer.activation

        def tap(z: Any) -> Any:
            return activation(hook(site, inputs, z))

        with replaced(layer, activation=tap):
            return call(inputs, *args, **kwargs)

    return wrapped


def _lookup(layer: Any, call: Callable[..., Any], sites: dict[str, Site], hook: Hook) -> Callable[..., Any]:
    """Ids in, rows out; in reverse a projection by a kernel of its own (a tied one is not the site's product)."""

    def wrapped(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not (args[0] if args else kwargs.get("reverse", False)):
            return hook(sites["product"], inputs, call(inputs)) if "product" in sites else call(inputs)
        if "reverse" not in sites:
            return call(inputs, *args, **kwargs)
        z = hook(sites["reverse"], inputs, ops.matmul(inputs, layer.reverse_embeddings))
        cap = layer.logit_soft_cap
        return z if not cap else ops.tanh(z / cap) * cap

    return wrapped


def _separable(layer: Any, sites: dict[str, Site], hook: Hook) -> Callable[..., Any]:
    """The depthwise and the pointwise product one after the other, as ops.separable_conv computes them."""

    def wrapped(inputs: Any) -> Any:
        z = ops.depthwise_conv(
            inputs, layer.depthwise_kernel, strides=layer.strides, padding=layer.padding,
            data_format=layer.data_format, dilation_rate=layer.dilation_rate,
        )  # fmt: skip
        if "depthwise" in sites:
            z = hook(sites["depthwise"], inputs, z)
        out = ops.conv(z, layer.pointwise_kernel, padding="valid", data_format=layer.data_format)
        if layer.bias is not None:
            wide = (
                (1,) * (layer.rank + 1) + (-1,) if layer.data_format == "channels_last" else (1, -1) + (1,) * layer.rank
            )
            out = out + ops.reshape(layer.bias, wide)
        if "product" in sites:
            out = hook(sites["product"], z, out)
        return layer.activation(out)

    return wrapped


def _recurrent(layer: Any, call: Callable[..., Any], sites: dict[str, Site], hook: Hook) -> Callable[..., Any]:
    """The inputs x_t and the states h_{t-1} before each step, masked steps left out, in the loop's order.

    A GRU with reset_after=False multiplies its candidate kernel with r * h; h stands for it here.
    """

    def wrapped(sequences: Any, *args: Any, **kwargs: Any) -> Any:
        if "inputs" in sites:
            hook(sites["inputs"], _unmasked(sequences, _argument("mask", args, kwargs)), None)
        if "states" in sites:
            hook(sites["states"], _states(layer, call, sequences, args, kwargs), None)
        return call(sequences, *args, **kwargs)

    return wrapped


def _argument(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """An argument of RNN.call after the sequences, given by position or by name."""
    place = ("initial_state", "mask", "training").index(name)
    return args[place] if place < len(args) else kwargs.get(name)


def _states(layer: Any, call: Callable[..., Any], sequences: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """h_{t-1} [n * t, units] of every step that ran, by a second run that returns all outputs."""
    mask = _argument("mask", args, kwargs)
    start = _argument("initial_state", args, kwargs)
    if start is None:
        start = layer.states if layer.stateful else layer.get_initial_state(batch_size=sequences.shape[0])
    start = list(start) if isinstance(start, list | tuple) else [start]
    with replaced(layer, return_sequences=True, return_state=False, stateful=False, zero_output_for_mask=False):
        outputs = call(sequences, initial_state=start, mask=mask, training=False)
    first = ops.cast(ops.convert_to_tensor(start[0]), outputs.dtype)
    before = ops.concatenate([first[:, None], outputs[:, :-1]], axis=1)
    if mask is not None and layer.go_backwards:
        mask = ops.flip(mask, axis=1)
    return _unmasked(before, mask)


def _unmasked(steps: Any, mask: Any) -> Any:
    """[n, t, c] -> [n * t, c] without the steps that the mask leaves out."""
    flat = ops.reshape(steps, (-1, steps.shape[-1]))
    if mask is None:
        return flat
    keep = ops.nonzero(ops.reshape(mask, (-1,)))[0]
    return ops.take(flat, keep, axis=0)


def shift(site: Site, x: Any, z: Any, delta: Any) -> Any:
    """Z, the product with x, with delta[examples, rows] added to every position of each example.

    A layer that sees examples * k rows (positions moved into the first axis) takes each delta k times.
    """
    delta = ops.repeat(delta, z.shape[0] // delta.shape[0], axis=0)
    if isinstance(site.form, ConvTranspose):
        return z + ops.cast(_scattered(site.layer, x, z, delta), z.dtype)
    axes = site.form.row_axes(len(z.shape))
    assert axes is not None  # the adapter has asked shows_product
    dims = [z.shape[axis] for axis in axes]
    shape = [z.shape[0], *dims, *[1] * (len(z.shape) - 1 - len(dims))]
    wide = ops.moveaxis(ops.reshape(delta, shape), list(range(1, 1 + len(dims))), list(axes))
    return z + ops.cast(wide, z.dtype)


def _scattered(layer: Any, x: Any, z: Any, delta: Any) -> Any:
    """What a constant for each product of a transposed convolution adds to z: how often each offset lands where."""
    last = layer.data_format == "channels_last"
    spatial = x.shape[1:-1] if last else x.shape[2:]
    taps = prod(layer.kernel_size)
    kernel = np.eye(taps, dtype=np.float32).reshape(*layer.kernel_size, taps, 1)
    landed = ops.conv_transpose(
        np.ones((1, *spatial, 1), np.float32), kernel, strides=list(layer.strides), padding=layer.padding,
        output_padding=layer.output_padding, dilation_rate=layer.dilation_rate, data_format="channels_last",
    )  # fmt: skip
    offsets = ops.reshape(ops.cast(delta, "float32"), (z.shape[0], -1, taps))
    added = ops.einsum("pt,not->npo", ops.reshape(landed, (-1, taps)), offsets)
    added = ops.reshape(added, (z.shape[0], *landed.shape[1:-1], -1))
    return added if last else ops.moveaxis(added, -1, 1)
