"""Small ONNX models, one for each kind of operator and of weight storage that the adapter maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSET = 17
FLOAT = TensorProto.FLOAT


def random(*shape: int, seed: int = 0, dtype=np.float32):
    return (np.random.default_rng([seed, *shape]).normal(size=shape) * 0.5).astype(dtype)


def tensor(values, name: str):
    values = np.asarray(values)
    if values.dtype == ml_dtypes.bfloat16:
        return TensorProto(
            name=name, data_type=TensorProto.BFLOAT16, dims=values.shape, raw_data=values.view(np.uint16).tobytes()
        )
    return numpy_helper.from_array(values, name)


def model(
    nodes: Sequence[NodeProto],
    weights: dict,
    x: Sequence,
    *,
    kind: int = FLOAT,
    y_kind: int | None = None,
    y: str = "y",
    opset: int = OPSET,
    microsoft: bool = False,
    inputs: Sequence | None = None,
) -> ModelProto:
    """A graph with one input "x" of shape ["n", *x] and one output."""
    given = inputs or [helper.make_tensor_value_info("x", kind, ["n", *x])]
    graph = helper.make_graph(
        list(nodes),
        "graph",
        given,
        [helper.make_tensor_value_info(y, y_kind or (kind if kind != TensorProto.INT64 else FLOAT), None)],
        [tensor(values, name) for name, values in weights.items()],
    )
    domains = [helper.make_opsetid("", opset)] + ([helper.make_opsetid("com.microsoft", 1)] if microsoft else [])
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def node(op, inputs, outputs="y", **attributes):
    given = inputs.split() if isinstance(inputs, str) else inputs
    made = outputs.split() if isinstance(outputs, str) else outputs
    return helper.make_node(op, ["" if i == "_" else i for i in given], made, name=f"{op}_{made[0]}", **attributes)


def batch_norm(channels, seed=5):
    return {
        "gamma": random(channels, seed=seed) + 1,
        "beta": random(channels, seed=seed + 1),
        "mean": random(channels, seed=seed + 2),
        "var": np.abs(random(channels, seed=seed + 3)) + 0.3,
    }


def matmul():
    return model([node("MatMul", "x w", "h"), node("Add", "h b", "y")], {"w": random(5, 7), "b": random(7)}, [3, 5])


def matmul_add_then_relu_gemm():
    nodes = [
        node("MatMul", "x w", "h"),
        node("Add", "b h", "s"),
        node("Relu", "s", "r"),
        node("Gemm", "r v c", "y", transB=1),
    ]
    return model(nodes, {"w": random(6, 8), "b": random(1, 8), "v": random(4, 8), "c": random(4)}, [6])


def matmul_left():
    return model([node("MatMul", "w x", "h"), node("Add", "h b", "y")], {"w": random(6, 4), "b": random(6, 1)}, [4, 3])


def matmul_stack():
    return model([node("MatMul", "x w", "h"), node("Relu", "h", "y")], {"w": random(3, 4, 5)}, [3, 2, 4])


def matmul_single():
    """A stack of one matrix, which any activation of as many axes is multiplied with."""
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "v r", "y")]
    return model(nodes, {"w": random(1, 4, 5), "v": random(1, 6, 3)}, [3, 4])


def matmul_broadcast():
    """A stack that the activation is broadcast over: no matrix product; and one layer that is."""
    nodes = [node("MatMul", "x w", "h"), node("MatMul", "h v", "y")]
    return model(nodes, {"w": random(3, 4, 5), "v": random(5, 6)}, [1, 2, 4])


def matmul_folded_batch():
    nodes = [node("Reshape", "x shape", "flat"), node("MatMul", "flat w", "h"), node("Reshape", "h back", "y")]
    weights = {"w": random(4, 6), "shape": np.array([-1, 4]), "back": np.array([-1, 3, 6])}
    return model(nodes, weights, [3, 4])


def gemm(trans_a=0, trans_b=0, alpha=1.0, beta=1.0):
    w = random(*((7, 5) if trans_b else (5, 7)))
    nodes = [node("Gemm", "a w c", "y", transA=0, transB=trans_b, alpha=alpha, beta=beta)]
    if trans_a:
        nodes = [
            node("Transpose", "x", "t"),
            node("Gemm", "t w c", "y", transA=1, transB=trans_b, alpha=alpha, beta=beta),
        ]
    else:
        nodes.insert(0, node("Identity", "x", "a"))
    return model(nodes, {"w": w, "c": random(7)}, [5])


def gemm_constant_first():
    nodes = [node("Gemm", "w x c", "h", transB=1), node("Transpose", "h", "y")]
    return model(nodes, {"w": random(7, 5), "c": random(7, 1)}, [5])


def gemm_norm():
    nodes = [node("Gemm", "x w c", "h"), node("BatchNormalization", "h gamma beta mean var", "y")]
    return model(nodes, {"w": random(5, 7), "c": random(7), **batch_norm(7)}, [5])


def conv(shape=(6, 4, 3, 3), size=(4, 7, 8), bias=True, **attributes):
    weights = {"w": random(*shape)} | ({"b": random(shape[0])} if bias else {})
    return model([node("Conv", "x w b" if bias else "x w", "y", **attributes)], weights, size)


def conv_norm(bias=True, relu=True):
    nodes = [
        node("Conv", "x w b" if bias else "x w", "h", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "h gamma beta mean var", "s", epsilon=1e-3),
        node("Relu", "s", "r"),
        node("GlobalAveragePool", "r", "y"),
    ]
    weights = {"w": random(6, 3, 3, 3), **batch_norm(6)} | ({"b": random(6)} if bias else {})
    return model(nodes, weights, [3, 6, 6])


def conv_add():
    nodes = [node("Conv", "x w", "h"), node("Add", "h b", "y")]
    return model(nodes, {"w": random(6, 3, 3, 3), "b": random(1, 6, 1, 1)}, [3, 6, 6])


def conv_large():
    """More positions than are sampled."""
    return conv((4, 2, 3, 3), (2, 14, 13), pads=[1, 1, 1, 1])


def conv_transpose(shape=(4, 3, 3, 3), size=(4, 5, 6), **attributes):
    groups = attributes.get("group", 1)
    return model(
        [node("ConvTranspose", "x w b", "y", **attributes)], {"w": random(*shape), "b": random(shape[1] * groups)}, size
    )


def embedding():
    nodes = [
        node("Gather", "table x", "e"),
        node("ReduceMean", "e", "m", axes=[1], keepdims=0),
        node("MatMul", "m w", "y"),
    ]
    return model(nodes, {"table": random(11, 6), "w": random(6, 4)}, [5], kind=TensorProto.INT64)


def tied_embedding():
    nodes = [node("Gather", "table x", "e"), node("Transpose", "table", "t"), node("MatMul", "e t", "y")]
    return model(nodes, {"table": random(11, 6)}, [5], kind=TensorProto.INT64)


def tied_dense():
    nodes = [node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("Gemm", "r w c", "y")]
    return model(nodes, {"w": random(6, 6), "b": random(6), "c": random(6, seed=1)}, [6])


def tied_transposed():
    """A square weight that is used as it is and transposed: its inputs are two different things."""
    nodes = [
        node("MatMul", "x w", "h"),
        node("Relu", "h", "r"),
        node("Transpose", "w", "t"),
        node("MatMul", "r t", "y"),
    ]
    return model(nodes, {"w": random(6, 6)}, [6])


def recurrent(op="LSTM", direction="forward", initial=False, named=True, **attributes):
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    d = 2 if direction == "bidirectional" else 1
    weights = {"w": random(d, gates * 5, 4), "r": random(d, gates * 5, 5), "b": random(d, gates * 10)}
    inputs = ["xt", "w", "r", "b"]
    if initial:
        weights["h0"] = random(d, 3, 5)
        inputs += ["", "h0"]
    outputs = ["seq", "last"] if named else ["", "last"]
    nodes = [
        node("Transpose", "x", "xt", perm=[1, 0, 2]),
        helper.make_node(op, inputs, outputs, name="rnn", hidden_size=5, direction=direction, **attributes),
        node("Transpose", "last", "y", perm=[1, 0, 2]),
    ]
    size = [helper.make_tensor_value_info("x", FLOAT, [3 if initial else "n", 6, 4])]
    return model(nodes, weights, [], inputs=size)


def stateful():
    """One step of a GRU whose state comes from outside, with the examples on the state's second axis."""
    nodes = [
        node("Mul", "x gain", "scaled"),
        node("Unsqueeze", "scaled axis", "xt"),
        helper.make_node("GRU", ["xt", "w", "r", "", "", "state"], ["", "next"], name="rnn", hidden_size=5),
        node("Gather", "next first", "last", axis=0),
        node("MatMul", "last v", "y"),
    ]
    weights = {"w": random(1, 15, 4), "r": random(1, 15, 5), "v": random(5, 4)}
    weights |= {"axis": np.array([0]), "first": np.array(0)}
    sizes = {"x": ["n", 4], "state": [1, "n", 5], "gain": []}
    given = [helper.make_tensor_value_info(name, FLOAT, size) for name, size in sizes.items()]
    return model(nodes, weights, [], inputs=given)


def sliced_gates():
    """The gates of an LSTM put in order in the graph, as PyTorch exports a scripted one, for two uses of one weight."""
    nodes = [node("Transpose", "x", "xt", perm=[1, 0, 2])]
    weights = {"r0": random(20, 5), "w0": random(20, 4), "axis": np.array([0])}
    weights |= {f"at{i}": np.array([5 * i]) for i in range(5)}
    for use in "ab":
        for w in "wr":
            nodes += [node("Slice", f"{w}0 at{g} at{g + 1} axis", f"{w}{use}{g}") for g in range(4)]
            nodes += [node("Concat", " ".join(f"{w}{use}{g}" for g in (0, 3, 1, 2)), f"{w}{use}c", axis=0)]
            nodes += [node("Unsqueeze", f"{w}{use}c axis", f"{w}{use}")]
        nodes += [helper.make_node("LSTM", ["xt", f"w{use}", f"r{use}"], ["", f"h{use}"], name=use, hidden_size=5)]
    nodes += [node("Add", "ha hb", "h"), node("Transpose", "h", "y", perm=[1, 0, 2])]
    return model(nodes, weights, [6, 4])


def time_major():
    """A dense layer whose batch is the second axis."""
    nodes = [node("Transpose", "x", "t", perm=[1, 0, 2]), node("MatMul", "t w", "h"), node("Add", "h b", "s")]
    nodes += [node("Transpose", "s", "y", perm=[1, 0, 2])]
    return model(nodes, {"w": random(4, 6), "b": random(6)}, [7, 4])


def attention():
    nodes = [helper.make_node("Attention", ["x", "w", "b"], ["y"], name="att", domain="com.microsoft", num_heads=2)]
    return model(nodes, {"w": random(8, 24), "b": random(24)}, [5, 8], microsoft=True)


def embed_layer_norm():
    names = ["x", "segments", "word", "place", "part", "gain", "shift"]
    nodes = [
        node("Cast", "x", "ids", to=TensorProto.INT32),
        node("Mul", "ids zero", "segments"),
        helper.make_node(
            "EmbedLayerNormalization", ["ids", *names[1:]], ["h", "mask"], name="embed", domain="com.microsoft"
        ),
        node("MatMul", "h w", "y"),
    ]
    weights = {"zero": np.zeros(1, np.int32), "word": random(11, 8), "place": random(5, 8), "part": random(2, 8)}
    weights |= {"gain": random(8) + 1, "shift": random(8), "w": random(8, 4)}
    return model(nodes, weights, [5], kind=TensorProto.INT64, microsoft=True)


def positions():
    """A second table that is looked up by stored ids."""
    nodes = [
        node("Gather", "words x", "a"),
        node("Gather", "places ids", "b"),
        node("Add", "a b", "s"),
        node("MatMul", "s w", "y"),
    ]
    weights = {"words": random(11, 6), "places": random(7, 6), "ids": np.arange(5), "w": random(6, 4)}
    return model(nodes, weights, [5], kind=TensorProto.INT64)


def listed_inputs():
    """Weights that are graph inputs too, as before IR version 4."""
    made = gemm()
    for tensor_ in made.graph.initializer:
        made.graph.input.append(helper.make_tensor_value_info(tensor_.name, FLOAT, list(tensor_.dims)))
    made.ir_version = 3
    return made


def in_function():
    """A weight inside a function of the model: kept, but no layer."""
    made = matmul()
    inner = [node("Constant", [], "k", value=tensor(random(7, 20), "")), node("MatMul", "a k", "r")]
    made.functions.append(helper.make_function("local", "Last", ["a"], ["r"], inner, [helper.make_opsetid("", OPSET)]))
    made.opset_import.append(helper.make_opsetid("local", 1))
    made.graph.node[1].output[0] = "z"
    made.graph.node.append(helper.make_node("Last", ["z"], ["y"], domain="local"))
    return made


def fused_matmul():
    nodes = [
        helper.make_node("FusedMatMul", ["x", "w"], ["y"], name="f", domain="com.microsoft", transB=1, alpha=0.5)
    ]  # fmt: skip
    return model(nodes, {"w": random(6, 5)}, [3, 5], microsoft=True)


def fused_conv():
    nodes = [helper.make_node("FusedConv", ["x", "w", "b"], ["y"], name="f", domain="com.microsoft", activation="Relu")]
    return model(nodes, {"w": random(6, 3, 3, 3), "b": random(6)}, [3, 6, 6], microsoft=True)


def einsum(equation="nsd,dhk->nshk", shape=(6, 2, 4), size=(5, 6), first=False):
    return model([node("Einsum", "w x" if first else "x w", "y", equation=equation)], {"w": random(*shape)}, size)


def constants():
    """Weights in Constant nodes, behind Identity and Reshape, as PaddlePaddle's exporter leaves them."""
    nodes = [
        node("Constant", [], "w0", value=tensor(random(30), "anything")),
        node("Constant", [], "shape", value=tensor(np.array([5, 6]), "")),
        node("Reshape", "w0 shape", "w1"),
        node("Identity", "w1", "w"),
        node("Constant", [], "b", value=tensor(random(6), "")),
        node("MatMul", "x w", "h"),
        node("Add", "h b", "y"),
    ]
    return model(nodes, {}, [5])


def transposed():
    nodes = [
        node("Transpose", "w0", "w", perm=[1, 0]),
        node("Unsqueeze", "b0 axis", "b"),
        node("MatMul", "x w", "h"),
        node("Add", "h b", "y"),
    ]
    return model(nodes, {"w0": random(6, 5), "b0": random(6), "axis": np.array([0])}, [5])


def half_weights():
    """float16 in the file, float32 in the graph."""
    nodes = [node("Cast", "w0", "w", to=FLOAT), node("MatMul", "x w", "y")]
    return model(nodes, {"w0": random(5, 6, dtype=np.float16)}, [5])


def half():
    nodes = [node("MatMul", "x w", "h"), node("Add", "h b", "y")]
    return model(
        nodes, {"w": random(5, 6, dtype=np.float16), "b": random(6, dtype=np.float16)}, [5], kind=TensorProto.FLOAT16
    )


def brain():
    """bfloat16 in the file."""
    nodes = [node("Cast", "w0", "w", to=FLOAT), node("MatMul", "x w", "y")]
    return model(nodes, {"w0": random(5, 6).astype(ml_dtypes.bfloat16)}, [5])


def double():
    nodes = [node("MatMul", "x w", "h"), node("Add", "h b", "y")]
    return model(
        nodes, {"w": random(5, 6, dtype=np.float64), "b": random(6, dtype=np.float64)}, [5], kind=TensorProto.DOUBLE
    )


def dequantized():
    """Integers per channel behind DequantizeLinear and Transpose."""
    nodes = [
        node("DequantizeLinear", "q scale zero", "d", axis=0),
        node("Transpose", "d", "w"),
        node("MatMul", "x w", "y"),
    ]
    q = np.random.default_rng(3).integers(-127, 127, (6, 5)).astype(np.int8)
    scale = (np.abs(random(6)) / 50 + 0.01).astype(np.float32)
    return model(nodes, {"q": q, "scale": scale, "zero": np.arange(6, dtype=np.int8)}, [5])


def weight_norm():
    """g * v / |v|, left in the graph, and a bias that is a sum."""
    nodes = [
        node("ReduceL2", "v", "length", axes=[1, 2, 3], keepdims=1),
        node("Div", "v length", "unit"),
        node("Mul", "unit g", "w"),
        node("Add", "b0 b0", "b"),
        node("Conv", "x w b", "y"),
    ]
    return model(nodes, {"v": random(16, 3, 3, 3), "g": random(16, 1, 1, 1), "b0": random(16)}, [3, 5, 5])


def fake_quantised():
    """A float weight rounded in the graph, as quantisation-aware training leaves it."""
    nodes = [
        node("QuantizeLinear", "w0 scale zero", "q", axis=1),
        node("DequantizeLinear", "q scale zero", "w", axis=1),
        node("MatMul", "x w", "y"),
    ]
    weights = {"w0": random(5, 6), "scale": np.full(6, 0.01, np.float32), "zero": np.zeros(6, np.int8)}
    return model(nodes, weights, [5])


def branches():
    """Weights inside both bodies of an If, and one outside that a body uses."""
    bodies = []
    for seed, name in enumerate(("then", "else")):
        weights = [tensor(random(5, 5, seed=seed), "inner"), tensor(random(5, seed=seed), "bias")]
        nodes = [node("MatMul", "h inner", f"{name}_m"), node("Add", f"{name}_m bias", f"{name}_y")]
        if name == "else":
            nodes.append(node("MatMul", f"{name}_y shared", "else_z"))
        out = "then_y" if name == "then" else "else_z"
        bodies.append(
            helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(out, FLOAT, ["n", 5])], weights)
        )
    nodes = [
        node("MatMul", "x w", "h"),
        node("ReduceMax", "x", "m", keepdims=0),
        node("Cast", "m", "c", to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], name="branch", then_branch=bodies[0], else_branch=bodies[1]),
    ]
    return model(nodes, {"w": random(4, 5), "shared": random(5, 5, seed=9)}, [4])


def fixed_batch():
    nodes = [node("Conv", "x w b", "h"), node("Flatten", "h", "f"), node("Gemm", "f v c", "y")]
    weights = {"w": random(4, 2, 3, 3), "b": random(4), "v": random(16, 3), "c": random(3)}
    return model(nodes, weights, [], inputs=[helper.make_tensor_value_info("x", FLOAT, [2, 2, 4, 4])])


MODELS: dict[str, Callable[[], ModelProto]] = {
    "matmul": matmul,
    "matmul_gemm": matmul_add_then_relu_gemm,
    "matmul_left": matmul_left,
    "matmul_stack": matmul_stack,
    "matmul_single": matmul_single,
    "matmul_broadcast": matmul_broadcast,
    "matmul_folded_batch": matmul_folded_batch,
    "gemm": gemm,
    "gemm_trans": lambda: gemm(1, 1),
    "gemm_alpha": lambda: gemm(0, 1, alpha=0.5, beta=2.0),
    "gemm_constant_first": gemm_constant_first,
    "gemm_norm": gemm_norm,
    "conv1d": lambda: conv((6, 4, 3), (4, 9), strides=[2]),
    "conv2d": lambda: conv(pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2]),
    "conv3d": lambda: conv((4, 2, 2, 2, 2), (2, 4, 5, 3)),
    "conv_no_bias": lambda: conv(bias=False),
    "conv_grouped": lambda: conv((6, 2, 3, 3), group=2),
    "conv_depthwise": lambda: conv((4, 1, 3, 3), group=4, auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv_same_lower": lambda: conv((6, 4, 2, 3), auto_pad="SAME_LOWER", strides=[2, 1]),
    "conv_valid": lambda: conv(auto_pad="VALID"),
    "conv_norm": conv_norm,
    "conv_norm_no_bias": lambda: conv_norm(bias=False),
    "conv_add": conv_add,
    "conv_large": conv_large,
    "conv_transpose": lambda: conv_transpose(strides=[2, 1], pads=[1, 0, 0, 1]),
    "conv_transpose_grouped": lambda: conv_transpose((4, 3, 3, 2), group=2, dilations=[1, 2]),
    "embedding": embedding,
    "tied_embedding": tied_embedding,
    "tied_dense": tied_dense,
    "tied_transposed": tied_transposed,
    "lstm": recurrent,
    "lstm_bidirectional": lambda: recurrent(direction="bidirectional", named=False),
    "lstm_initial": lambda: recurrent(initial=True),
    "gru_reverse": lambda: recurrent("GRU", "reverse", linear_before_reset=1),
    "rnn": lambda: recurrent("RNN"),
    "sliced_gates": sliced_gates,
    "time_major": time_major,
    "attention": attention,
    "embed_layer_norm": embed_layer_norm,
    "positions": positions,
    "listed_inputs": listed_inputs,
    "in_function": in_function,
    "gru": lambda: recurrent("GRU", initial=True),
    "fused_matmul": fused_matmul,
    "fused_conv": fused_conv,
    "einsum": einsum,
    "einsum_grouped": lambda: einsum("nhd,hdk->nhk", (3, 5, 4), (3, 5)),
    "einsum_ellipsis": lambda: einsum("oi,...i->...o", (6, 5), (3, 5), first=True),
    "constants": constants,
    "transposed": transposed,
    "half_weights": half_weights,
    "half": half,
    "brain": brain,
    "double": double,
    "dequantized": dequantized,
    "weight_norm": weight_norm,
    "fake_quantised": fake_quantised,
    "branches": branches,
    "fixed_batch": fixed_batch,
}
