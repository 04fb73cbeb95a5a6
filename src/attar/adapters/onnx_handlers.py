"""ONNX operators in the words of `attar.structure.graph`: one short handler for each kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx import NodeProto

from attar.adapters.onnx_graph import Chain, attribute, is_op
from attar.adapters.onnx_reader import Reader, resolve_in, stored_axis
from attar.structure.graph import Along, Contract, Join, Multiply, Node, Part, Permute, Reshape, Vector

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
    return _multiply(node, weight, (0, 1, 1), vectors, groups=groups, window=True)


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
    reader: Reader, node: NodeProto, mixed: Sequence[int] = (), *, drop: bool = False, of: int = 99
) -> Node | None:
    """Position by position over the first `of` inputs, of which stored ones are broadcast."""
    names = [name for name in node.input[:of] if reader.computed(name)]
    ndim = max(reader.rank(name) for name in names)
    vectors = []
    for place, name in enumerate(node.input[:of]):
        chain = reader.chain(node, place)
        if name and chain is not None:
            if len(chain.shape) > ndim or (vector := reader.vector(chain, ndim)) is None:
                return None
            vectors.append(vector)
    return Along(node.name, tuple(names), (node.output[0],), tuple(vectors), tuple(mixed), drop)


def _first(reader: Reader, node: NodeProto) -> Node | None:
    """An activation: the other inputs are numbers."""
    return _along(reader, node, of=1)


def _clip(reader: Reader, node: NodeProto) -> Node | None:
    return (
        _first(reader, node) if all(c is None or not c.shape for c in map(resolve_in(reader), node.input[1:])) else None
    )


def _norm(reader: Reader, node: NodeProto) -> Node | None:
    """Batch and instance norm: one entry of each input for each channel."""
    if any(node.output[1:]):
        return None
    ndim = reader.rank(node.input[0])
    chains = [reader.chain(node, place) for place in range(1, len(node.input))]
    vectors = [None if chain is None else reader.vector(chain, ndim, 1) for chain in chains]
    known = tuple(vector for vector in vectors if vector is not None)
    return Along(node.name, (node.input[0],), (node.output[0],), known) if len(known) == len(vectors) else None


def _pool(reader: Reader, node: NodeProto) -> Node | None:
    if any(node.output[1:]):
        return None
    return _along(reader, node, range(2, reader.rank(node.input[0])), of=1)


def _softmax(reader: Reader, node: NodeProto) -> Node | None:
    return _along(reader, node, (attribute(node, "axis", -1),), of=1)


def _layer_norm(reader: Reader, node: NodeProto) -> Node | None:
    ndim = reader.rank(node.input[0])
    return _along(reader, node, range(attribute(node, "axis", -1) % ndim, ndim))


def _reduce(reader: Reader, node: NodeProto) -> Node | None:
    ndim, axes = reader.rank(node.input[0]), reader.ints(node, "axes", 1)
    if axes is None:
        axes = () if attribute(node, "noop_with_empty_axes", 0) else tuple(range(ndim))
        if any(node.input[1:]):
            return None
    return _along(reader, node, axes, drop=not attribute(node, "keepdims", 1), of=1)


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
    return _along(reader, node, axes, of=1)


def _gather(reader: Reader, node: NodeProto) -> Node | None:
    """A lookup in a stored table, or the entry of a value at a constant place."""
    axis, table, ids = attribute(node, "axis", 0), reader.chain(node, 0), reader.chain(node, 1)
    if table is not None and ids is None and axis == 0 and len(table.shape) == 2:
        rows = stored_axis(table, 1)
        found = (node.name, (node.input[1],), (node.output[0],), table.slot.name)
        return None if rows is None else Multiply(*found, rows, None, -1, -1)
    if table is None and ids is not None and not ids.shape:
        return _along(reader, node, (axis,), drop=True, of=1)
    return None


def _pad(reader: Reader, node: NodeProto) -> Node | None:
    pads = reader.ints(node, "pads", 1)
    if pads is None or any(node.input[3:]):
        return None
    half = len(pads) // 2
    return _along(reader, node, [i for i in range(half) if pads[i] or pads[half + i]], of=1)


def _resize(reader: Reader, node: NodeProto) -> Node | None:
    if any(node.input[3:]):
        return None
    before, after = reader.values[node.input[0]], reader.values[node.output[0]]
    return _along(reader, node, [i for i in range(len(before)) if before[i] != after[i] or i > 1], of=1)


FIRST = (
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf",
    "Gelu", "Mish", "Softplus", "Softsign", "Exp", "Log", "Sqrt", "Neg", "Abs", "Reciprocal", "Floor", "Ceil", "Round",
    "Sign", "Sin", "Cos", "Identity", "Dropout", "Cast", "Not", "IsNaN", "Swish",
)  # fmt: skip
BROADCAST = (
    "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "PRelu", "Where", "Equal", "Greater", "Less",
    "GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor", "Mod",
)  # fmt: skip
POOLS = ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
REDUCE = (
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceLogSum", "ReduceLogSumExp",
)  # fmt: skip
HANDLERS: dict[tuple[str, str], Handler] = {
    **{("", op): _first for op in FIRST},
    **{("", op): _along for op in BROADCAST},
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
