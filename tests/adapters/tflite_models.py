"""Small TFLite models, one for each kind of operator and of weight storage that the adapter maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

SAME, VALID = 0, 1
RELU, RELU_N1, RELU6, TANH = 1, 2, 3, 4
KINDS = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, np.dtype(np.int32): 2, np.dtype(np.int8): 9}


def random(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return (np.random.default_rng([seed, *shape]).normal(size=shape) * 0.5).astype(dtype)


class Graph:
    """A main graph that grows operator by operator; tensors are numbers."""

    def __init__(self, shape: Sequence[int], *, dtype: Any = np.float32, free: bool = True) -> None:
        self.codes: list[Any] = []
        self.buffers = [schema.BufferT()]
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.input = self.tensor("x", [1, *shape], dtype)
        if free:
            self.tensors[0].shapeSignature = [-1, *shape]

    def tensor(self, name: str, shape: Sequence[int], dtype: Any = np.float32, *, variable: bool = False) -> int:
        kind = KINDS[np.dtype(dtype)]
        self.tensors.append(schema.TensorT(shape=list(shape), type=kind, name=name, isVariable=variable))
        return len(self.tensors) - 1

    def stored(self, name: str, values: Any) -> int:
        values = np.asarray(values)
        index = self.tensor(name, values.shape, values.dtype)
        self.tensors[index].buffer = len(self.buffers)
        self.buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
        return index

    def op(self, kind: str, inputs: Sequence[int], shape: Sequence[int], name: str = "", **options: Any) -> int:
        """Its output of [1, *shape]; options are fields of KIND's options."""
        output = self.tensor(name or f"{kind}{len(self.operators)}", [1, *shape])
        return self.into(kind, inputs, output, **options)

    def into(self, kind: str, inputs: Sequence[int], output: int, **options: Any) -> int:
        number = getattr(schema.BuiltinOperator, kind)
        self.codes.append(schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=1))
        made = schema.OperatorT(opcodeIndex=len(self.codes) - 1, inputs=list(inputs), outputs=[output])
        if options:
            table = OPTIONS[kind]
            made.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            made.builtinOptions = getattr(schema, f"{table}T")()
            for field, value in options.items():
                setattr(made.builtinOptions, field, value)
        self.operators.append(made)
        return output

    def model(self, *outputs: int) -> bytes:
        graph = schema.SubGraphT(self.tensors, [self.input], list(outputs), self.operators, "main")
        whole = schema.ModelT(3, self.codes, [graph], "made", self.buffers)
        builder = flatbuffers.Builder(1024)
        builder.Finish(whole.Pack(builder), b"TFL3")
        return bytes(builder.Output())


OPTIONS = {
    "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions", "FULLY_CONNECTED":
    "FullyConnectedOptions", "TRANSPOSE_CONV": "TransposeConvOptions", "CONV_3D": "Conv3DOptions", "GATHER":
    "GatherOptions", "BATCH_MATMUL": "BatchMatMulOptions", "UNIDIRECTIONAL_SEQUENCE_LSTM":
    "UnidirectionalSequenceLSTMOptions", "ADD": "AddOptions", "RESHAPE": "ReshapeOptions", "MEAN": "ReducerOptions",
    "MUL": "MulOptions", "DIV": "DivOptions", "CONCATENATION": "ConcatenationOptions", "SOFTMAX": "SoftmaxOptions",
    "MAX_POOL_2D": "Pool2DOptions", "STRIDED_SLICE": "StridedSliceOptions",
}  # fmt: skip
PLAIN = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}


def dense(g: Graph, x: int, name: str, rows: int, cols: int, act: int = 0, lead: Sequence[int] = ()) -> int:
    weight, bias = g.stored(name, random(rows, cols)), g.stored(f"{name}_bias", random(rows))
    keep = bool(lead)
    return g.op("FULLY_CONNECTED", [x, weight, bias], [*lead, rows], fusedActivationFunction=act, keepNumDims=keep)


def fully_connected() -> bytes:
    g = Graph([7])
    return g.model(dense(g, dense(g, g.input, "w", 9, 7, RELU), "v", 4, 9))


def without_bias() -> bytes:
    g = Graph([7])
    y = g.op("FULLY_CONNECTED", [g.input, g.stored("w", random(5, 7)), -1], [5], fusedActivationFunction=0)
    return g.model(y)


def clipped() -> bytes:
    g = Graph([7])
    return g.model(dense(g, dense(g, g.input, "w", 9, 7, RELU_N1), "v", 4, 9))


def by_position() -> bytes:
    """A dense layer at each of three positions."""
    g = Graph([3, 5])
    return g.model(dense(g, g.input, "w", 6, 5, RELU, lead=[3]))


def conv() -> bytes:
    g = Graph([8, 9, 3])
    y = g.op("CONV_2D", [g.input, g.stored("w", random(5, 3, 2, 3)), g.stored("b", random(5))], [4, 5, 5],
             fusedActivationFunction=RELU6, padding=SAME, **{**PLAIN, "strideW": 2, "strideH": 2})  # fmt: skip
    return g.model(y)


def conv_dilated() -> bytes:
    g = Graph([9, 9, 2])
    y = g.op("CONV_2D", [g.input, g.stored("w", random(4, 3, 3, 2)), g.stored("b", random(4))], [5, 5, 4],
             padding=VALID, strideW=1, strideH=1, dilationWFactor=2, dilationHFactor=2)  # fmt: skip
    return g.model(y)


def conv_grouped() -> bytes:
    g = Graph([6, 6, 4])
    y = g.op("CONV_2D", [g.input, g.stored("w", random(6, 3, 3, 2)), g.stored("b", random(6))], [6, 6, 6],
             fusedActivationFunction=RELU, padding=SAME, **PLAIN)  # fmt: skip
    return g.model(y)


def depthwise() -> bytes:
    """Two outputs for each channel."""
    g = Graph([6, 7, 3])
    y = g.op("DEPTHWISE_CONV_2D", [g.input, g.stored("w", random(1, 3, 3, 6)), g.stored("b", random(6))], [6, 7, 6],
             padding=SAME, depthMultiplier=2, fusedActivationFunction=RELU, **PLAIN)  # fmt: skip
    return g.model(y)


def conv_3d() -> bytes:
    g = Graph([4, 5, 6, 2])
    y = g.op("CONV_3D", [g.input, g.stored("w", random(2, 2, 3, 2, 3)), g.stored("b", random(3))], [4, 5, 6, 3],
             padding=SAME, strideD=1, **PLAIN, dilationDFactor=1)  # fmt: skip
    return g.model(y)


def conv_transpose() -> bytes:
    g = Graph([4, 5, 3], free=False)
    shape = g.stored("shape", np.array([1, 8, 10, 4], np.int32))
    y = g.op("TRANSPOSE_CONV", [shape, g.stored("w", random(4, 2, 3, 3)), g.input], [8, 10, 4],
             padding=SAME, strideW=2, strideH=2)  # fmt: skip
    return g.model(y)


def widened(g: Graph, name: str, values: np.ndarray) -> int:
    """Stored in float16, read through DEQUANTIZE."""
    wide = g.tensor(f"{name}_wide", values.shape)
    return g.into("DEQUANTIZE", [g.stored(name, values.astype(np.float16))], wide)


def half() -> bytes:
    """As face detectors come: every value in float16, and the examples' number written into a RESHAPE."""
    g = Graph([8, 8, 2], free=False)
    x = g.op("CONV_2D", [g.input, widened(g, "w", random(4, 3, 3, 2)), widened(g, "b", random(4))], [8, 8, 4],
             padding=SAME, fusedActivationFunction=RELU, **PLAIN)  # fmt: skip
    x = g.op("CONV_2D", [x, widened(g, "v", random(3, 1, 1, 4)), widened(g, "c", random(3))], [8, 8, 3],
             padding=SAME, **PLAIN)  # fmt: skip
    shape = np.array([1, 64, 3], np.int32)
    return g.model(g.op("RESHAPE", [x, g.stored("to", shape)], [64, 3], newShape=shape.tolist()))


def used_twice() -> bytes:
    """One kernel and one bias in two operators, as in a pyramid."""
    g = Graph([8, 8, 3])
    w, b = g.stored("w", random(3, 3, 3, 3)), g.stored("b", random(3))
    x = g.op("CONV_2D", [g.input, w, b], [8, 8, 3], padding=SAME, fusedActivationFunction=RELU, **PLAIN)
    return g.model(g.op("CONV_2D", [x, w, b], [8, 8, 3], padding=SAME, **PLAIN))


def gather() -> bytes:
    g = Graph([6], dtype=np.int32)
    x = g.op("GATHER", [g.stored("table", random(11, 5)), g.input], [6, 5], axis=0)
    return g.model(dense(g, x, "w", 4, 5, lead=[6]))


def matmul() -> bytes:
    g = Graph([3, 5])
    return g.model(g.op("BATCH_MATMUL", [g.input, g.stored("w", random(1, 5, 7))], [3, 7], adjX=False, adjY=False))


def scaled() -> bytes:
    """A product with a stored vector and a sum: the remainder."""
    g = Graph([7])
    x = dense(g, g.input, "w", 20, 7, RELU)
    x = g.op("MUL", [x, g.stored("gain", random(1, 20))], [20], fusedActivationFunction=0)
    return g.model(dense(g, x, "v", 3, 20))


def lstm() -> bytes:
    g, hidden, wide = Graph([6, 5], free=False), 4, 5
    kernels = [g.stored(f"input{k}", random(hidden, wide, seed=k)) for k in range(4)]
    states = [g.stored(f"state{k}", random(hidden, hidden, seed=k)) for k in range(4)]
    biases = [g.stored(f"bias{k}", random(hidden, seed=k)) for k in range(4)]
    kept = [g.tensor(f"kept{k}", [1, hidden], variable=True) for k in range(2)]
    inputs = [g.input, *kernels, *states, -1, -1, -1, *biases, -1, -1, *kept, -1, -1, -1, -1]
    y = g.op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [6, hidden], fusedActivationFunction=TANH)
    return g.model(y)


MODELS: dict[str, Callable[[], bytes]] = {
    make.__name__: make
    for make in (
        fully_connected, without_bias, clipped, by_position, conv, conv_dilated, conv_grouped, depthwise, conv_3d,
        conv_transpose, half, used_twice, gather, matmul, scaled, lstm,
    )
}  # fmt: skip


def sizes(model: bytes) -> tuple[list[int], Any]:
    """Shape of an example, and its type."""
    graph = schema.ModelT.InitFromPackedBuf(model).subgraphs[0]
    given = graph.tensors[graph.inputs[0]]
    kind = next(dtype for dtype, number in KINDS.items() if number == given.type)
    return [int(size) for size in given.shape[1:]], kind
