"""ONNX operators in the words of `attar.structure.graph`: one short handler for each kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from onnx import NodeProto

from attar.adapters.onnx.chain import Chain
from attar.adapters.onnx.graph import attribute, is_op
from attar.adapters.onnx.reader import Reader, resolve_in, stored_axis
from attar.structure.graph import Along, Contract, Factors, Join, Multiply, Node, Part, Permute, Reshape, Vector

MICROSOFT = "com.microsoft"
Handler = Callable[[Reader, NodeProto], Node | None]
"""The node, or None where the operator is used in a way that is not described."""


def _multiply(
    node: NodeProto, chain: Chain, axes: tuple[int, int, int], vectors: Sequence[Vector | None] = (),
    *, groups: int = 1, window: bool = False, x: int = 0,
) -> Multiply | None:  # fmt: skip
    """axes: the weight's rows and columns as the node sees it, and the value's channels."""
    rows, cols = (stored_axis(chain, axis % len(chain.shape)) for axis in axes[:2])
    found = [vector for vector in vectors if vector is not None]
    if rows is None or cols is None or len(found) < len(vectors):
        return None
    return Multiply(
        node.name, (node.input[x],), (node.output[0],), chain.slot.name, rows, cols, axes[2], axes[2], groups, window,
        tuple(found),
    )  # fmt: skip


def _conv(reader: Reader, node: NodeProto) -> Node | None:
    weight, bias = reader.chain(node, 1), reader.chain(node, 2)
    if weight is None or any(node.input[3:]) or (bias is None and any(node.input[2:])):
        return None
    vectors = [] if bias is None else [reader.vector(bias, reader.rank(node.output[0]), 1)]
    groups = attribute(node, "group", 1)
    found = _multiply(node, weight, (0, 1, 1), vectors, groups=groups, window=True)
    fused = attribute(node, "activation")
    return found if found is None or fused in (None, *HOMOGENEOUS) else replace(found, linear=False)


def _conv_transpose(reader: Reader, node: NodeProto) -> Node | None:
    weight, bias = reader.chain(node, 1), reader.chain(node, 2)
    if weight is None or attribute(node, "group", 1) != 1 or (bias is None and any(node.input[2:])):
        return None
    vectors = [] if bias is None else [reader.vector(bias, reader.rank(node.output[0]), 1)]
    return _multiply(node, weight, (1, 0, 1), vectors, window=True)


def _gemm(reader: Reader, node: NodeProto) -> Node | None:
    weight, bias = reader.chain(node, 1), reader.chain(node, 2)
    if weight is None or attribute(node, "transA", 0) or (bias is None and any(node.input[2:])):
        return None
    vectors = [] if bias is None else [reader.vector(bias, 2)]
    rows, cols = (0, 1) if attribute(node, "transB", 0) else (1, 0)
    return _multiply(node, weight, (rows, cols, -1), vectors)


def _matmul(reader: Reader, node: NodeProto) -> Node | None:
    left, right = reader.chain(node, 0), reader.chain(node, 1)
    if left is None and right is None:
        wide = min(reader.rank(name) for name in node.input) >= 2
        return Contract(node.name, tuple(node.input), (node.output[0],)) if wide else None
    weight = right if right is not None else left
    assert weight is not None
    if len(weight.shape) != 2:
        return None
    if right is not None:
        return _multiply(node, weight, (1, 0, -1))
    return _multiply(node, weight, (0, 1, -2), x=1) if reader.rank(node.input[1]) >= 2 else None


def _along(
    reader: Reader, node: NodeProto, mixed: Sequence[int] = (), *, drop: bool = False, of: int = 99,
    factors: Factors = "", carries: bool = True,
) -> Along | None:  # fmt: skip
    """Position by position over the first `of` inputs, of which stored ones are broadcast, and carry where they can."""
    names = [name for name in node.input[:of] if reader.computed(name)]
    ndim = max(reader.rank(name) for name in names)
    vectors = []
    for place, name in enumerate(node.input[:of]):
        chain = reader.chain(node, place)
        if name and chain is not None:
            if len(chain.shape) > ndim or (vector := reader.vector(chain, ndim)) is None:
                return None
            vectors.append(replace(vector, carries=carries))
    return Along(node.name, tuple(names), (node.output[0],), tuple(vectors), tuple(mixed), drop, factors)


def _first(reader: Reader, node: NodeProto) -> Node | None:
    """An activation: the other inputs are numbers."""
    return _along(reader, node, of=1, factors="same" if node.op_type in HOMOGENEOUS else "")


def _sum(reader: Reader, node: NodeProto) -> Node | None:
    return _along(reader, node, factors="same")


def _product(reader: Reader, node: NodeProto) -> Node | None:
    """Mul, and Div by a constant: another divisor would take its factors away again."""
    divides = node.op_type == "Div"
    plain = not divides or reader.chain(node, 1) is not None
    return _along(reader, node, factors="product" if plain else "", carries=not divides)


def _prelu(reader: Reader, node: NodeProto) -> Node | None:
    return _along(reader, node, factors="" if reader.computed(node.input[1]) else "same", carries=False)


def _clip(reader: Reader, node: NodeProto) -> Node | None:
    """Homogeneous where it is a ReLU: nothing below zero, and no upper end."""
    if not all(c is None or not c.shape for c in map(resolve_in(reader), node.input[1:])):
        return None
    low, high = _number(reader, node, "min", 1), _number(reader, node, "max", 2)
    return _along(reader, node, of=1, factors="same" if low == 0 and high in (None, float("inf")) else "")


def _number(reader: Reader, node: NodeProto, name: str, place: int) -> float | None:
    """An attribute, or in newer versions a constant input: one number; None where missing, NaN where not known."""
    given = attribute(node, name)
    if given is not None or len(node.input) <= place or not node.input[place]:
        return None if given is None else float(given)
    chain = reader.chain(node, place)
    known = chain is not None and chain.slot.values is not None and chain.slot.values.size == 1
    return float(chain.read().ravel()[0]) if chain is not None and known else float("nan")


def _norm(reader: Reader, node: NodeProto) -> Node | None:
    """Batch and instance norm: one entry of each input for each channel; a batch norm's shift and mean carry."""
    if any(node.output[1:]):
        return None
    ndim = reader.rank(node.input[0])
    chains = [reader.chain(node, place) for place in range(1, len(node.input))]
    vectors = [None if chain is None else reader.vector(chain, ndim, 1) for chain in chains]
    batch = node.op_type == "BatchNormalization"
    known = [replace(v, carries=not batch or place in (1, 2)) for place, v in enumerate(vectors) if v is not None]
    if len(known) < len(vectors):
        return None
    factors: Factors = "same" if batch else "own"
    return Along(node.name, (node.input[0],), (node.output[0],), tuple(known), factors=factors)


def _pool(reader: Reader, node: NodeProto) -> Node | None:
    if any(node.output[1:]):
        return None
    factors: Factors = "" if "Lp" in node.op_type else "same"
    return _along(reader, node, range(2, reader.rank(node.input[0])), of=1, factors=factors)


def _softmax(reader: Reader, node: NodeProto) -> Node | None:
    return _along(reader, node, (attribute(node, "axis", -1),), of=1)


def _layer_norm(reader: Reader, node: NodeProto) -> Node | None:
    ndim = reader.rank(node.input[0])
    stored = not any(reader.computed(name) for name in node.input[1:])
    axes = range(attribute(node, "axis", -1) % ndim, ndim)
    return _along(reader, node, axes, factors="own" if stored and not any(node.output[1:]) else "")


def _reduce(reader: Reader, node: NodeProto) -> Node | None:
    ndim, axes = reader.rank(node.input[0]), reader.ints(node, "axes", 1)
    if axes is None:
        axes = () if attribute(node, "noop_with_empty_axes", 0) else tuple(range(ndim))
        if any(node.input[1:]):
            return None
    factors: Factors = "same" if node.op_type in LINEAR_REDUCE else ""
    return _along(reader, node, axes, drop=not attribute(node, "keepdims", 1), of=1, factors=factors)


def _concat(reader: Reader, node: NodeProto) -> Node | None:
    if any(chain is not None for chain in map(resolve_in(reader), node.input)):
        return None
    return Join(node.name, tuple(node.input), (node.output[0],), attribute(node, "axis"))


def _split(reader: Reader, node: NodeProto) -> Node | None:
    if any(node.input[1:]) and reader.chain(node, 1) is None:
        return None
    return Part(node.name, (node.input[0],), tuple(node.output), attribute(node, "axis", 0))


def _transpose(reader: Reader, node: NodeProto) -> Node | None:
    order = attribute(node, "perm") or tuple(reversed(range(reader.rank(node.input[0]))))
    return Permute(node.name, (node.input[0],), (node.output[0],), tuple(order))


def _reshape(reader: Reader, node: NodeProto) -> Node | None:
    """A target that the graph computes can only be -1 where channels are."""
    rigid: tuple[int, ...] = ()
    if is_op(node, "Reshape") and attribute(node, "shape") is None and reader.chain(node, 1) is None:
        rigid = tuple(range(reader.rank(node.output[0])))
    return Reshape(node.name, (node.input[0],), (node.output[0],), rigid)


def _flatten(_: Reader, node: NodeProto) -> Node | None:
    return Reshape(node.name, (node.input[0],), (node.output[0],))


def _slice(reader: Reader, node: NodeProto) -> Node | None:
    axes = reader.ints(node, "axes", 3)
    if axes is None:
        axes = tuple(range(reader.rank(node.input[0])))
    return _along(reader, node, axes, of=1, factors="same")


def _gather(reader: Reader, node: NodeProto) -> Node | None:
    """A lookup in a stored table, or the entry of a value at a constant place."""
    axis, table, ids = attribute(node, "axis", 0), reader.chain(node, 0), reader.chain(node, 1)
    if table is not None and ids is None and axis == 0 and len(table.shape) == 2:
        rows = stored_axis(table, 1)
        found = (node.name, (node.input[1],), (node.output[0],), table.slot.name)
        return None if rows is None else Multiply(*found, rows, None, -1, -1)
    if table is None and ids is not None and not ids.shape:
        return _along(reader, node, (axis,), drop=True, of=1, factors="same")
    return None


def _pad(reader: Reader, node: NodeProto) -> Node | None:
    pads = reader.ints(node, "pads", 1)
    if pads is None or any(node.input[3:]):
        return None
    half = len(pads) // 2
    zero = _number(reader, node, "value", 2) in (None, 0)
    mixed = [i for i in range(half) if pads[i] or pads[half + i]]
    return _along(reader, node, mixed, of=1, factors="same" if zero else "")


def _resize(reader: Reader, node: NodeProto) -> Node | None:
    if any(node.input[3:]):
        return None
    before, after = reader.values[node.input[0]], reader.values[node.output[0]]
    inside = attribute(node, "coordinate_transformation_mode") != "tf_crop_and_resize"
    mixed = [i for i in range(len(before)) if before[i] != after[i] or i > 1]
    return _along(reader, node, mixed, of=1, factors="same" if inside else "")


FIRST = (
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf",
    "Gelu", "Mish", "Softplus", "Softsign", "Exp", "Log", "Sqrt", "Neg", "Abs", "Reciprocal", "Floor", "Ceil", "Round",
    "Sign", "Sin", "Cos", "Identity", "Dropout", "Cast", "Not", "IsNaN", "Swish",
)  # fmt: skip
HOMOGENEOUS = ("Relu", "LeakyRelu", "Identity", "Dropout", "Neg", "Abs")
"""Those of FIRST for which f(s x) = s f(x), s > 0."""
SUMS = ("Add", "Sub", "Max", "Min", "Sum", "Mean")
BROADCAST = (
    "Pow", "Where", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor", "Mod",
)  # fmt: skip
LINEAR_REDUCE = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
POOLS = ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
REDUCE = (
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceLogSum", "ReduceLogSumExp",
)  # fmt: skip
HANDLERS: dict[tuple[str, str], Handler] = {
    **{("", op): _first for op in FIRST},
    **{("", op): _along for op in BROADCAST},
    **{("", op): _sum for op in SUMS},
    **{("", op): _product for op in ("Mul", "Div")},
    ("", "PRelu"): _prelu,
    **{("", op): _pool for op in POOLS},
    **{("", op): _reduce for op in REDUCE},
    **{("", op): _flatten for op in ("Flatten", "Squeeze", "Unsqueeze")},
    ("", "Clip"): _clip,
    ("", "Conv"): _conv,
    (MICROSOFT, "FusedConv"): _conv,
    ("", "ConvTranspose"): _conv_transpose,
    ("", "Gemm"): _gemm,
    ("", "MatMul"): _matmul,
    ("", "BatchNormalization"): _norm,
    ("", "InstanceNormalization"): _norm,
    ("", "LayerNormalization"): _layer_norm,
    ("", "Softmax"): _softmax,
    ("", "LogSoftmax"): _softmax,
    ("", "Concat"): _concat,
    ("", "Split"): _split,
    ("", "Transpose"): _transpose,
    ("", "Reshape"): _reshape,
    ("", "Slice"): _slice,
    ("", "Gather"): _gather,
    ("", "Pad"): _pad,
    ("", "Resize"): _resize,
    (MICROSOFT, "Gelu"): _first,
}
