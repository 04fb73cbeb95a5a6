"""One vocabulary for the ways torch multiplies by a weight: eager functions, aten operators, graph nodes alike.

`parse` turns a call (a name and arguments) into a `Call` if one of its arguments is a parameter in a matrix form; the
arguments may be tensors or the nodes of a graph, told apart by the `find` that is given. Labels are as in einsum: each
axis of input, weight and output has one, and equal labels are the same axis.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attar.adapters.torch.forms import Form, conv_form, conv_transpose_form, lookup_form, recurrent_form

Labels = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Operand:
    """A parameter as it stands in a call: parameter.permute(perm), or some of its rows (`rows` of its first axis)."""

    name: str
    shape: tuple[int, ...]
    perm: tuple[int, ...]
    rows: tuple[int, int] | None = None


Find = Callable[[Any], Operand | None]
"""The operand that a value is, or None."""


@dataclass(frozen=True, slots=True)
class Call:
    """op: product, conv, conv_transpose, lookup or states; x, bias: values of the call; labels of x, weight and output.

    geometry of a convolution: stride, padding (a number, numbers or "same"/"valid"), dilation, output padding, groups.
    """

    op: str
    weight: Operand
    form: Form
    x: Any
    bias: Any = None
    labels: tuple[Labels, Labels, Labels] = ((), (), ())
    geometry: tuple[Any, ...] = ()


def parse(
    name: str, args: Sequence[Any], kwargs: dict[str, Any], find: Find, ndim: Callable[[Any], int | None]
) -> list[Call]:
    """The calls in which `name(*args, **kwargs)` uses a parameter; ndim gives a value's number of axes, if known."""
    for pattern, names, maker in _MAKERS:
        if pattern.fullmatch(name):
            own = dict(zip(_KEYWORDS.get(name, names), names, strict=True))
            bound = dict(zip(names, args, strict=False)) | {own.get(key, key): value for key, value in kwargs.items()}
            return [call for call in maker(bound, find, ndim) if call is not None]
    if name == "einsum":
        return [call for call in (_einsum(args, kwargs, find, ndim),) if call is not None]
    return []


def _linear(a: dict[str, Any], find: Find, ndim: Any) -> list[Call | None]:
    weight = find(a.get("weight"))
    if weight is None or len(weight.shape) != 2:
        return []
    places = _places(ndim(a["input"]), 1)
    return [_product(weight, a["input"], ((*places, "c"), ("r", "c"), (*places, "r")), a.get("bias"))]


def _matmul(a: dict[str, Any], find: Find, ndim: Any) -> list[Call | None]:
    left, right, bias = a["input"], a["other"], a.get("bias")
    if a.get("beta", 1) != 1 or a.get("alpha", 1) != 1:
        return []
    weight = find(right)
    if weight is not None:
        lead = tuple(f"g{i}" for i in range(len(weight.shape) - 2))
        if len(weight.shape) < 2:
            return []
        x_ndim = ndim(left)
        if lead and x_ndim is None:
            return []
        shared = lead if x_ndim is None or x_ndim >= len(weight.shape) else ()
        places = _places(x_ndim, len(shared) + (1 if not lead else 2))
        if lead:
            labels = ((*places, *shared, "m", "c"), (*lead, "c", "r"), (*places, *lead, "m", "r"))
        else:
            labels = ((*places, "c"), ("c", "r"), (*places, "r"))
        return [_product(weight, left, labels, bias)]
    weight = find(left)
    if weight is None or len(weight.shape) != 2 or ndim(right) == 1:
        return []
    places = _places(ndim(right), 2)
    return [_product(weight, right, ((*places, "c", "m"), ("r", "c"), (*places, "r", "m")), bias)]


def _batched(a: dict[str, Any], find: Find, _ndim: Any) -> list[Call | None]:
    """A product whose operands have three axes, whatever is known of them."""
    return _matmul(a, find, lambda _: 3)


def _reversed_matmul(a: dict[str, Any], find: Find, ndim: Any) -> list[Call | None]:
    return _matmul({"input": a["other"], "other": a["input"]}, find, ndim)


def _places(ndim: int | None, used: int) -> Labels:
    """Labels of the axes before the last `used`; one where their number is not known."""
    return tuple(f"p{i}" for i in range(1 if ndim is None else max(ndim - used, 0)))


def _einsum(args: Sequence[Any], kwargs: dict[str, Any], find: Find, ndim: Any) -> Call | None:
    equation, *operands = args if args else (kwargs["equation"], *kwargs.get("operands", ()))
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = list(operands[0])
    if not isinstance(equation, str) or len(operands) != 2:
        return None
    equation = equation.replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    if not arrow:
        output = "".join(sorted(c for c in set(inputs) if inputs.count(c) == 1 and c.isalpha()))
    terms = inputs.split(",")
    for place in (1, 0):
        weight = find(operands[place])
        if weight is not None and "." not in terms[place] and len(terms[place]) == len(weight.shape):
            x = operands[1 - place]
            named = len(terms[1 - place].replace("...", ""))
            elided = _places(ndim(x), named) if "..." in terms[1 - place] else ()
            labels = (_spell(terms[1 - place], elided), tuple(terms[place]), _spell(output, elided))
            return _product(weight, x, labels)
    return None


def _spell(term: str, elided: Labels) -> Labels:
    """A term's labels, with the elided ones in the place of the dots."""
    before, dots, after = term.partition("...")
    return (*before, *(elided if dots else ()), *after)


def _product(weight: Operand, x: Any, labels: tuple[Labels, Labels, Labels], bias: Any = None) -> Call | None:
    """A call whose labels give the form: shared ones are groups, those of weight and output rows, the rest columns."""
    inputs, own, output = labels
    groups = [c for c in own if c in inputs and c in output]
    rows = [c for c in own if c not in inputs and c in output]
    cols = [c for c in own if c in inputs and c not in output]
    lone = [c for c in inputs if c not in own and c not in output] + [
        c for c in output if c not in own and c not in inputs
    ]
    distinct = all(len(set(part)) == len(part) for part in labels)
    if lone or not distinct or not rows or not cols or len(groups) + len(rows) + len(cols) != len(own):
        return None
    order = tuple(weight.perm[own.index(c)] for c in (*groups, *rows, *cols))
    count = 1
    for label in groups:
        count *= weight.shape[weight.perm[own.index(label)]]
    kind = "dense" if len(own) == 2 and not groups else "einsum"
    form = Form(kind, weight.shape, order, len(groups) + len(rows), count)
    return Call("product", weight, form, x, bias, labels)


def _plain(weight: Operand | None) -> bool:
    """Whether the parameter stands there whole and as it is."""
    return weight is not None and weight.rows is None and weight.perm == tuple(range(len(weight.shape)))


def _conv(a: dict[str, Any], find: Find, ndim: Any) -> list[Call | None]:
    weight = find(a.get("weight"))
    groups = a.get("groups", 1)
    if weight is None or not _plain(weight) or not isinstance(groups, int):
        return []
    if ndim(a["input"]) not in (None, len(weight.shape)):
        return []
    stride, padding, dilation = a.get("stride", 1), a.get("padding", 0), a.get("dilation", 1)
    if a.get("transposed", False):
        return _transposed(a, weight, groups)
    geometry = (stride, padding, dilation, 0, groups)
    return [Call("conv", weight, conv_form(weight.shape, groups), a["input"], a.get("bias"), geometry=geometry)]


def _conv_transpose(a: dict[str, Any], find: Find, ndim: Any) -> list[Call | None]:
    weight = find(a.get("weight"))
    if weight is None or not _plain(weight) or ndim(a["input"]) not in (None, len(weight.shape)):
        return []
    return _transposed(a, weight, a.get("groups", 1))


def _transposed(a: dict[str, Any], weight: Operand, groups: int) -> list[Call | None]:
    geometry = (a.get("stride", 1), a.get("padding", 0), a.get("dilation", 1), a.get("output_padding", 0), groups)
    form = conv_transpose_form(weight.shape, groups)
    return [Call("conv_transpose", weight, form, a["input"], a.get("bias"), geometry=geometry)]


def _lookup(a: dict[str, Any], find: Find, _ndim: Any) -> list[Call | None]:
    """F.embedding takes the ids first, aten.embedding the weight."""
    for weight, ids in (("weight", "input"), ("input", "weight")):
        operand = find(a.get(weight))
        if operand is not None and _plain(operand) and len(operand.shape) == 2 and a.get("max_norm") in (None, False):
            return [Call("lookup", operand, lookup_form(operand.shape), a.get(ids))]
    return []


def _bag(a: dict[str, Any], find: Find, ndim: Any) -> list[Call | None]:
    return [Call("bag", c.weight, c.form, c.x) for c in _lookup(a, find, ndim) if c is not None]


def _cell(a: dict[str, Any], find: Find, _ndim: Any) -> list[Call | None]:
    hidden = a["hx"][0] if isinstance(a["hx"], list | tuple) else a["hx"]
    pairs = ((a["w_ih"], a["input"], a.get("b_ih")), (a["w_hh"], hidden, a.get("b_hh")))
    found = [(find(w), x, b) for w, x, b in pairs]
    return [Call("states", w, recurrent_form(w.shape), x, b) for w, x, b in found if w is not None and _plain(w)]


def _recurrent(a: dict[str, Any], find: Find, _ndim: Any) -> list[Call | None]:
    """A whole recurrent network: its weights, without their inputs (see recurrent.py)."""
    # Of (input, hx, weights, biased, ...) or (data, batch_sizes, hx, weights, ...); an LSTM's hx is a pair as well.
    packed = isinstance(a.get("fourth"), list | tuple)
    weights = a["fourth"] if packed else a["third"]
    found = [(place, find(w)) for place, w in enumerate(weights)]
    return [
        Call("loop", w, recurrent_form(w.shape), None, geometry=(place,))
        for place, w in found
        if w is not None and _plain(w) and len(w.shape) == 2
    ]


_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_ATEN_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "transposed", "output_padding", "groups")
_CONV_TRANSPOSE = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_KEYWORDS = {
    "mm": ("input", "mat2"), "bmm": ("input", "mat2"), "addmm": ("input", "mat1", "mat2"),
    "baddbmm": ("input", "batch1", "batch2"),
}  # fmt: skip
"""What PyTorch calls operands whose names here are others, in the same order."""
_CELL = ("input", "hx", "w_ih", "w_hh", "b_ih", "b_hh")
_MAKERS: tuple[tuple[re.Pattern[str], tuple[str, ...], Callable[..., list[Call | None]]], ...] = (
    (re.compile(r"linear"), ("input", "weight", "bias"), _linear),
    (re.compile(r"matmul|__matmul__|mm"), ("input", "other"), _matmul),
    (re.compile(r"bmm"), ("input", "other"), _batched),
    (re.compile(r"__rmatmul__"), ("input", "other"), _reversed_matmul),
    (re.compile(r"addmm"), ("bias", "input", "other"), _matmul),
    (re.compile(r"baddbmm"), ("bias", "input", "other"), _batched),
    (re.compile(r"conv[123]d"), _CONV, _conv),
    (re.compile(r"_?convolution"), _ATEN_CONV, _conv),
    (re.compile(r"conv_transpose[123]d"), _CONV_TRANSPOSE, _conv_transpose),
    (re.compile(r"embedding"), ("input", "weight", "padding_idx", "max_norm"), _lookup),
    (re.compile(r"_?embedding_bag"), ("input", "weight", "offsets", "max_norm"), _bag),
    (re.compile(r"(lstm|gru|rnn_tanh|rnn_relu)_cell"), _CELL, _cell),
    (re.compile(r"lstm|gru|rnn_tanh|rnn_relu"), ("input", "second", "third", "fourth"), _recurrent),
)


def name_of(function: Any) -> str:
    """A function's, method's or operator's name without its namespace and overload."""
    schema = getattr(function, "_schema", None)
    if schema is not None:
        return str(schema.name).rpartition("::")[2]
    return str(getattr(function, "__name__", function))
