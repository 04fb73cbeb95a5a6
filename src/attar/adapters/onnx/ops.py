"""Which operators hold a weight that is a matrix, at which input, and in which form: one function for each operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx import NodeProto

from attar.adapters.onnx.forms import (
    ConvAttributes,
    Convolution,
    Form,
    Lookup,
    Product,
    Recurrent,
    TransposedConvolution,
)
from attar.adapters.onnx.graph import attribute

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Match:
    """A weight found at one input of a node.

    sources are the tensors that X is made from. shown: the node's first output is W X plus its own bias. bias is the
    input number of the node's own bias, bias_scale what it is multiplied with. activations: an activation follows
    inside the node.
    """

    weight: int
    form: Form
    sources: tuple[str, ...]
    shown: bool = True
    bias: int | None = None
    bias_scale: float = 1.0
    own_output: str = ""
    """For a hidden state: the name that the node's first output gets where it has none."""


@dataclass(frozen=True)
class Constants:
    """The shapes of a node's constant inputs by number, and the inferred ones of the others (-1: free)."""

    shapes: Mapping[int, tuple[int, ...]]
    inferred: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


Finder = Callable[[NodeProto, Constants], list[Match]]


def _matmul(node: NodeProto, constants: Constants) -> list[Match]:
    """x @ W or W @ x; a stack of matrices is one group for each where the activation has the same leading axes.

    A stack of one is a matrix, where the activation has as many axes.
    """
    weight = 1 if 1 in constants.shapes else 0
    shape, other = constants.shapes.get(weight, ()), constants.inferred.get(1 - weight)
    if len(constants.shapes) != 1 or len(shape) < 2:
        return []
    x, w, y = ("mk", "kn", "mn") if weight == 1 else ("kn", "mk", "mn")
    single = set(shape[:-2]) == {1} and other is not None and len(other) >= len(shape)
    if single:
        subscripts = ("..." + x, w, "..." + y)
    elif len(shape) > 2:
        lead = LETTERS[-(len(shape) - 2) :]
        if other is None or other[-len(shape) : -2] != shape[:-2]:  # broadcast over the stack, or of unknown shape
            return []
        subscripts = ("..." + lead + x, lead + w, "..." + lead + y)
    elif weight == 1:
        subscripts = ("...k", w, "...n")
    else:
        subscripts = ("k", w, "m") if other is not None and len(other) == 1 else ("..." + x, w, "..." + y)
    return [Match(weight, Product("dense", subscripts, shape), (node.input[1 - weight],))]


def _gemm(node: NodeProto, constants: Constants) -> list[Match]:
    """alpha A' B' + beta C with either factor constant."""
    a = "km" if attribute(node, "transA", 0) else "mk"
    b = "nk" if attribute(node, "transB", 0) else "kn"
    scale, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    weight = 1 if 1 in constants.shapes else 0
    if len(constants.shapes.get(weight, ())) != 2 or (0 in constants.shapes and 1 in constants.shapes):
        return []
    subscripts = (a, b, "mn") if weight == 1 else (b, a, "mn")
    form = Product("dense", subscripts, constants.shapes[weight], scale)
    return [Match(weight, form, (node.input[1 - weight],), bias=2, bias_scale=beta)]


def _fused_matmul(node: NodeProto, constants: Constants) -> list[Match]:
    """MatMul with transposes and a scale (com.microsoft)."""
    shape = constants.shapes.get(1, ())
    if attribute(node, "transBatchA", 0) or attribute(node, "transBatchB", 0) or len(shape) != 2:
        return []
    x, y = ("...km", "...mn") if attribute(node, "transA", 0) else ("...k", "...n")
    w = "nk" if attribute(node, "transB", 0) else "kn"
    form = Product("dense", (x, w, y), shape, attribute(node, "alpha", 1.0))
    return [Match(1, form, (node.input[0],))]


def _conv_attributes(node: NodeProto, axes: int) -> ConvAttributes:
    auto = attribute(node, "auto_pad", "NOTSET")
    ones, zeros = (1,) * axes, (0,) * (2 * axes)
    pads = attribute(node, "pads", zeros) if auto == "NOTSET" else zeros if auto == "VALID" else None
    return ConvAttributes(
        attribute(node, "strides", ones),
        attribute(node, "dilations", ones),
        pads,
        attribute(node, "group", 1),
        auto == "SAME_LOWER",
    )


def _conv(node: NodeProto, constants: Constants) -> list[Match]:
    shape = constants.shapes.get(1, ())
    if len(shape) < 3 or 0 in constants.shapes:
        return []
    form = Convolution(shape, _conv_attributes(node, len(shape) - 2))
    # A fused node applies an activation before it hands on its product.
    return [Match(1, form, (node.input[0],), shown=node.op_type == "Conv", bias=2)]


def _conv_transpose(node: NodeProto, constants: Constants) -> list[Match]:
    shape = constants.shapes.get(1, ())
    if len(shape) < 3 or 0 in constants.shapes:
        return []
    form = TransposedConvolution(shape, attribute(node, "group", 1))
    return [Match(1, form, (node.input[0],), shown=False)]


def _gather(node: NodeProto, constants: Constants) -> list[Match]:
    shape = constants.shapes.get(0, ())
    if len(shape) < 2 or attribute(node, "axis", 0) % len(shape):
        return []
    return [Match(0, Lookup(shape), (node.input[1],))]


def _recurrent(node: NodeProto, constants: Constants) -> list[Match]:
    common: dict[str, Any] = {
        "direction": attribute(node, "direction", "forward"),
        "batch_first": bool(attribute(node, "layout", 0)),
    }
    matches = []
    if len(constants.shapes.get(1, ())) == 3:
        form = Recurrent(constants.shapes[1], hidden=False, **common)
        matches.append(Match(1, form, (node.input[0],), shown=False))
    if len(constants.shapes.get(2, ())) == 3:
        form = Recurrent(constants.shapes[2], hidden=True, **common)
        states = node.output[0] if node.output and node.output[0] else f"{node.input[2]}/Y"
        first = (node.input[5],) if len(node.input) > 5 and node.input[5] else ()
        matches.append(Match(2, form, (states, *first), shown=False, own_output=states))
    return matches


def _attention(node: NodeProto, constants: Constants) -> list[Match]:
    """com.microsoft.Attention: one packed weight [inputs, q + k + v]."""
    shape = constants.shapes.get(1, ())
    if len(shape) != 2:
        return []
    form = Product("dense", ("...i", "io", "...o"), shape)
    return [Match(1, form, (node.input[0],), shown=False, bias=2)]


def _embed(node: NodeProto, constants: Constants) -> list[Match]:
    """com.microsoft.EmbedLayerNormalization: words and segments are looked up by input; positions are left alone."""
    pairs = [(2, 0), (4, 1)]
    return [
        Match(table, Lookup(constants.shapes[table]), (node.input[ids],), shown=False)
        for table, ids in pairs
        if len(constants.shapes.get(table, ())) == 2 and node.input[ids]
    ]


def _einsum(node: NodeProto, constants: Constants) -> list[Match]:
    equation = attribute(node, "equation", "").replace(" ", "")
    if len(node.input) != 2 or len(constants.shapes) != 1:
        return []
    left, arrow, y = equation.partition("->")
    operands = left.split(",")
    if not arrow:  # the implicit form: letters that occur once, in alphabetical order
        letters = left.replace(",", "").replace("...", "")
        y = ("..." if "..." in left else "") + "".join(sorted(c for c in letters if letters.count(c) == 1))
    weight = next(iter(constants.shapes))
    subscripts = (operands[1 - weight], operands[weight], y)
    if len(operands[weight]) != len(constants.shapes[weight]) or not Product.fits(subscripts):
        return []
    form = Product("einsum", subscripts, constants.shapes[weight])
    return [Match(weight, form, (node.input[1 - weight],))]


FINDERS: dict[tuple[str, str], Finder] = {
    ("", "MatMul"): _matmul,
    ("", "Gemm"): _gemm,
    ("", "Conv"): _conv,
    ("", "ConvTranspose"): _conv_transpose,
    ("", "Gather"): _gather,
    ("", "LSTM"): _recurrent,
    ("", "GRU"): _recurrent,
    ("", "RNN"): _recurrent,
    ("", "Einsum"): _einsum,
    (MICROSOFT, "FusedMatMul"): _fused_matmul,
    (MICROSOFT, "FusedConv"): _conv,
    (MICROSOFT, "Attention"): _attention,
    (MICROSOFT, "EmbedLayerNormalization"): _embed,
}


def find(node: NodeProto, constants: Constants) -> list[Match]:
    """The weights of one node; empty where the operator is not known or its weight is no matrix product."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    finder = FINDERS.get((domain, node.op_type))
    return finder(node, constants) if finder else []
