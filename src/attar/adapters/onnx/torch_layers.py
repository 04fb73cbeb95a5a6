"""ONNX operators with weights, and norms, in PyTorch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.adapters.onnx.torch_ops import MICROSOFT
from attar.adapters.onnx.torch_recurrent import recurrent
from attar.adapters.onnx.torch_spec import Function, Maker, Spec, always, no_gradient
from attar.adapters.onnx.torch_windows import average_pool, conv, conv_transpose, fused_conv, global_pool, max_pool


def _gemm(spec: Spec) -> Function:
    alpha, beta = spec.get("alpha", 1.0), spec.get("beta", 1.0)
    flip_a, flip_b = spec.get("transA", 0), spec.get("transB", 0)

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a, b = a.t() if flip_a else a, b.t() if flip_b else b
        return alpha * (a @ b) if c is None else torch.addmm(c, a, b, beta=beta, alpha=alpha)

    return run


def _fused_matmul(spec: Spec) -> Function:
    for name in ("transBatchA", "transBatchB"):
        spec.refuse(name, 0)
    alpha, flip_a, flip_b = spec.get("alpha", 1.0), spec.get("transA", 0), spec.get("transB", 0)
    return lambda a, b: alpha * (a.transpose(-1, -2) if flip_a else a) @ (b.transpose(-1, -2) if flip_b else b)


def _batch_norm(spec: Spec) -> Function:
    spec.single()
    spec.refuse("training_mode", 0)
    spec.refuse("spatial", 1)
    epsilon = spec.get("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, epsilon)

    return run


def _instance_norm(spec: Spec) -> Function:
    epsilon = spec.get("epsilon", 1e-5)
    return lambda x, scale, shift: F.instance_norm(x, weight=scale, bias=shift, eps=epsilon)


def _layer_norm(spec: Spec) -> Function:
    spec.single()
    axis, epsilon = spec.get("axis", -1), spec.get("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
        y = F.layer_norm(x, x.shape[axis % x.ndim :], eps=epsilon) * scale
        return y if shift is None else y + shift

    return run


def _group_norm(spec: Spec) -> Function:
    """Version 18 has a scale for each group, later ones for each channel."""
    groups, epsilon = spec.get("num_groups"), spec.get("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        each = x.shape[1] // len(scale)
        return F.group_norm(x, groups, scale.repeat_interleave(each), shift.repeat_interleave(each), epsilon)

    return run


def _response_norm(spec: Spec) -> Function:
    size, alpha, beta, bias = spec.get("size"), spec.get("alpha", 1e-4), spec.get("beta", 0.75), spec.get("bias", 1.0)

    def run(x: Tensor) -> Tensor:
        before = (size - 1) // 2
        squares = F.pad((x * x).movedim(1, -1), (before, size - 1 - before)).unfold(-1, size, 1).sum(-1).movedim(-1, 1)
        return x / (bias + alpha / size * squares) ** beta

    return run


def _skip_layer_norm(spec: Spec) -> Function:
    """com.microsoft.SkipLayerNormalization."""
    spec.single()
    epsilon = spec.get("epsilon", 1e-12)

    def run(x: Tensor, skip: Tensor, gain: Tensor, shift: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        total = x + skip if bias is None else x + skip + bias
        return F.layer_norm(total, total.shape[-1:], gain, shift, epsilon)

    return run


def _embed_layer_norm(spec: Spec) -> Function:
    """com.microsoft.EmbedLayerNormalization without a mask; its second output counts nothing then."""
    epsilon = spec.get("epsilon", 1e-12)

    def run(ids: Tensor, segments: Tensor | None, words: Tensor, places: Tensor, *rest: Tensor | None) -> list[Tensor]:
        parts, gain, shift, mask, own = (*rest, *[None] * (5 - len(rest)))
        if mask is not None or own is not None or gain is None:
            raise no_gradient(spec.label, "a mask or positions of its own")
        total = F.embedding(ids.long(), words) + places[: ids.shape[1]]
        if segments is not None and parts is not None:
            total = total + F.embedding(segments.long(), parts)
        return [F.layer_norm(total, total.shape[-1:], gain, shift, epsilon), ids.new_zeros(ids.shape[0])]

    return run


def _attention(spec: Spec) -> Function:
    """com.microsoft.Attention with one packed projection and no mask."""
    spec.single()
    heads, causal = spec.get("num_heads"), bool(spec.get("unidirectional", 0))
    for name, value in (("qkv_hidden_sizes", None), ("do_rotary", 0)):
        spec.refuse(name, value)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Tensor | None) -> Tensor:
        if any(value is not None for value in rest):
            raise no_gradient(spec.label, "a mask or a past")
        n, t, width = *x.shape[:2], weight.shape[1] // 3
        whole = F.linear(x, weight.t(), bias).reshape(n, t, 3, heads, width // heads)
        q, k, v = whole.permute(2, 0, 3, 1, 4)
        scale = spec.get("scale") or 1 / math.sqrt(width // heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
        return y.transpose(1, 2).reshape(n, t, width)

    return run


LAYERS: dict[tuple[str, str], Maker] = {
    ("", "Gemm"): _gemm,
    ("", "MatMul"): always(torch.matmul),
    ("", "Conv"): conv,
    ("", "ConvTranspose"): conv_transpose,
    ("", "MaxPool"): max_pool,
    ("", "AveragePool"): average_pool,
    ("", "GlobalAveragePool"): global_pool("average"),
    ("", "GlobalMaxPool"): global_pool("max"),
    ("", "BatchNormalization"): _batch_norm,
    ("", "InstanceNormalization"): _instance_norm,
    ("", "LayerNormalization"): _layer_norm,
    ("", "GroupNormalization"): _group_norm,
    ("", "LRN"): _response_norm,
    **{("", kind): recurrent(kind) for kind in ("LSTM", "GRU", "RNN")},
    (MICROSOFT, "FusedMatMul"): _fused_matmul,
    (MICROSOFT, "FusedConv"): fused_conv,
    (MICROSOFT, "SkipLayerNormalization"): _skip_layer_norm,
    (MICROSOFT, "EmbedLayerNormalization"): _embed_layer_norm,
    (MICROSOFT, "Attention"): _attention,
}
