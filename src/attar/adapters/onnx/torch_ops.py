"""ONNX operators on single elements, and reductions, in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.adapters.onnx.torch_spec import TYPES, Function, Maker, Spec, always, axes_of, no_gradient

MICROSOFT = "com.microsoft"


def _div(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _pow(a: Tensor, b: Tensor) -> Tensor:
    """In the base's type; a square as a product, whose gradient is cheaper and exact at zero."""
    if b.numel() == 1 and not b.requires_grad and float(b) == 2:
        return a * a
    return torch.pow(a, b).to(a.dtype)


def _mod(spec: Spec) -> Function:
    return torch.fmod if spec.get("fmod", 0) else torch.remainder


def _gelu(spec: Spec) -> Function:
    kind = spec.get("approximate", "none")
    return lambda x: F.gelu(x, approximate=kind)


def _fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


def _clip(spec: Spec) -> Function:
    low, high = spec.get("min"), spec.get("max")

    def clip(x: Tensor, minimum: Tensor | None = None, maximum: Tensor | None = None) -> Tensor:
        lowest = low if minimum is None else minimum.item()
        highest = high if maximum is None else maximum.item()
        return x if lowest is None and highest is None else torch.clamp(x, lowest, highest)

    return clip


def _with(function: Callable[..., Tensor], **defaults: float) -> Maker:
    """An activation whose attributes are arguments of PyTorch's, in this order."""

    def make(spec: Spec) -> Function:
        values = [spec.get(name, default) for name, default in defaults.items()]
        return lambda x: function(x, *values)

    return make


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


def _elu(x: Tensor, alpha: float) -> Tensor:
    return F.elu(x, alpha)


def _thresholded(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x > alpha, x, torch.zeros_like(x))


def _selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * F.elu(x, alpha)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, slope * x, x)


def _softmax(function: Callable[[Tensor, int], Tensor]) -> Maker:
    """Over one axis; before version 13 over all from the axis on, as one."""

    def make(spec: Spec) -> Function:
        axis = spec.get("axis", -1 if spec.opset >= 13 else 1)
        if spec.opset >= 13:
            return lambda x: function(x, axis)

        def flat(x: Tensor) -> Tensor:
            start = axis % x.ndim
            return function(x.reshape(math.prod(x.shape[:start]), -1), 1).reshape(x.shape)

        return flat

    return make


def _cast(spec: Spec) -> Function:
    kind = TYPES.get(spec.get("to"))
    if kind is None:
        raise no_gradient(spec.label, f"type {spec.get('to')}")
    return lambda x: x.to(kind)


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Maker:
    return always(lambda *values: reduce(function, values))


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Maker:
    def make(spec: Spec) -> Function:
        keep, idle = bool(spec.get("keepdims", 1)), bool(spec.get("noop_with_empty_axes", 0))

        def reduced(x: Tensor, given: Tensor | None = None) -> Tensor:
            axes = axes_of(spec, given)
            if not axes and idle:
                return x
            return function(x, [a % x.ndim for a in axes] if axes else list(range(x.ndim)), keep)

        return reduced

    return make


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keep)
    return x


def _arg(function: Callable[..., Tensor]) -> Maker:
    def make(spec: Spec) -> Function:
        spec.refuse("select_last_index", 0)
        axis, keep = spec.get("axis", 0), bool(spec.get("keepdims", 1))
        return lambda x: function(x, axis, keep)

    return make


def _norm(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.linalg.vector_norm(x, 2, axes, keep)


_PLAIN: dict[str, Callable[..., Any]] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": _div, "Pow": _pow, "Sqrt": torch.sqrt,
    "Neg": torch.neg, "Abs": torch.abs, "Exp": torch.exp, "Log": torch.log, "Reciprocal": torch.reciprocal,
    "Erf": torch.erf, "Sin": torch.sin, "Cos": torch.cos, "Tanh": torch.tanh, "Atan": torch.atan, "Sign": torch.sign,
    "Floor": torch.floor, "Ceil": torch.ceil, "Round": torch.round,
    "Relu": torch.relu, "Sigmoid": torch.sigmoid, "HardSwish": F.hardswish, "Softplus": F.softplus,
    "Softsign": F.softsign, "Mish": F.mish, "PRelu": _prelu, "Identity": lambda x: x, "Dropout": lambda x, *_: x,
    "Equal": torch.eq, "Less": torch.lt, "LessOrEqual": torch.le, "Greater": torch.gt, "GreaterOrEqual": torch.ge,
    "Not": torch.logical_not, "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
    "IsNaN": torch.isnan, "Where": torch.where, "CastLike": lambda x, like: x.to(like.dtype),
}  # fmt: skip

_MADE: dict[str, Maker] = {
    "Mod": _mod,
    "Clip": _clip,
    "Cast": _cast,
    "Gelu": _gelu,
    "LeakyRelu": _with(F.leaky_relu, alpha=0.01),
    "Elu": _with(_elu, alpha=1.0),
    "Celu": _with(F.celu, alpha=1.0),
    "Selu": _with(_selu, alpha=1.6732632423543772, gamma=1.0507009873554805),
    "ThresholdedRelu": _with(_thresholded, alpha=1.0),
    "HardSigmoid": _with(_hard_sigmoid, alpha=0.2, beta=0.5),
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "Sum": _variadic(torch.add),
    "Max": _variadic(torch.maximum),
    "Min": _variadic(torch.minimum),
    "Mean": always(lambda *values: reduce(torch.add, values) / len(values)),
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "ReduceMean": _reduction(torch.mean),
    "ReduceSum": _reduction(torch.sum),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMin": _reduction(torch.amin),
    "ReduceProd": _reduction(_prod),
    "ReduceL1": _reduction(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "ReduceL2": _reduction(_norm),
    "ReduceSumSquare": _reduction(lambda x, axes, keep: (x * x).sum(axes, keep)),
    "ReduceLogSumExp": _reduction(torch.logsumexp),
}

OPERATORS: dict[tuple[str, str], Maker] = {
    **{("", name): always(function) for name, function in _PLAIN.items()},
    **{("", name): maker for name, maker in _MADE.items()},
    (MICROSOFT, "Gelu"): always(F.gelu),
    (MICROSOFT, "FastGelu"): always(_fast_gelu),
    (MICROSOFT, "BiasGelu"): always(lambda x, bias: F.gelu(x + bias)),
    (MICROSOFT, "QuickGelu"): _with(lambda x, alpha: x * torch.sigmoid(alpha * x), alpha=1.702),
}
