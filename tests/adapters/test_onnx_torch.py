"""Each operator of the PyTorch interpreter against onnxruntime, over shapes, attributes and operator sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from attar.adapters.onnx.tensors import Store
from attar.adapters.onnx.torch import TABLE, Program
from attar.errors import ModelError

OPSET = 17
FEW = settings(max_examples=25, deadline=None)


def normal(*shape: int):
    return np.random.default_rng([7, *shape]).normal(size=shape).astype(np.float32)


def ints(*values: int):
    return np.array(values, np.int64)


def single(op: str, values: list[Any], opset: int, outputs: int, domain: str, attributes: Mapping[str, Any]):
    """A model of one node; what is None is left out, and integers are stored, as exporters do."""
    names = ["" if value is None else f"x{i}" for i, value in enumerate(values)]
    made = [f"y{i}" for i in range(outputs)]
    fed = {n: v for n, v in zip(names, values, strict=True) if n and (n == "x0" or v.dtype.kind == "f")}
    stored = [onnx.numpy_helper.from_array(v, n) for n, v in zip(names, values, strict=True) if n and n not in fed]
    graph = helper.make_graph(
        [helper.make_node(op, names, made, name="one", domain=domain, **attributes)],
        "graph",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in fed.items()],
        [helper.make_empty_tensor_value_info(name) for name in made],
        stored,
    )
    domains = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=domains, ir_version=8), fed


def by_runtime(model: Any, fed: Mapping[str, Any]):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(fed))


def agree(op: str, *values: Any, opset: int = OPSET, outputs: int = 1, domain: str = "", atol=1e-5, **attributes: Any):
    """Both compute the same outputs, of the same shape and type."""
    arrays = [None if value is None else np.asarray(value) for value in values]
    model, fed = single(op, arrays, opset, outputs, domain, attributes)
    for i, wanted in enumerate(by_runtime(model, fed)):
        found = Program(Store(model), f"y{i}", ())(fed).numpy()
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=atol)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        *((op, {}) for op in ("Abs", "Atan", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Identity", "Neg")),
        *((op, {}) for op in ("Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tanh")),
        *((op, {}) for op in ("Elu", "Selu", "Celu", "LeakyRelu", "HardSigmoid", "ThresholdedRelu", "Dropout")),
        *((op, {"alpha": 0.3}) for op in ("Elu", "Celu", "LeakyRelu", "HardSigmoid", "ThresholdedRelu")),
        ("HardSigmoid", {"beta": 0.1}),
        ("Clip", {}),
        ("Cast", {"to": onnx.TensorProto.INT32}),
        ("Cast", {"to": onnx.TensorProto.DOUBLE}),
        ("Shape", {}),
        ("Size", {}),
        ("Not", {}),
    ],
)
def test_elements(op, attributes):
    x = 2 * normal(3, 4, 5)
    agree(op, x > 0 if op == "Not" else x, **attributes)


@pytest.mark.parametrize("op", ["Sqrt", "Log"])
def test_elements_that_are_positive(op):
    agree(op, np.abs(normal(3, 4)) + 0.1)


@pytest.mark.parametrize("kind", ["none", "tanh"])
def test_gelu(kind):
    agree("Gelu", normal(3, 4), opset=20, approximate=kind)
    agree("Mish", normal(3, 4), opset=20)


@pytest.mark.parametrize("op", ["Gelu", "QuickGelu", "FastGelu", "BiasGelu"])
def test_gelus_of_microsoft(op):
    agree(op, normal(3, 4), *([normal(4)] if op == "BiasGelu" else []), domain="com.microsoft", atol=1e-4)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum", "Pow"])
@pytest.mark.parametrize("shape", [(4,), (3, 1), (2, 1, 4), ()])
def test_pairs(op, shape):
    first = normal(2, 3, 4)
    agree(op, np.abs(first) if op == "Pow" else first, normal(*shape))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Mod", "Equal", "Less", "GreaterOrEqual"])
def test_pairs_of_integers(op):
    """Division goes towards zero, and nothing is rounded through floats."""
    first = np.array([-7, 7, 2**60 + 1, -1], np.int64)
    agree(op, first, np.array([2, -2, 3, 3], np.int64))


def test_others_of_several_inputs():
    agree("PRelu", normal(2, 3, 4), normal(3, 1))
    agree("Where", normal(2, 3) > 0, normal(2, 3), normal(3))
    agree("Clip", normal(2, 9), np.float32(-0.5), np.float32(0.25))
    agree("Clip", normal(2, 9), None, np.float32(0.25))
    agree("Clip", normal(2, 9), opset=9, min=-0.25, max=0.5)
    agree("Einsum", normal(2, 3, 4), normal(4, 5), equation="bij,jk->bik")
    agree("MatMul", normal(2, 3, 4), normal(4))
    agree("Range", *(np.array(i, np.int64) for i in (2, 11, 3)))
    agree("Trilu", normal(4, 5), np.array(1, np.int64), upper=0)
    agree("CumSum", normal(4, 5), np.array(1, np.int64))
    agree("ConstantOfShape", ints(2, 3), value=onnx.numpy_helper.from_array(ints(7)))
    agree("ConstantOfShape", ints(2, 3))
    agree("Constant", value_floats=[1.0, 2.5])
    agree("Constant", value_int=3)


REDUCTIONS = ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"]


@FEW
@given(st.sampled_from(REDUCTIONS), st.lists(st.integers(-3, 2), max_size=2), st.booleans(), st.booleans())
def test_reductions(op, axes, keep, newer):
    assume(len({a % 3 for a in axes}) == len(axes))
    if newer:
        agree(f"Reduce{op}", normal(2, 3, 4), *([ints(*axes)] if axes else []), opset=18, keepdims=int(keep))
    elif op != "Sum":
        agree(f"Reduce{op}", normal(2, 3, 4), **({"axes": axes} if axes else {}), keepdims=int(keep))


def test_reduction_of_nothing_and_arguments():
    agree("ReduceSum", normal(2, 3), ints(), noop_with_empty_axes=1)
    agree("ArgMax", normal(2, 3), axis=1, keepdims=0)
    agree("ArgMin", normal(2, 3), axis=-2)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_softmax(op, opset, axis):
    agree(op, normal(2, 3, 4), opset=opset, **({} if axis is None else {"axis": axis}))


@st.composite
def windows(draw, axes=3):
    """Attributes of a window of one to three axes, and a size that it fits in."""
    rank = draw(st.integers(1, axes))
    kernel = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    strides = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    most = 1 if "SAME" in auto else 2  # the runtime refuses dilated convolutions with automatic padding
    dilations = draw(st.lists(st.integers(1, most), min_size=rank, max_size=rank))
    size = [(k - 1) * d + 1 + draw(st.integers(0, 4)) for k, d in zip(kernel, dilations, strict=True)]
    attributes = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    if auto != "NOTSET":
        return size, attributes | {"auto_pad": auto}
    return size, attributes | {"pads": [draw(st.integers(0, k - 1)) for k in [*kernel, *kernel]]}


@FEW
@given(windows(), st.integers(1, 3), st.booleans())
def test_conv(window, groups, bias):
    size, attributes = window
    weight = normal(2 * groups, 2, *attributes["kernel_shape"])
    given_bias = [normal(2 * groups)] if bias else []
    agree("Conv", normal(2, 2 * groups, *size), weight, *given_bias, group=groups, **attributes)


@settings(max_examples=60, deadline=None)
@given(windows(2), st.integers(1, 2), st.integers(0, 1), st.sampled_from(["", "output_shape"]))
def test_conv_transpose(window, groups, extra, wanted):
    size, attributes = window
    automatic = attributes.get("auto_pad", "NOTSET").startswith("SAME")
    spare = [min(extra, s - 1) for s in attributes["strides"]]
    attributes = attributes | ({"output_padding": spare} if not automatic else {})
    full = [
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(
            size, attributes["strides"], attributes["kernel_shape"], attributes["dilations"], strict=True
        )
    ]
    if automatic:
        assume(all(n * s <= f for n, s, f in zip(size, attributes["strides"], full, strict=True)))
    if wanted and not automatic:
        attributes = {k: v for k, v in attributes.items() if k not in ("pads", "output_padding", "auto_pad")}
        attributes["output_shape"] = [max(f - 1, 1) for f in full]
    weight = normal(2 * groups, 3, *attributes["kernel_shape"])
    agree("ConvTranspose", normal(2, 2 * groups, *size), weight, normal(3 * groups), group=groups, **attributes)


def can_pad(attributes):
    """The runtime refuses automatic padding of a pool that skips elements."""
    steps = zip(attributes["strides"], attributes["kernel_shape"], strict=True)
    return "SAME" not in attributes.get("auto_pad", "") or all(stride <= kernel for stride, kernel in steps)


@settings(max_examples=60, deadline=None)
@given(windows(), st.booleans())
def test_max_pool(window, up):
    size, attributes = window
    assume(can_pad(attributes))
    agree("MaxPool", normal(2, 3, *size), ceil_mode=int(up), **attributes)


def test_automatic_padding_of_a_dilated_pool():
    """The runtime pads as if it were not dilated, and so must we."""
    agree("MaxPool", normal(2, 3, 7), kernel_shape=[2], dilations=[2], auto_pad="SAME_UPPER")


@settings(max_examples=60, deadline=None)
@given(windows(), st.booleans(), st.booleans())
def test_average_pool(window, up, whole):
    size, attributes = window
    assume(can_pad(attributes))
    attributes = {name: value for name, value in attributes.items() if name != "dilations"}
    agree("AveragePool", normal(2, 3, *size), ceil_mode=int(up), count_include_pad=int(whole), **attributes)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("size", [(5,), (3, 4), (2, 3, 2)])
def test_global_pools(op, size):
    agree(op, normal(2, 3, *size))


def test_norms():
    x = normal(2, 4, 5, 3)
    agree("BatchNormalization", x, normal(4), normal(4), normal(4), np.abs(normal(4)) + 0.1, epsilon=1e-3)
    agree("InstanceNormalization", x, normal(4), normal(4))
    agree("LayerNormalization", x, normal(3), normal(3))
    agree("LayerNormalization", x, normal(5, 3), axis=-2)
    agree("LRN", x, size=3, alpha=0.1, beta=0.6, bias=1.5)
    agree("GroupNormalization", x, normal(4), normal(4), opset=21, num_groups=2)
    agree("SkipLayerNormalization", normal(2, 3, 4), normal(2, 3, 4), *[normal(4)] * 3, domain="com.microsoft")


@pytest.mark.parametrize("a", [0, 1])
@pytest.mark.parametrize("b", [0, 1])
@pytest.mark.parametrize("c", [None, (5,), (2, 1), (1, 5), ()])
def test_gemm(a, b, c):
    first, second = normal(*((3, 2) if a else (2, 3))), normal(*((5, 3) if b else (3, 5)))
    third = [] if c is None else [normal(*c)]
    agree("Gemm", first, second, *third, transA=a, transB=b, alpha=0.5, beta=0.25)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("op", "attributes"),
    [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {}), ("RNN", {"activations": "Relu"})],
)
def test_recurrences(op, attributes, direction):
    """All outputs, with biases and initial states."""
    d, gates = 1 + (direction == "bidirectional"), {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    if "activations" in attributes:
        attributes = {"activations": ["Relu"] * d}
    values = [normal(6, 2, 4), normal(d, gates * 5, 4), normal(d, gates * 5, 5), normal(d, gates * 10), None]
    values += [normal(d, 2, 5)] * (2 if op == "LSTM" else 1)
    outputs = 3 if op == "LSTM" else 2
    agree(op, *values, outputs=outputs, hidden_size=5, direction=direction, **attributes)


def test_what_is_not_in_a_table_is_named():
    model, _ = single("Det", [normal(2, 3, 3)], OPSET, 1, "", {})
    with pytest.raises(ModelError, match=r"operator Det .*--no-train"):
        Program(Store(model), "y0", ())
    model, _ = single("MaxPool", [normal(2, 3, 4)], OPSET, 2, "", {"kernel_shape": [2]})
    with pytest.raises(ModelError, match="2 outputs"):
        Program(Store(model), "y0", ())


def test_every_entry_is_a_known_operator():
    for domain, name in TABLE:
        assert domain or onnx.defs.has(name), name
