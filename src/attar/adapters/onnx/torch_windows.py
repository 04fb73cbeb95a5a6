"""ONNX convolutions and pools in PyTorch: padding before and after, automatic padding, dilation, groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.adapters.onnx.torch_spec import Function, Spec, no_gradient
from attar.adapters.unfold import same_padding


@dataclass(frozen=True)
class Geometry:
    """A window's attributes; sizes are those of the spatial axes."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...] | None
    lower: bool

    @classmethod
    def of(cls, spec: Spec, kernel: tuple[int, ...]) -> Geometry:
        """As a node states them; pads None for automatic padding."""
        ones, auto = (1,) * len(kernel), spec.get("auto_pad", "NOTSET")
        zeros = (0,) * (2 * len(kernel))
        pads = {"NOTSET": spec.get("pads", zeros), "VALID": zeros}.get(auto)
        return cls(kernel, spec.get("strides", ones), spec.get("dilations", ones), pads, auto == "SAME_LOWER")

    def padding(self, sizes: Sequence[int]) -> tuple[list[int], list[int]]:
        """Before and after each axis."""
        if self.pads is None:
            before, after = same_padding(tuple(sizes), self.kernel, self.strides, self.dilations, lower=self.lower)
            return list(before), list(after)
        half = len(self.kernel)
        return list(self.pads[:half]), list(self.pads[half:])


def _flat(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Paddings as F.pad takes them, last axis first."""
    return [size for pair in reversed(list(zip(before, after, strict=True))) for size in pair]


def conv(spec: Spec) -> Function:
    """Conv, of any number of axes."""
    groups = spec.get("group", 1)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        geometry = Geometry.of(spec, tuple(weight.shape[2:]))
        before, after = geometry.padding(x.shape[2:])
        if before != after:
            x, before = F.pad(x, _flat(before, after)), [0] * len(before)
        zeros = [0] * len(before)
        return torch.convolution(
            x,
            weight,
            bias,
            geometry.strides,
            before,
            geometry.dilations,
            False,
            zeros,
            groups,
        )

    return run


def conv_transpose(spec: Spec) -> Function:
    """ConvTranspose; padding is cut off the whole output."""
    groups = spec.get("group", 1)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        geometry = Geometry.of(spec, tuple(weight.shape[2:]))
        extra = list(spec.get("output_padding", (0,) * len(geometry.kernel)))
        before, after = _cut(spec, geometry, x.shape[2:], extra)
        equal = before == after and min(before) >= 0
        padding = before if equal else [0] * len(before)
        y = torch.convolution(
            x,
            weight,
            bias,
            geometry.strides,
            padding,
            geometry.dilations,
            True,
            extra,
            groups,
        )
        return y if equal else F.pad(y, _flat([-p for p in before], [-p for p in after]))

    return run


def _cut(spec: Spec, geometry: Geometry, sizes: Sequence[int], extra: Sequence[int]) -> tuple[list[int], list[int]]:
    """What is taken off the output before and after each axis, by pads or by the shape that is wanted."""
    wanted = spec.get("output_shape")
    if wanted is None and geometry.pads is not None:
        return geometry.padding(sizes)
    if wanted is None:
        wanted = [size * stride for size, stride in zip(sizes, geometry.strides, strict=True)]
    total = [
        stride * (size - 1) + more + (kernel - 1) * dilation + 1 - out
        for size, stride, more, kernel, dilation, out in zip(
            sizes, geometry.strides, extra, geometry.kernel, geometry.dilations, wanted[-len(sizes) :], strict=True
        )
    ]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return (small, large) if spec.get("auto_pad") == "SAME_UPPER" else (large, small)


def _pooling(spec: Spec, fill: float, pool: Callable[..., Tensor]) -> Function:
    """A pool over explicitly padded input; ceil_mode pads behind, but starts no window in the padding."""
    spec.single()
    geometry = Geometry.of(spec, spec.get("kernel_shape"))
    padded_as = replace(geometry, dilations=(1,) * len(geometry.kernel))  # as onnxruntime does automatic padding
    up = bool(spec.get("ceil_mode", 0))

    def run(x: Tensor) -> Tensor:
        before, after = padded_as.padding(x.shape[2:])
        more = [0] * len(before)
        for i, size in enumerate(x.shape[2:]):
            reach, stride = (geometry.kernel[i] - 1) * geometry.dilations[i] + 1, geometry.strides[i]
            rest = size + before[i] + after[i] - reach
            count = ceil(rest / stride) + 1 if up else rest // stride + 1
            if up and (count - 1) * stride >= size + before[i]:
                count -= 1
            more[i] = max((count - 1) * stride - rest, 0)
        wide = [a + m for a, m in zip(after, more, strict=True)]
        padded = F.pad(x, _flat(before, wide), value=fill) if any(before + wide) else x
        return pool(padded, geometry, (x, before, after, more))

    return run


def max_pool(spec: Spec) -> Function:
    """MaxPool without its second output."""
    spec.refuse("storage_order", 0)
    pools = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
    function = pools[len(spec.get("kernel_shape"))]

    def pool(x: Tensor, geometry: Geometry, _: object) -> Tensor:
        return function(x, geometry.kernel, geometry.strides, 0, geometry.dilations)

    return _pooling(spec, -float("inf"), pool)


def average_pool(spec: Spec) -> Function:
    """AveragePool: the sum over the window by the number of entries that count."""
    pools = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
    function = pools[len(spec.get("kernel_shape"))]
    spec.refuse("dilations", (1,) * len(spec.get("kernel_shape")))
    whole = bool(spec.get("count_include_pad", 0))

    def pool(x: Tensor, geometry: Geometry, parts: tuple[Tensor, list[int], list[int], list[int]]) -> Tensor:
        plain, before, after, more = parts
        y = function(x, geometry.kernel, geometry.strides)
        if not any(more) and (whole or not any(before + after)):
            return y
        ones = torch.ones_like(plain[:1, :1])
        around, behind = _flat(before, after), _flat([0] * len(more), more)
        counted = F.pad(F.pad(ones, around, value=float(whole)), behind)
        return y / function(counted, geometry.kernel, geometry.strides)

    return _pooling(spec, 0.0, pool)


def global_pool(kind: str) -> Callable[[Spec], Function]:
    """GlobalAveragePool and GlobalMaxPool."""

    def make(_: Spec) -> Function:
        def run(x: Tensor) -> Tensor:
            axes = tuple(range(2, x.ndim))
            return x.mean(axes, keepdim=True) if kind == "average" else x.amax(axes, keepdim=True)

        return run

    return make


def fused_conv(spec: Spec) -> Function:
    """Conv and an activation behind it (com.microsoft)."""
    kinds: dict[str, Function] = {
        "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh,
        "LeakyRelu": lambda x: F.leaky_relu(x, spec.get("activation_params", (0.01,))[0]),
    }  # fmt: skip
    activation = kinds.get(spec.get("activation", ""))
    if activation is None:
        raise no_gradient(spec.label, f"activation={spec.get('activation')}")
    plain = conv(spec)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        y = plain(x, weight, bias)
        return activation(y if added is None else y + added)

    return run
